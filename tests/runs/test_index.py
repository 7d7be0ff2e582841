"""The table of all runs: read once, again when changed, true to what the log says; sorted and filtered."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import index, notes, removal
from tui_lab.runs.event_lines import encode_event
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock, create
from tui_lab.runs.index import CACHE, COLUMNS, RunIndex, RunSummary, matches, ordered
from tui_lab.runs.queue import queue, sweep
from tui_lab.runs.schema import (
    EndEvent,
    PausedEvent,
    PlanEvent,
    ResumedEvent,
    ScoreEvent,
    StartedEvent,
    StepEvent,
    ValidationEvent,
)


def finished(directory: Path, name: str = "", **changes: object) -> Run:
    run = create(Recipe(), directory, name)
    writer = EventWriter(run.events_path)
    writer.write(ResumedEvent(from_step=0, attempt=1))
    writer.write(StartedEvent(device={"type": "cpu"}))
    writer.write(PlanEvent(total_steps=2))
    writer.write(ScoreEvent(step=0, name="exact", value=0.1, rows=4, when="start"))
    writer.write(StepEvent(step=2, loss=0.5, tokens=10, memory={"resident": 1000, "cuda_peak": 700}))
    writer.write(ValidationEvent(step=2, loss=0.75, rows=4, when="end"))
    writer.write(ScoreEvent(step=2, name="exact", value=0.9, rows=4, when="end"))
    end = {"state": "finished", "step": 2, "message": "", "seconds": 12.5, "train_loss": 0.5,
           "validation_loss": 0.75, "peak_memory": {"resident": 1000, "cuda_peak": 700}}  # fmt: skip
    writer.write(EndEvent(**{**end, **changes}))
    writer.close()
    return run


def test_a_summary_has_the_figures_of_the_log(tmp_path: Path) -> None:
    run = finished(tmp_path)
    (found,) = RunIndex(tmp_path).refresh()
    assert (found.id, found.state, found.model, found.data) == (run.id, "finished", "pocket", "pirate")
    assert (found.loss, found.validation, found.score_start, found.score_end) == (0.5, 0.75, 0.1, 0.9)
    assert (found.peak_bytes, found.peak_of, found.seconds) == (700, "cuda_peak", 12.5)
    assert found.gained == pytest.approx(0.8)
    assert math.isnan(found.retention), "nothing probed it"


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    runs = [finished(tmp_path, f"run{n}") for n in range(5)]
    first = RunIndex(tmp_path)
    assert len(first.refresh()) == 5 and first.read == 5
    first.refresh()
    assert first.read == 0
    second = RunIndex(tmp_path)
    assert str(second.refresh()) == str(first.refresh()), "another lab reads the cache file"
    assert second.read == 0
    notes.write(runs[2], name="the best")
    assert [run.name for run in second.refresh() if run.name] == ["the best"]
    assert second.read == 1
    writer = EventWriter(runs[1].events_path)
    writer.write(ResumedEvent(from_step=2, attempt=2))
    writer.close()
    assert {run.id: run.state for run in second.refresh()}[runs[1].id] == "crashed"
    removal.delete(runs[0])
    assert len(second.refresh()) == 4 == len(RunIndex(tmp_path).refresh())


@pytest.mark.parametrize("content", ["", "{}", '{"v": 1, "runs": {"x": [1]}}', '{"v": 1, "runs": []}', "[[["])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, content: str) -> None:
    finished(tmp_path)
    (tmp_path / CACHE).write_text(content)
    (found,) = RunIndex(tmp_path).refresh()
    assert found.state == "finished"
    again = RunIndex(tmp_path)
    again.refresh()
    assert again.read == 0


def test_a_cache_holds_figures_that_json_has_not(tmp_path: Path) -> None:
    run = finished(tmp_path)
    (before,) = RunIndex(tmp_path).read_all()
    text = (tmp_path / CACHE).read_text()
    assert math.isnan(before.retention) and "retention" not in text and "NaN" not in text
    summary = json.loads(text)["runs"][run.id]
    for loss in (math.inf, math.nan):  # a run that diverged; what the first version wrote
        summary[1]["loss"] = loss
        (tmp_path / CACHE).write_text(json.dumps({"v": 1, "runs": {run.id: summary}}))
        listed = RunIndex(tmp_path)
        (after,) = listed.refresh()
        assert repr(after.loss) == repr(loss) and listed.read == 0


def test_a_live_run_is_followed(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    lock = RunLock.take(run)
    listed = RunIndex(tmp_path)
    assert listed.refresh()[0].state == "starting"
    writer = EventWriter(run.events_path)
    writer.write(ResumedEvent(from_step=0, attempt=1))
    writer.write(StepEvent(step=1, loss=2.0))
    assert (listed.refresh()[0].state, listed.refresh()[0].step) == ("running", 1)
    writer.write(PausedEvent(step=1))
    assert listed.refresh()[0].state == "paused"
    writer.write(StepEvent(step=2, loss=1.0))
    lock.release()
    assert (listed.refresh()[0].state, listed.refresh()[0].loss) == ("crashed", 1.0)
    writer.close()


def test_waiting_runs_are_listed_first_in_queue_order(tmp_path: Path) -> None:
    finished(tmp_path)
    added = queue.add([Recipe(seed=n) for n in range(3)], tmp_path)
    listed = RunIndex(tmp_path).refresh()
    assert [run.state for run in listed] == ["queued"] * 3 + ["finished"]
    assert [run.id for run in ordered(listed, "started", True)][:3] == [run.id for run in added]
    assert [run.queued for run in listed] == [1, 2, 3, 0]


def test_a_damaged_queue_does_not_hide_the_runs(tmp_path: Path) -> None:
    finished(tmp_path)
    queue.add([Recipe()], tmp_path)
    (tmp_path / queue.FOLDER / "queue.json").write_text("{")
    listed = RunIndex(tmp_path)
    assert [run.state for run in listed.refresh()] == ["finished"]
    assert "cannot be read" in listed.problem


def test_a_missing_folder_lists_no_runs(tmp_path: Path) -> None:
    assert RunIndex(tmp_path / "nowhere").refresh() == []


def test_a_damaged_recipe_is_listed_with_its_problem(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.recipe_path.write_text("no toml")
    (found,) = RunIndex(tmp_path).refresh()
    assert found.model == "" and "not valid TOML" in found.message


def test_a_long_first_reading_shows_partial_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        finished(tmp_path, f"run{number}")
    monkeypatch.setattr(index, "FIRST_SHOWN_S", 0)
    monkeypatch.setattr(index, "SHOW_S", 0)
    seen: list[int] = []
    RunIndex(tmp_path).refresh(lambda some: seen.append(len(some)))
    assert seen == [1, 2, 3, 4]


# --------------------------------------------------------------------------------------------------


def summary(number: int, **fields: object) -> RunSummary:
    return RunSummary(id=f"20260101-0000{number:02}-a-0000", path="/nowhere", **fields)  # type: ignore[arg-type]


@given(
    st.lists(st.sampled_from([0.5, 1.5, 2.5, math.nan]), max_size=12),
    st.booleans(),
    st.sampled_from(["loss", "peak", "name"]),
)
def test_sorting_puts_unknown_values_last(values: list[float], descending: bool, column: str) -> None:
    runs = [
        summary(n, loss=v, peak_bytes=v, name="" if math.isnan(v) else str(v)) for n, v in enumerate(values)
    ]
    found = ordered(runs, column, descending)
    assert sorted(run.id for run in found) == sorted(run.id for run in runs)
    known = [run.loss for run in found if not math.isnan(run.loss)]
    assert known == sorted(known, reverse=descending)
    assert all(math.isnan(run.loss) for run in found[len(known) :])


def test_every_column_sorts(tmp_path: Path) -> None:
    finished(tmp_path)
    listed = RunIndex(tmp_path).refresh()
    for column in COLUMNS:
        assert ordered(listed, column, True) == listed


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", True), ("  ", True), ("QWEN", True), ("state:fin", True), ("state:failed", False),
        ("model:qwen tag:good", True), ("tag:goo", True), ("tag:ood", False), ("tag:", True),
        ("data:rows sweep:s1", True), ("rate", True), ("nothing", False), ("qwen nothing", False),
        ("note:lower", True), ("http://x", False),
    ],
)  # fmt: skip
def test_filtering_by_words(query: str, expected: bool) -> None:
    run = summary(1, model="Qwen/Qwen3-0.6B", state="finished", tags=("good",), data="rows.jsonl",
                  sweep="s1", note="lower the rate", name="first")  # fmt: skip
    assert matches(run, query) is expected


def test_a_sweep_and_its_best_run(tmp_path: Path) -> None:
    runs = [finished(tmp_path, "a", validation_loss=v) for v in (0.9, 0.3, 0.5)]
    for number, run in enumerate(runs):
        sweep.write_place(run, sweep.SweepPlace("sweep-1", number + 1, 4, {"lora_r": number}))
    failed = finished(tmp_path, "b", state="failed", validation_loss=0.0)
    sweep.write_place(failed, sweep.SweepPlace("sweep-1", 4, 4, {"lora_r": 9}))
    found = index.sweep_runs(RunIndex(tmp_path).refresh(), "latest")
    assert [run.sweep_number for run in found] == [1, 2, 3, 4]
    assert index.best_of(found, "validation") == runs[1].id, "a failed run is never the best"
    assert index.criterion_text(found, "validation") == "best: lowest validation loss"
    assert index.criterion_text(found, "retention").endswith("no run has it yet")
    waiting = [*found, summary(1, state="queued")]
    assert "so far: 1 of 5 have not ended" in index.criterion_text(waiting, "validation")
    with pytest.raises(LabError, match="there is none of that name; there are sweep-1"):
        index.sweep_runs(found, "nope")
    with pytest.raises(LabError, match="there are no sweeps yet"):
        index.sweep_runs([], "latest")


def test_unchanged_runs_are_not_opened_again(tmp_path: Path) -> None:
    """In calls of the system, not in seconds: nothing is opened that has not changed."""
    for number in range(30):
        finished(tmp_path, f"run{number}")
    listed = RunIndex(tmp_path)
    listed.refresh()
    began = time.process_time()
    for _ in range(10):
        listed.refresh()
    assert listed.read == 0
    assert time.process_time() - began < 1.0  # 300 runs; 3 ms a hundred when measured


def test_a_long_log_is_read_in_portions(tmp_path: Path) -> None:
    """A refresh reads a bounded number of events; the end of a log counts from the beginning."""
    made = [create(Recipe(), tmp_path, name) for name in ("crashed", "stopped")]
    for run in made:
        line = encode_event(StepEvent(step=1, loss=2.0, t=5.0))
        run.events_path.write_bytes(encode_event(ResumedEvent(from_step=0, attempt=1, t=4.0)) + line * 2_000)
    with made[1].events_path.open("ab") as log:
        log.write(encode_event(EndEvent(state="stopped", step=1, t=6.0, train_loss=1.5)))
    listed = RunIndex(tmp_path)
    refreshes = 0
    while not listed.done:
        found = {run.name or run.id: run for run in listed.refresh(max_records=500)}
        assert {run.state for run in found.values()} == {"crashed", "stopped"}
        refreshes += 1
    assert refreshes >= 8
    assert {run.loss for run in listed.refresh()} == {2.0, 1.5} and listed.read == 0
    assert [repr(run) for run in RunIndex(tmp_path).read_all()] == [repr(run) for run in listed.refresh()]


def test_a_summary_has_a_few_points_of_the_loss(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    writer = EventWriter(run.events_path)
    writer.write(ResumedEvent(from_step=0, attempt=1))
    for step in range(1, 65):
        writer.write(StepEvent(step=step, loss=step / 64))
    writer.write(EndEvent(state="finished", step=64))
    writer.close()
    (found,) = RunIndex(tmp_path).read_all()
    assert found.shape is not None and len(found.shape) == index.CURVE_POINTS
    assert index.shape_values(found.shape)[::31] == [0, 93], "it rises from the lowest to the highest"
    assert index.reduced([step / 64 for step in range(1, 65)], 32)[0] == 1.5 / 64, "the mean of the first two"


def test_a_cache_without_curves_is_completed(tmp_path: Path) -> None:
    finished(tmp_path)
    RunIndex(tmp_path).read_all()
    cache = json.loads((tmp_path / CACHE).read_text())
    for _, summary in cache["runs"].values():
        del summary["shape"]
    (tmp_path / CACHE).write_text(json.dumps(cache))
    again = RunIndex(tmp_path)
    assert again.read_all()[0].shape == "!" and again.read == 1
    again.refresh()
    assert again.read == 0


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=16), max_size=200), st.integers(1, 40))
def test_a_reduced_curve_is_within_its_values(values: list[float], points: int) -> None:
    found = index.reduced(values, points)
    assert len(found) == min(points, len(values))
    known = [value for value in values if math.isfinite(value)]
    for each in found:
        if math.isfinite(each):
            assert min(known) - 1e-9 * abs(min(known)) <= each <= max(known) + 1e-9 * abs(max(known))
    shape = index.shape_values(index.shape_of(values))
    means = index.reduced(values, index.CURVE_POINTS)
    assert [math.isnan(each) for each in shape] == [math.isnan(each) for each in means]
    assert all(0 <= each <= 93 for each in shape if math.isfinite(each))
