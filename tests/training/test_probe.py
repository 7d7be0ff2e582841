"""The retention probe in whole runs: it measures, changes nothing, resumes, and stops an armed run (one of
the bundled model is probed in test_pocket_run.py)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.records import read_log
from tests.training.test_attempt import ended, make_run, run_in_process, texts, until  # noqa: F401 (fixtures)
from tui_lab.core.errors import LabError
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.presets import make_recipe
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites import registry
from tui_lab.runs import commands, folder, launch
from tui_lab.runs.event_parts import ProbeCost
from tui_lab.runs.state import RunState
from tui_lab.training import probe, probe_base
from tui_lab.training.rng import evaluating

MakeRun = Callable[..., folder.Run]


@pytest.fixture
def probed_run(make_run: MakeRun) -> MakeRun:  # noqa: F811
    """A run of a tiny random model that is probed."""
    return lambda **values: make_run(**{"probe_share": 0.03, **values})


def finished(run: folder.Run, started: bool = False) -> RunState:
    """The state of a run at its end; it is trained in this process unless it was started as one."""
    state = (until(run, ended) if started else run_in_process(run)).state
    assert state.end.state == "finished", (state.end, run.log_tail())
    return state


def during(state: RunState) -> list[dict[str, Any]]:
    """The item probes after the one before training."""
    return [one for one in state.item_probes if one.when != "start"]


# --- whole runs ----------------------------------------------------------------------------------------


def test_probing_changes_no_training_figure(probed_run: MakeRun) -> None:
    values = {"lora_dropout": 0.2, "eval_steps": 12, "sample_steps": 12}
    probed, plain = probed_run(**values), probed_run(**values, probe_share=0.0)
    one = finished(probed)
    other = finished(plain)
    assert one.loss.values == other.loss.values and one.grad_norm.values == other.grad_norm.values
    assert one.validation.values == other.validation.values
    assert len(during(one)) >= 4 and not other.item_probes and not other.probe_plan
    assert not (plain.path / "retention").exists() and other.end.probe == ProbeCost()
    # random weights know nothing: that must not pass for retained
    assert one.verdict == "cannot_tell"


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"init_lora_weights": "pissa", "lora_r": 4}, True),
        ({"quantization": "nf4"}, True),
        ({"method": "prompt_tuning", "num_virtual_tokens": 4}, False),
    ],
)
def test_base_figures_equal_the_model_without_adapter(
    probed_run: MakeRun,
    values: dict[str, Any],
    same: bool,
) -> None:
    """At step 0 nothing has moved, except where virtual tokens act from the first step on."""
    run = probed_run(**values)
    state = finished(run)
    start, end = state.kl_probes[0].general.value, state.kl_probes[-1].task.value
    assert (abs(start) < 1e-4) is same
    assert end > 1e-4 and math.isfinite(end)
    assert state.item_probes[0].when == "start" and (state.item_probes[0].seconds == 0) is same


@pytest.mark.slow
def test_armed_run_stops_on_lost_retention(tmp_path: Path) -> None:
    """A rate that wipes the model out: both probes after it fall to chance."""
    recipe = make_recipe(
        "minute", data="support", quantization="none", method="full", learning_rate=0.1, warmup_steps=0,
        max_steps=40, score_rows=1, stop_on_retention=True, eval_steps=40, sample_steps=40,
        per_device_train_batch_size=4, sample_max_new_tokens=4,
    )  # fmt: skip
    run = folder.create(recipe, tmp_path)
    state = finished(run)
    assert state.armed and state.step < 40
    assert abs(state.kl_probes[0].general.value) < 1e-4 < state.kl_probes[-1].general.value
    assert "stopped early: retention was" in state.end.message
    last = during(state)[-2:]
    assert [one.verdict for one in last] == ["red", "red"] and last[-1].mcnemar_p < 0.05 / 4
    assert (run.model_path / "model.safetensors").is_file()


def test_probe_arm_and_disarm_commands(probed_run: MakeRun) -> None:
    run = probed_run(max_steps=4000, eval_steps=2000, sample_steps=2000)
    launch.start(run)
    watcher = until(run, lambda w: w.state.probe_plan)
    before = len(watcher.state.item_probes)
    commands.send(run, "probe")
    commands.send(run, "arm")
    watcher = until(run, lambda w: len(w.state.item_probes) > before and w.state.armed)
    step = watcher.state.item_probes[-1].step
    assert watcher.state.kl_probes[-1].step == step > 0
    commands.send(run, "disarm")
    until(run, lambda w: not w.state.armed)
    commands.send(run, "stop")
    state = until(run, ended).state
    assert state.end.state == "stopped"
    outcomes = [e["outcome"] for e in read_log(run.events_path) if e["kind"] == "command"]
    assert any(f"at step {step}" in text for text in outcomes) and len(outcomes) == 4


def test_killed_run_resumes_with_the_stored_base_figures(probed_run: MakeRun) -> None:
    run = probed_run(max_steps=60, eval_steps=5, sample_steps=60)
    process = launch.start(run)
    until(run, lambda w: len(during(w.state)) >= 2 and w.state.checkpoints)
    process.kill()
    process.wait()
    file = run.path / "retention" / "probe_base.json"
    stamp = file.stat().st_mtime_ns
    if folder.is_locked(run) is False and not until(run, ended).state.end:
        commands.send(run, "arm")  # sent before the resume: meant for the attempt that died
        launch.start(run)
    state = finished(run, started=True)
    assert file.stat().st_mtime_ns == stamp
    steps = [one.step for one in during(state)]
    assert len(steps) >= 4 and steps == sorted(set(steps)) and steps[-1] == 60
    assert len({one.pre for one in during(state) if one.n == during(state)[-1].n}) == 1
    assert not state.armed


def test_unsuitable_suite_is_refused() -> None:
    with pytest.raises(LabError, match="kind generate"):
        probe.load_suite("format")
    with pytest.raises(LabError, match="no suite or file"):
        probe.load_suite("no-such-suite")


# --- parts -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> tuple[probe_base.ProbeBase, registry.Suite]:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    suite = probe.load_suite("everyday")
    progress: list[tuple[str, int, int]] = []
    base = probe_base.measure(
        model, tokenizer, suite, [list(range(40)), list(range(20, 70)), [5] * 30],
        budget=probe_base.BaseBudget(1_000, 0.03, 64), seed=1, batch_tokens=2048,
        on_progress=lambda *each: progress.append(each),
    )  # fmt: skip
    assert [each[1:] for each in progress if not each[2]] == [(0, 0)] * 2
    counts = [each[1:] for each in progress if each[2]]
    assert counts[-1] == (len(base.scores), len(base.scores)) and all(done <= total for done, total in counts)
    return base, suite


def test_the_base_is_measured_and_read_back(
    measured: tuple[probe_base.ProbeBase, registry.Suite], tmp_path: Path
) -> None:
    base, suite = measured
    assert len(base.scores) >= 16 and base.item_s > 0 and base.kl_s > 0 and base.seconds > 0
    assert base.general.sequences and all(len(one) <= 64 for one in base.general.sequences)
    part = base.suite_of(suite, 16)
    assert len(part.items) == 16 and {item.id for item in part.items} <= set(base.scores)
    assert len(set(part.categories)) >= 5, "a balanced part"
    run = folder.Run(tmp_path)
    probe_base.write(run, base, "key")
    again = probe_base.read(run, "key")
    assert again is not None and again.scores == base.scores and again.item_s == base.item_s
    assert again.general.sequences == base.general.sequences
    assert torch.equal(again.task.distribution.drawn_ids, base.task.distribution.drawn_ids)
    assert probe_base.read(run, "another key") is None
    for name in ("probe_base.safetensors", "probe_base.json"):
        (tmp_path / "retention" / name).write_bytes(b"{ damaged")
        assert probe_base.read(run, "key") is None


def test_probe_sequences_follow_the_seed_and_half_are_sampled() -> None:
    from tui_lab.retention import probe_texts

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    state = torch.get_rng_state()
    one = probe_texts.probe_sequences(model, tokenizer, 8, 24, 3, 60.0)
    assert torch.equal(state, torch.get_rng_state())
    assert one == probe_texts.probe_sequences(model, tokenizer, 8, 24, 3, 60.0)
    assert one != probe_texts.probe_sequences(model, tokenizer, 8, 24, 4, 60.0)
    assert len(one) == 8 and all(len(row) == 24 for row in one)
    assert len({tuple(row) for row in one}) == 8
    hurried = probe_texts.probe_sequences(model, tokenizer, 8, 2_000, 3, 0.01)
    assert len(hurried) == 8, "what could not be sampled in time is told instead"
    assert probe_texts.cut([[1] * 3, [2] * 20, [3] * 90], 2, 30) == [[2] * 20, [3] * 30]


def test_a_probe_has_the_precision_of_the_training() -> None:
    """Also of the model inside an adapter, into whose forward accelerate puts no autocast."""
    model = torch.nn.Linear(2, 2)
    accelerator = SimpleNamespace(autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    with evaluating(SimpleNamespace(model=model, accelerator=accelerator)):
        assert model(torch.ones(1, 2)).dtype == torch.bfloat16
    assert model(torch.ones(1, 2)).dtype == torch.float32


def test_flips_and_the_change_of_the_right_answers() -> None:
    suite = registry.load("everyday", 40)

    def score(item: registry.Item, right: bool) -> ItemScore:
        best = item.answers[0] if right else (item.answers[0] + 1) % len(item.continuations)
        values = tuple(-1.0 if i == best else -3.0 for i in range(len(item.continuations)))
        return ItemScore(item.id, values, best, best, (1,) * len(values))

    before = [score(item, n < 38) for n, item in enumerate(suite.items)]
    after = [score(item, n >= 20) for n, item in enumerate(suite.items)]
    found = probe.compare(suite, before, after, 0.9)
    assert (found.n, found.b, found.c) == (40, 20, 2)
    assert found.pre == 0.95 and found.post == 0.5 and found.verdict == "red"
    assert found.retention.value == pytest.approx(20 / 38, abs=0.03)
    assert found.logprob_change.value == pytest.approx(-2.0 * 18 / 40)
    assert found.mcnemar_p < 1e-3
    nan = [dataclasses.replace(one, loglikelihoods=(math.nan,) * 4, predicted=-1) for one in after]
    lost = probe.compare(suite, before, nan, 0.9)
    assert lost.post == 0 and math.isnan(lost.logprob_change.value)
