"""A run as text: durations, bars that fit, advice after a failure."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.records import parse
from tui_lab.runs.schema import WarningEvent
from tui_lab.runs.state import RunState
from tui_lab.ui.views import run


def state_of(*events: dict[str, Any]) -> RunState:
    state = RunState()
    state.apply(parse(({"t": 1000.0 + i, **event} for i, event in enumerate(events))))
    return state


BEGIN = (
    {"kind": "resumed", "from_step": 0, "attempt": 1},
    {"kind": "started", "pid": 1, "device": {"name": "cpu"}},
)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65, "1:05"), (3723, "1:02:03"), (math.nan, "–"), (-1, "–")]
)
def test_durations(seconds: float, text: str) -> None:
    assert run.duration(seconds) == text


def test_the_phase_is_shown_before_the_first_step() -> None:
    state = state_of(*BEGIN, {"kind": "phase", "name": "loading_model", "detail": "pocket"})
    line = run.progress_line(state, "running", 1010.0, 80, 0, False)
    assert "loading the model: pocket" in line and "0:09" in line


def test_progress_shows_steps_and_remaining_time() -> None:
    state = state_of(
        *BEGIN,
        {"kind": "plan", "total_steps": 100},
        {"kind": "phase", "name": "training"},
        {"kind": "step", "step": 25, "loss": 2.5, "learning_rate": 1e-4, "tok_per_s": 6500.0, "eta_s": 75.0,
         "memory": {"resident": 700 << 20}},
    )  # fmt: skip
    for width in (40, 60, 120):
        line = run.progress_line(state, "running", 1024.0, width, 0, False)
        assert "25/100 steps" in line and "1:15 left" in line
        assert len(line) <= width
    figures = run.figures_line(state, 120)
    assert "loss 2.5" in figures and "6.5k tok/s" in figures and "resident memory 700 MiB" in figures
    assert len(run.figures_line(state, 40)) <= 40


def test_a_score_shows_start_and_end() -> None:
    start = {"kind": "score", "name": "manner", "value": 0.125, "rows": 64, "step": 0, "when": "start"}
    state = state_of(*BEGIN, start)
    assert run.score_line(state) == "acquisition 0.12 before the training (style, 64 held-out rows)"
    state.apply(parse([{**start, "kind": "score", "when": "end", "value": 0.75, "step": 9}]))
    assert run.score_line(state) == "acquisition 0.12 → 0.75 (style, 64 held-out rows)"
    one = state_of(*BEGIN, {**start, "rows": 1})
    assert run.score_line(one).endswith("(style, 1 held-out row)")


def test_a_crashed_run_shows_reason_and_advice() -> None:
    state = state_of(*BEGIN)
    words = ["Traceback", "RuntimeError: out of memory"]
    assert "out of memory" in run.trouble("crashed", state, words)
    assert "from the beginning" in run.advice("crashed", state, "R", "F2")
    state.apply(parse([{"kind": "checkpoint", "step": 40, "path": "checkpoints/checkpoint-40"}]))
    assert "step 40" in run.advice("crashed", state, "R", "F2")
    failed = state_of(*BEGIN, {"kind": "end", "state": "failed", "message": "no such column"})
    assert run.trouble("failed", failed, []) == "no such column"
    assert run.trouble("finished", failed, []) == ""


def test_damaged_records_give_text() -> None:
    odd: list[dict[str, Any]] = [
        {"kind": "model", "trainable": "many", "modules": [1]},
        {"kind": "data", "train_rows": "x", "duplicates": None},
        {"kind": "started", "device": "cpu"},
        {"kind": "saved", "bytes": "much"},
        {"kind": "end", "state": 7, "seconds": "long"},
        {"kind": "checkpoint", "step": None},
        {"kind": "score", "name": 3, "value": "high", "when": "end"},
    ]
    for event in odd:
        state = state_of(*BEGIN, event)
        for status in ("running", "finished", "failed", "crashed", "stopped"):
            run.about_run(state, status, None, "folder", ["last words"], "R", "F2")
            run.progress_line(state, status, 1010.0, 80, 0, False)
            run.figures_line(state, 80)
            run.score_line(state)


def test_an_impossible_time_is_left_out() -> None:
    assert run.event_parts(WarningEvent(t=1e308, text="hot"))[0][0] == "--:--:-- "
