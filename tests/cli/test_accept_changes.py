"""Commands that use a run say what has changed since, and go on with --accept-changes alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tui_lab.cli.main import main
from tui_lab.core.errors import LabError
from tui_lab.evaluation.evaluate import evaluate
from tui_lab.evaluation.records import EvaluationRequest, SweepRequest
from tui_lab.evaluation.strength_sweep import handle as sweep
from tui_lab.export.job import handle as export
from tui_lab.export.records import ExportRequest
from tui_lab.playground.messages import LoadRequest
from tui_lab.playground.worker import Worker
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder, inputs
from tui_lab.runs.events import EventWriter

SENTENCE = "has other weights than those that the adapter was trained on"


@pytest.fixture
def run(runs_dir: Path, tmp_path: Path) -> folder.Run:
    """A run whose base has changed since its adapter was saved."""
    base = Path(shutil.copytree(MODEL_DIR, tmp_path / "base"))
    made = folder.create(Recipe(model=str(base), data="pirate"), runs_dir, "changed")
    before = inputs.current_inputs(made.recipe())
    EventWriter(made.events_path).write(before)
    made.adapter_path.mkdir()
    (made.adapter_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"lora_A": torch.ones(2, 2)}, made.adapter_path / "adapter_model.safetensors")
    inputs.write_card(made.adapter_path, made.id, made.recipe(), before)
    tensors = load_file(base / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] + 1
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    return made


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "--adapter", "changed", "--prompt", "Hi"],
        ["generate", "--model", "changed", "--prompt", "Hi"],
        ["retention", "--adapter", "changed", "--limit", "1"],
        ["report", "changed"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_command_says_what_has_changed(
    words: list[str], run: folder.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert SENTENCE in error and "--accept-changes" in error and "Traceback" not in error


def test_resume_says_what_has_changed_before_it_starts(
    run: folder.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", "changed"]) == 2
    assert "the weights of the base model base have changed since" in capsys.readouterr().err
    assert not run.log_path.exists()


def test_jobs_and_the_playground_say_what_has_changed(run: folder.Run) -> None:
    worker = Worker()
    for call in (
        lambda: evaluate(EvaluationRequest(suites=("everyday",), run=run.id, limit=1)),
        lambda: export(ExportRequest(run=run.id, kind="adapter"), lambda _text: None),
        lambda: sweep(SweepRequest(run=run.id), lambda *_: None),
        lambda: worker.load(LoadRequest(run.id), lambda _text: None),
    ):
        with pytest.raises(LabError, match=SENTENCE):
            call()


def test_a_report_is_written_where_the_change_is_accepted(
    run: folder.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "changed", "--accept-changes"]) == 0
    assert SENTENCE in capsys.readouterr().err
    assert (run.path / "report.md").is_file()
