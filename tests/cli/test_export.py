"""``tui-lab export``: sentences for people, one object for programs, refusals as one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModelForCausalLM

from tests.decoding.test_adapters import adapter_folder
from tests.export.conftest import check_here
from tui_lab.cli import jobs, main, model_commands, options
from tui_lab.core import records
from tui_lab.export import compare, job
from tui_lab.export import records as exports
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder

pytestmark = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").is_file(), reason="the bundled model is not built yet"
)


@pytest.fixture
def run(runs_dir: Path, tmp_path: Path) -> folder.Run:
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32", use_safetensors=True)
    config = peft.IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
    )
    adapter = adapter_folder(model, config, tmp_path / "adapter", seed=2)
    made = folder.create(build({"model": "pocket", "data": "support", "method": "ia3"}), name="scaled")
    shutil.copytree(adapter, made.adapter_path)
    return made


def run_here(module: str, request: exports.ExportRequest, answer: Any) -> Any:
    """The job in this process."""
    return job.handle(request, lambda *_: None)


def result_of(fields: dict[str, Any]) -> exports.ExportResult:
    return records.from_plain(fields, exports.ExportResult, "the result")


def test_a_merged_model_for_people_and_its_file_for_programs(
    run: folder.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as here:  # the job and its check in this process: quicker
        here.setattr(compare, "run_check", check_here)
        here.setattr(jobs, "run_job", run_here)
        assert main.main(["export", "latest", "--as", "merged", "--dtype", "float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = run.path / "exports" / "merged"
    assert lines[0].startswith(f"merged model (float32) of {run.id} written to {place} (")
    kept = json.loads((place / "export.json").read_text())
    assert lines[1:] == exports.sentences(result_of({**kept, "path": str(place)}))[1:]
    assert sum(line.startswith("checked: ") for line in lines) == len(kept["checks"]) >= 6
    # a second time the job itself refuses, in one sentence, before anything is loaded
    assert main.main(["export", "latest", "--as", "merged", "--json"]) == options.EXIT_USAGE
    shown = capsys.readouterr()
    refused = json.loads(shown.out)["error"]["message"]
    assert shown.err == f"tui-lab: {refused}\n" and "--force replaces it" in refused


def test_what_is_asked_reaches_the_job(
    run: folder.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def run_job(module: str, request: exports.ExportRequest, answer: Any) -> Any:
        asked.append((module, request))
        return exports.ExportResult(path="x")

    monkeypatch.setattr(jobs, "run_job", run_job)
    words = ["--as", "adapter", "--out", "there", "--strength", "0.6", "--with-base", "--force", "--json"]
    assert main.main(["export", "scaled", *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["kind"], answer["path"]) == ("export", "x")
    request = exports.ExportRequest(
        run="scaled", kind="adapter", out="there", strength=0.6, force=True, with_base=True
    )
    assert asked == [("tui_lab.export.job", request)]
    assert tuple(exports.KINDS) == model_commands.EXPORT_KINDS


def test_hostile_words_of_a_result_are_made_visible() -> None:
    result = {
        "title": "adapter of \x1b[2Jx", "path": "p", "files": {"a": {"bytes": 3, "sha256": ""}},
        "notes": ["bell \x07"],
    }  # fmt: skip
    shown = "\n".join(exports.sentences(result_of(result)))
    assert "\x1b" not in shown and "\x07" not in shown and "3 B" in shown


def test_the_removed_script_kind_says_what_to_use(
    run: folder.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "run_job", run_here)
    assert main.main(["export", "latest", "--as", "script"]) == options.EXIT_USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "tui-lab train --preset RUN_FOLDER/recipe.toml" in error
