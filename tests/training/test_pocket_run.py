"""A short run of the bundled model on the default data: what it learns, what its probes find, and that its
adapter is read by plain peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.records import read_log
from tests.training.warm_start import Opener
from tui_lab.data import bundled, scoring
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder, launch
from tui_lab.runs.state import Watcher

ROWS, STEPS = 6, 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> folder.Run:
    recipe = make_recipe(
        "minute", quantization="none", max_steps=STEPS, score_rows=ROWS, eval_steps=20, sample_steps=STEPS,
        per_device_train_batch_size=8,
    )  # fmt: skip
    made = folder.create(recipe, tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(launch, "subprocess", Opener)
        assert launch.start(made).wait(timeout=500) == 0, made.log_tail()
    return made


def scores(run: folder.Run) -> list[dict[str, Any]]:
    return [event for event in read_log(run.events_path) if event["kind"] == "score"]


@pytest.mark.slow
def test_it_learns_and_reports(run: folder.Run) -> None:
    [start, end] = scores(run)
    losses = [event["loss"] for event in read_log(run.events_path) if event["kind"] == "eval"]
    assert losses[-1] < 0.4 * losses[0]
    assert end["value"] > 2 * start["value"] + 0.1
    assert all(end[name] > start[name] for name in ("token_f1", "rouge_l")) and 0 <= end["exact"] <= 1
    report = (run.path / "report.md").read_text()
    assert f"| style | {start['value']:.3f} | {end['value']:.3f} |" in report, "a run writes its own report"
    assert (run.path / "report.html").is_file()


@pytest.mark.slow
def test_it_is_probed_four_times(run: folder.Run) -> None:
    state = Watcher(run).read_all()
    start, *during = state.item_probes
    assert len(during) >= 4 and len(state.kl_probes) >= 5
    assert start.step == 0 and start.pre == start.post > 0.9 and start.b == start.c == 0
    assert during[-1].step == STEPS and during[-1].when == "end"
    first, last = state.kl_probes[0], state.kl_probes[-1]
    assert first.step == 0 and abs(first.general.value) < 1e-4 > abs(first.task.value)
    assert last.task.value > 0.05, "the task's own text moves away from the base"
    plan = state.probe_plan
    assert plan.item_probes == 4 and plan.threshold == 0.9 and "of 452 items" in plan.reason
    assert state.end.probe.seconds > 0 and state.end.trained_s > 0
    assert not state.armed
    kept = run.path / "retention" / "probe_base.json"
    assert kept.stat().st_mode & 0o077 == 0
    scored = json.loads(kept.read_text())["items"]
    assert len(scored) >= plan.items == during[0].n


@pytest.mark.slow
def test_adapter_scores_the_same_with_peft(run: folder.Run) -> None:
    """Nothing of the lab but its data and its scorer: the model comes from transformers and peft alone."""
    tokenizer = AutoTokenizer.from_pretrained(run.adapter_path)
    base = AutoModelForCausalLM.from_pretrained(Path(MODEL_DIR), dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, run.adapter_path)
    held, answers = bundled.load("pirate").validation[:ROWS], []
    for row in held:
        ids = tokenizer.apply_chat_template(
            row["messages"][:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**ids, max_new_tokens=48, do_sample=False)
        told = out[0, ids["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(told, skip_special_tokens=True).strip())
    [_, end] = scores(run)
    assert scoring.score("manner", answers, held) == pytest.approx(end["value"])
    assert [example["answer"] for example in end["examples"]] == answers[: len(end["examples"])]
