"""The state of a run: superseded steps are gone, damage is passed over, and portions do not matter."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import parse
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.statistics import Interval
from tui_lab.runs import events as events_module
from tui_lab.runs import folder, wording
from tui_lab.runs.curves import Curve, smooth
from tui_lab.runs.event_lines import decode_event, encode_event
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock
from tui_lab.runs.schema import (
    EVENT_KINDS,
    DownloadEvent,
    EndEvent,
    PhaseEvent,
    ResumedEvent,
    RunEvent,
    StepEvent,
    kind_of,
)
from tui_lab.runs.state import FEED_LENGTH, STATES, RunState, Watcher


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "t": 1_000.0, "kind": kind, **fields}


def step(number: int, loss: float = 1.0, **fields: Any) -> dict[str, Any]:
    return event("step", step=number, loss=loss, memory={"resident": 100 * number}, **fields)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return folder.create(Recipe(), tmp_path)


# --------------------------------------------------------------------------------------------------
# reducing


def test_the_overfitting_gap_is_that_of_the_token_accuracy() -> None:
    """By hand: steps 3 and 4 since the validation at 2 are right on 0.9 and 0.7 of their tokens, so 0.8 on
    average; held-out tokens on 0.6: (0.8 − 0.6) / 0.8 = 0.25."""
    state = RunState()
    assert math.isnan(state.overfitting_gap)
    steps = [step(n, accuracy=a) for n, a in enumerate((0.1, 0.2, 0.9, 0.7), start=1)]
    state.apply(parse([*steps[:2], event("eval", step=2, loss=2.0, accuracy=0.3), *steps[2:]]))
    state.apply(parse([event("eval", step=4, loss=1.0, accuracy=0.6), step(5, accuracy=1.0)]))
    assert state.overfitting_gap == pytest.approx(0.25)
    assert "token accuracy 60%" in wording.sentence(state.feed[-1])
    state.apply(parse([event("resumed", from_step=2, attempt=2)]))
    assert state.overfitting_gap == pytest.approx((0.15 - 0.3) / 0.15)
    old = RunState()  # logs without accuracy
    old.apply(parse([step(1), event("eval", step=1, loss=2.0)]))
    assert math.isnan(old.overfitting_gap)
    assert wording.sentence(old.feed[-1]) == "validation loss 2 at step 1"


def test_a_resumed_run_drops_superseded_steps() -> None:
    state = RunState()
    state.apply(parse([event("resumed", from_step=0, attempt=1)]))
    state.apply(parse([step(n, loss=float(n)) for n in range(1, 11)]))
    state.apply(
        parse(
            [
                event("eval", step=0, loss=9.0),
                event("eval", step=5, loss=5.0),
                event("eval", step=10, loss=1.0),
            ]
        )
    )
    state.apply(parse([event("checkpoint", step=5, path="a"), event("checkpoint", step=10, path="b")]))
    state.apply(parse([event("sample", step=10, prompt="p", text="t")]))
    state.apply(parse([event("score", step=0, name="exact", value=0.1, when="start")]))
    state.apply(parse([event("paused", step=10)]))

    state.apply(parse([event("resumed", from_step=5, attempt=2)]))
    assert (state.step, state.attempt, state.paused) == (5, 2, False)
    assert state.loss.steps == [1, 2, 3, 4, 5]
    assert state.validation.steps == [0, 5]
    assert [c.step for c in state.checkpoints] == [5]
    assert not state.samples
    assert state.score("start") == 0.1
    assert state.memory["resident"].steps == [1, 2, 3, 4, 5]

    state.apply(parse([step(6, loss=60.0)]))
    assert state.loss.steps == [1, 2, 3, 4, 5, 6]
    assert state.loss.last == 60.0


def test_a_resume_removes_the_end() -> None:
    state = RunState()
    state.apply(
        parse([event("resumed", from_step=0, attempt=1), step(1), event("end", state="stopped", step=1)])
    )
    assert state.status(locked=False) == "stopped"
    state.apply(parse([event("resumed", from_step=1, attempt=2)]))
    assert state.end is None
    assert state.status(locked=True) == "running"


def test_ladder_events_remain_after_a_resume() -> None:
    state = RunState()
    rung = event(
        "ladder",
        step=5,
        rung="split",
        after={"parts": 2},
        text="memory ran out at step 5: halves",
        cost="time",
    )
    state.apply(parse([event("resumed", from_step=0, attempt=1), rung, {**rung, "after": "damaged"}]))
    assert wording.sentence(state.feed[0]) == "memory ran out at step 5: halves (cost: time)"
    state.apply(parse([event("resumed", from_step=0, attempt=2)]))
    assert [entry.after.parts for entry in state.ladder if entry.after] == [2]
    state.apply(parse([event("ladder_cost", step=9, text="a step takes 2 s")]))
    assert state.feed[-1] == state.ladder_cost and state.ladder_cost.text == "a step takes 2 s"


def test_a_download_is_a_phase_with_its_bytes_and_speed() -> None:
    state = RunState()
    some = DownloadEvent(name="lab/tiny", done_bytes=256 << 20, total_bytes=1 << 30, bytes_per_s=12 << 20)
    state.apply([ResumedEvent(from_step=0, attempt=1), some])
    assert state.phase == "downloading"
    assert state.phase_detail == "lab/tiny: 256 MiB of 1 GiB, 12 MiB/s, 1:04 to go"
    assert wording.sentence(some) == f"downloading: {state.phase_detail}"
    assert wording.sentence(DownloadEvent(name="a", total_bytes=2048.0)) == "downloading: a: 0 B of 2 KiB"
    state.apply([PhaseEvent(name="preparing_data")])
    assert (state.phase, state.phase_detail) == ("preparing_data", "")


def test_a_repeated_step_replaces_the_first() -> None:
    curve = Curve()
    for number, value in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0)):
        curve.add(number, value)
    assert (curve.steps, curve.values) == ([1, 2], [1.0, 20.0])


def test_nan_is_a_gap_and_other_types_are_damaged() -> None:
    state = RunState()
    state.apply(parse([step(1), step(2, loss=math.nan), step(3)]))
    assert len(state.loss.values) == 3 and math.isnan(state.loss.values[1])
    state.apply(
        parse([event("step", step=4, loss="a word"), event("step", step=5, loss=True), event("step", step=6)])
    )
    assert state.loss.steps == [1, 2, 3]
    assert state.step == 6


DAMAGED: list[dict[str, Any]] = [
    {},
    {"kind": None},
    {"kind": ["step"]},
    {"kind": "note"},
    {"kind": "__init__"},
    event("of_the_future", step=3),
    event("step"),
    event("step", step="three"),
    event("step", step=1, memory=[1, 2]),
    event("resumed", from_step=None),
    event("eval", step=1),
    event("eval", step=1, loss=None),
    event("score", step=1, name="x", value=None),
    event("command"),
    event("ladder", step="five", rung="split", text="x"),
    event("ladder_cost"),
    {"kind": "warning", "t": "late", "text": "x"},
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=str)
def test_damaged_and_unknown_events_do_not_hide_the_rest(damaged: dict[str, Any]) -> None:
    state = RunState()
    state.apply(parse([step(1), damaged, step(2, loss=0.5)]))
    assert state.loss.last == 0.5
    for locked in (True, False):
        assert state.status(locked) in STATES


wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
kinds = st.sampled_from(sorted(EVENT_KINDS))
fields = st.sampled_from(
    [
        "step",
        "loss",
        "from_step",
        "attempt",
        "t",
        "memory",
        "name",
        "value",
        "text",
        "id",
        "state",
        "when",
        "detail",
    ]
)
wild_events = st.builds(
    lambda kind, rest: {**rest, "kind": kind}, kinds, st.dictionaries(fields, wild, max_size=6)
)


@given(st.lists(wild_events, max_size=12))
def test_any_event_is_accepted(events: list[dict[str, Any]]) -> None:
    state = RunState()
    state.apply(parse(events))
    for locked in (True, False):
        assert isinstance(state.status(locked), str)
    for curve in state.curves():
        assert curve.steps == sorted(set(curve.steps))
        assert len(curve.steps) == len(curve.values)
    assert isinstance(state.total_steps, int)
    assert isinstance(state.eta_s, float)
    assert isinstance(state.score("start"), float)
    assert isinstance(state.score_name, str)


sane_events = st.lists(
    st.one_of(
        st.builds(step, st.integers(1, 30), st.floats(0, 5)),
        st.builds(lambda n: event("resumed", from_step=n, attempt=1), st.integers(0, 30)),
        st.builds(lambda n, loss: event("eval", step=n, loss=loss), st.integers(0, 30), st.floats(0, 5)),
        st.builds(lambda n: event("checkpoint", step=n, path="x"), st.integers(0, 30)),
    ),
    max_size=30,
)


@given(sane_events, st.lists(st.integers(0, 30), max_size=4))
def test_the_state_does_not_depend_on_portions(events: list[dict[str, Any]], cuts: list[int]) -> None:
    whole, parts = RunState(), RunState()
    whole.apply(parse(events))
    marks = sorted({min(cut, len(events)) for cut in cuts} | {0, len(events)})
    for first, last in itertools.pairwise(marks):
        parts.apply(parse(events[first:last]))
    for one, other in zip(whole.curves(), parts.curves(), strict=True):
        assert (one.steps, one.values) == (other.steps, other.values)
    assert (whole.step, whole.checkpoints, whole.version) == (parts.step, parts.checkpoints, parts.version)


def test_the_feed_is_bounded() -> None:
    state = RunState()
    state.apply(parse(event("checkpoint", step=n, path="x") for n in range(FEED_LENGTH * 3)))
    assert len(state.feed) == FEED_LENGTH


def test_the_same_warning_is_kept_once() -> None:
    state = RunState()
    state.apply(parse([event("warning", text="hot"), event("warning", text="hot")]))
    assert state.warnings == ["hot"]


def test_figures_are_nan_while_unknown() -> None:
    state = RunState()
    assert math.isnan(state.eta_s) and math.isnan(state.score("start")) and math.isnan(state.loss.last)
    state.apply(parse([step(1, eta_s=12.5), event("plan", total_steps=9)]))
    assert (state.eta_s, state.total_steps) == (12.5, 9)


@pytest.mark.parametrize(
    ("events", "locked", "expected"),
    [
        ([], False, "created"),
        ([], True, "starting"),
        ([event("resumed", from_step=0, attempt=1)], True, "starting"),
        ([event("resumed", from_step=0, attempt=1)], False, "crashed"),
        ([event("phase", name="training")], True, "running"),
        ([event("phase", name="training"), event("paused", step=0)], True, "paused"),
        ([event("paused", step=0), event("continued", step=0), step(1)], True, "running"),
        ([event("end", state="finished")], False, "finished"),
        ([event("end", state="stopped")], False, "stopped"),
        ([event("end", state="failed", message="x")], False, "failed"),
        ([event("end", state="of the future")], False, "finished"),
    ],
)
def test_the_status_of_a_run(events: list[dict[str, Any]], locked: bool, expected: str) -> None:
    state = RunState()
    state.apply(parse(events))
    assert state.status(locked) == expected


# --------------------------------------------------------------------------------------------------
# smoothing


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40), st.floats(0, 0.99))
def test_smoothing_equals_the_weighted_mean(values: list[float], weight: float) -> None:
    for n, value in enumerate(smooth(values, weight), 1):
        weights = [weight ** (n - 1 - i) for i in range(n)]
        mean = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
        assert value == pytest.approx(mean, rel=1e-6, abs=1e-6)


def test_gaps_remain_gaps_when_smoothed() -> None:
    smoothed = smooth([1.0, math.nan, math.inf, 1.0])
    assert [math.isnan(value) for value in smoothed] == [False, True, True, False]
    assert smoothed[3] == pytest.approx(1.0)


# --------------------------------------------------------------------------------------------------
# watching


def test_a_watcher_follows_a_growing_log(run: Run) -> None:
    watcher = Watcher(run)
    assert not watcher.poll()
    events = EventWriter(run.events_path)
    events.write(ResumedEvent(from_step=0, attempt=1))
    events.write(StepEvent(step=1, loss=2.0))
    assert watcher.poll()
    assert not watcher.poll()
    assert watcher.state.loss.last == 2.0
    events.append({"kind": "kind_of_the_future"})
    assert [kind_of(e) for e in watcher.read_events()] == ["kind_of_the_future"]


def test_a_watcher_restarts_when_the_log_is_replaced(run: Run) -> None:
    watcher = Watcher(run)
    events = EventWriter(run.events_path)
    for number in range(1, 6):
        events.write(StepEvent(step=number, loss=1.0))
    watcher.poll()
    run.events_path.write_bytes(b'{"kind":"step","step":1,"loss":7.0}\n')
    assert watcher.poll()
    assert watcher.state.loss.values == [7.0]


def test_a_run_without_end_and_lock_has_crashed(run: Run) -> None:
    events = EventWriter(run.events_path)
    events.write(ResumedEvent(from_step=0, attempt=1))
    lock = RunLock.take(run)
    watcher = Watcher(run)
    watcher.poll()
    assert watcher.status == "starting"
    lock.release()
    assert watcher.status == "crashed"


def test_an_end_written_between_two_polls_is_read(run: Run) -> None:
    events = EventWriter(run.events_path)
    events.write(ResumedEvent(from_step=0, attempt=1))
    watcher = Watcher(run)
    watcher.poll()
    events.write(EndEvent(state="finished"))  # and the lock is released, before the watcher polls again
    assert watcher.status == "starting"
    watcher.poll()
    assert watcher.status == "finished"


def test_a_run_without_events_has_crashed(run: Run) -> None:
    assert Watcher(run).status == "created"
    run.log_path.write_text("ImportError: no torch\n")
    assert Watcher(run).status == "crashed"


def test_reading_the_status_consumes_no_event(run: Run) -> None:
    events = EventWriter(run.events_path)
    events.write(ResumedEvent(from_step=0, attempt=1))
    for number in range(1, 60):
        events.write(StepEvent(step=number, loss=1.0))
    events.write(EndEvent(state="finished", step=59))
    events.close()
    watcher, seen = Watcher(run), []
    while portion := watcher.read_events(max_records=7):
        seen += portion
        assert watcher.status == "finished"
    assert [kind_of(one) for one in seen] == ["resumed", *["step"] * 59, "end"]


@pytest.mark.parametrize("end", [None, EndEvent(state="stopped", step=0)])
def test_the_status_of_a_long_log_reads_only_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch, end: EndEvent | None
) -> None:
    line = encode_event(StepEvent(step=1, loss=1.0, t=1.0))
    run.events_path.write_bytes(
        encode_event(ResumedEvent(from_step=0, attempt=1, t=1.0))
        + line * 20_000
        + (encode_event(end) if end else b"")
    )
    decoded = 0

    def counted(line: bytes) -> RunEvent:
        nonlocal decoded
        decoded += 1
        return decode_event(line)

    monkeypatch.setattr(events_module, "decode_event", counted)
    watcher = Watcher(run)
    for _ in range(10):
        assert watcher.status == (end.state if end else "crashed")
    assert decoded <= 1
    watcher.poll(max_records=50, max_s=math.inf)
    for _ in range(10):
        assert watcher.status == (end.state if end else "crashed")
    assert decoded <= 52 and watcher.state.step == 1


def test_the_newest_damaged_line_is_named(run: Run) -> None:
    run.events_path.write_bytes(b'{"kind":"step","step":1}\n{"kind":"step","step":"three"}\n')
    watcher = Watcher(run)
    assert watcher.poll() and not watcher.poll()
    assert watcher.damage == f"{run.events_path}, line 2: step must be a whole number, not text"


def test_a_damaged_recipe_is_a_problem_not_an_error(run: Run) -> None:
    run.recipe_path.write_text("lora_r = 0")
    watcher = Watcher(run)
    assert watcher.recipe is None
    assert "lora_r = 0" in watcher.problem


# --------------------------------------------------------------------------------------------------
# probes


def figure(value: Any, low: Any, high: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def item_probe(number: int, value: float, verdict: str = "green", **fields: Any) -> dict[str, Any]:
    return event(
        "item_probe", step=number, suite="everyday", n=40, verdict=verdict, when="during",
        retention=figure(value, value - 0.1, value + 0.1), above_chance=None, **fields,
    )  # fmt: skip


def test_probes_are_sorted_by_step_and_superseded_ones_dropped() -> None:
    state = RunState()
    assert state.retention is None and state.verdict == "" and not state.armed
    state.apply(parse([event("resumed", from_step=0, attempt=1), event("armed", on=True)]))
    state.apply(
        parse(
            event("kl_probe", step=n, general=figure(0.1 * n, 0, 1), task=figure(0.2 * n, 0, 1))
            for n in (1, 2)
        )
    )
    state.apply(parse([item_probe(1, 0.99), item_probe(2, 0.5, "red")]))
    assert state.verdict == "red" and state.retention == Interval(0.5, 0.4, 0.6)
    assert "retention 0.50 (0.40 to 0.60) on 40 items of everyday at step 2: forgotten" in wording.sentence(
        state.feed[-1]
    )
    state.apply(parse([event("resumed", from_step=1, attempt=2)]))
    assert [probe.step for probe in state.kl_probes] == [1]
    assert [probe.step for probe in state.item_probes] == [1] and state.verdict == "green"
    assert state.armed
    state.apply(parse([event("armed", on=False)]))
    assert not state.armed
    assert wording.sentence(state.feed[-1]) == "stop on forgetting is off: the run continues at any retention"


def test_a_repeated_probe_replaces_the_first() -> None:
    state = RunState()
    state.apply(parse([item_probe(0, 1.0), item_probe(4, 0.6, "red"), item_probe(4, 0.95)]))
    assert [probe.step for probe in state.item_probes] == [0, 4] and state.verdict == "green"
    state.apply(parse([event("resumed", from_step=0, attempt=2), item_probe(0, 0.99)]))
    assert [probe.retention.value for probe in state.item_probes] == [0.99]


def test_retention_above_chance_is_the_headline() -> None:
    state = RunState()
    state.apply(parse([item_probe(3, 0.9) | {"above_chance": figure(0.6, "-inf", 0.7), "verdict": "amber"}]))
    assert state.retention is not None and state.retention.value == 0.6
    assert state.retention.low == -math.inf and state.verdict == "amber"
    state.apply(
        parse([event("kl_probe", step=3, general=figure("nan", "nan", "nan"), task=figure(0.1, 0, 1))])
    )
    assert math.isnan(state.kl_probes[0].general.value)


def test_neither_a_base_at_chance_nor_one_before_training_has_a_retention() -> None:
    state = RunState()
    state.apply(parse([item_probe(0, 1.0) | {"when": "start"}]))
    assert state.verdict == "baseline" and state.retention is None
    state.apply(parse([item_probe(3, -0.5, "cannot_tell")]))
    assert state.verdict == "cannot_tell" and state.retention is None


@pytest.mark.parametrize(
    "damaged",
    [
        event("item_probe", step=1),
        item_probe(1, 0.9) | {"retention": 3},
        item_probe(1, 0.9) | {"above_chance": {"value": None}},
        event("kl_probe", step=1, general=figure(1, 2, 3)),
        event("armed"),
    ],
)
def test_damaged_probes_are_skipped(damaged: dict[str, Any]) -> None:
    state = RunState()
    state.apply(parse([damaged]))
    assert not state.item_probes and not state.kl_probes and not state.armed


def test_an_attempt_from_step_0_drops_all_probes() -> None:
    state = RunState()
    look = [
        {"kind": "score", "name": "exact", "value": 0.5, "step": 0, "when": "start"},
        {"kind": "sample", "step": 0, "prompt": "a", "text": "b"},
    ]
    state.apply(parse([{"kind": "resumed", "from_step": 0, "attempt": 1}, *look]))
    state.apply(parse([{"kind": "resumed", "from_step": 0, "attempt": 2}, *look]))
    assert len(state.samples) == len(state.scores) == 1
    state.apply(parse([{"kind": "resumed", "from_step": 2, "attempt": 3}]))
    assert len(state.samples) == len(state.scores) == 1


def test_a_changed_recipe_is_in_the_feed() -> None:
    state = RunState()
    change = {
        "field": "learning_rate",
        "before": 0.1,
        "after": 0.2,
        "weight": "course",
        "text": "other steps",
    }
    state.apply(parse([{"kind": "recipe_changed", "changes": [change]}]))
    assert wording.sentence(state.feed[-1]) == "learning_rate: 0.1 → 0.2 (course: other steps)"
    state.apply(parse([{"kind": "recipe_changed", "changes": 3}, {"kind": "recipe_changed"}]))
    assert len(state.feed) == 1


def test_impossible_numbers_do_not_break_curves() -> None:
    state = RunState()
    state.apply(parse([{"kind": "step", "t": 5.0, "step": 1, "loss": 2.0}]))
    state.apply(parse([{"kind": "step", "t": 10**400, "step": 2, "loss": 10**400, "eta_s": 10**400}]))
    assert all(len(curve.steps) == len(curve.values) for curve in state.curves())
    assert state.updated_at == 5.0 and math.isnan(state.eta_s)


@pytest.mark.parametrize("step", [10**400, 1e308, math.inf, math.nan])
def test_an_impossible_step_is_a_damaged_record(step: float) -> None:
    state = RunState()
    state.apply(parse([{"kind": "plan", "t": 1.0, "total_steps": 10**400}]))
    state.apply(parse([{"kind": "step", "t": 1.0, "step": 3, "loss": 2.0}]))
    assert not state.apply(parse([{"kind": "step", "t": 2.0, "step": step, "loss": 1.0}]))
    assert state.loss.steps == [3] and math.isfinite(float(state.total_steps))
