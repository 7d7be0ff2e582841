"""What commands print with ``--json``: one record per kind of answer."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from tui_lab.core.errors import LabError
from tui_lab.retention.statistics import Interval
from tui_lab.runs import notes
from tui_lab.runs.event_parts import Acquisition
from tui_lab.runs.folder import Run
from tui_lab.runs.index import RunSummary
from tui_lab.runs.queue import sweep
from tui_lab.runs.queue.queue import QueueItem
from tui_lab.runs.queue.sweep import SweepValues
from tui_lab.runs.schema import EndEvent
from tui_lab.runs.state import Watcher

# --------------------------------------------------------------------------------------------------
# errors


class ErrorDetail(Struct, kw_only=True, frozen=True):
    """What went wrong, in one sentence. ``hint``: where to read on, or the usage of the command."""

    message: str
    hint: str
    exit_code: int


class CommandError(Struct, tag_field="kind", tag="error", kw_only=True, frozen=True):
    """The last line of a command that could not do what it was asked."""

    v: int = 1
    error: ErrorDetail


# --------------------------------------------------------------------------------------------------
# runs


class RunResult(Struct, tag_field="kind", tag="result", kw_only=True, frozen=True):
    """The result of a run: the newest values while it is in progress, the final ones once it has ended.
    ``saved``: the path of the adapter or model; memory in bytes, energy in joules."""

    run: str
    path: str
    state: str
    step: int
    total_steps: int
    seconds: float | None
    train_loss: float | None
    validation_loss: float | None
    acquisition: Acquisition
    peak_memory: dict[str, float]
    flops_per_token: float | None
    mfu: float | None
    energy_j: float | None
    saved: str | None
    message: str


class ListedRun(Struct, kw_only=True, frozen=True):
    """What ``tui-lab runs`` adds to a result; the recipe's fields only where it is readable."""

    model: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    preset: str | UnsetType = UNSET
    started_at: float | None
    problem: str
    name: str
    tags: tuple[str, ...]
    note: str


def result_of(run: Run, watcher: Watcher, status: str) -> RunResult:
    """The result of a run whose log ``watcher`` has read."""
    state, end = watcher.state, watcher.state.end or EndEvent()
    saved = state.saved.path if state.saved else ""
    last_loss = state.loss.values[-1] if state.loss.values else None
    last_validation = state.validation.values[-1] if state.validation.values else None
    return RunResult(
        run=run.id,
        path=str(run.path),
        state=status,
        step=state.step if end.step is None else end.step,
        total_steps=state.total_steps,
        seconds=end.seconds,
        train_loss=last_loss if end.train_loss is None else end.train_loss,
        validation_loss=last_validation if end.validation_loss is None else end.validation_loss,
        acquisition=end.acquisition,
        peak_memory=dict(end.peak_memory) or state.peak_memory,
        flops_per_token=end.flops_per_token,
        mfu=end.mfu,
        energy_j=state.telemetry.energy_j if end.energy_j is None else end.energy_j,
        saved=str(run.path / saved) if saved else None,
        message=end.message,
    )


def listed_run(run: Run, watcher: Watcher) -> ListedRun:
    """Recipe, start and notes of a run whose log ``watcher`` has read."""
    recipe, written = watcher.recipe, notes.read(run)
    return ListedRun(
        model=recipe.model if recipe else UNSET,
        data=recipe.data if recipe else UNSET,
        preset=recipe.preset if recipe else UNSET,
        started_at=watcher.state.started_at or None,
        problem=watcher.problem,
        name=written.name,
        tags=written.tags,
        note=written.note,
    )


# --------------------------------------------------------------------------------------------------
# the queue


class QueuedRun(Struct, frozen=True):
    """A run that was added, with its values of the sweep."""

    run: str
    values: SweepValues


class Queued(Struct, tag_field="kind", tag="queued", kw_only=True, frozen=True):
    """The answer of ``queue add`` and ``train --queue``."""

    sweep: str | None
    held: bool
    runs: list[QueuedRun]


class QueueRow(Struct, kw_only=True, frozen=True):
    """One run of ``queue list``; ``problem`` only where its recipe cannot be read."""

    run: str
    state: str
    outcome: str
    reason: str
    added_at: float
    model: str = ""
    preset: str = ""
    data: str = ""
    problem: str | UnsetType = UNSET
    sweep: str | None
    values: SweepValues


class QueueList(Struct, kw_only=True, frozen=True):
    """The answer of ``queue list``. ``going``: whether the queue's process is running."""

    going: bool
    held: bool
    waits_for_others: bool
    runs: list[QueueRow]


class QueueStatus(Struct, tag_field="kind", tag="queue", kw_only=True, frozen=True):
    """The answer of ``queue start`` and ``queue stop``: the number of runs by state, and the running one."""

    held: bool
    queued: int
    running: int
    done: int
    failed: int
    run: str | None


class Removed(Struct, tag_field="kind", tag="removed", frozen=True):
    """The answer of ``queue remove``."""

    runs: list[str]


def queue_row(item: QueueItem) -> QueueRow:
    """A queued run with its recipe and its place in a sweep."""
    model = preset = data = ""
    problem: str | UnsetType = UNSET
    try:
        recipe = item.run.recipe()
        model, preset, data = recipe.model, recipe.preset, recipe.data
    except LabError as error:
        problem = str(error)
    place = sweep.place_of(item.run)
    return QueueRow(
        run=item.run.id,
        state=item.state,
        outcome=item.outcome,
        reason=item.reason,
        added_at=item.entry.added_at,
        model=model,
        preset=preset,
        data=data,
        problem=problem,
        sweep=place.sweep if place else None,
        values=place.values if place else {},
    )


# --------------------------------------------------------------------------------------------------
# a sweep


class SweepScore(Struct, frozen=True):
    """The task's own score before and after; NaN where unknown."""

    name: str
    start: float
    end: float


class SweepRow(Struct, kw_only=True, frozen=True):
    """One run of a sweep."""

    run: str
    state: str
    values: SweepValues
    train_loss: float
    validation_loss: float
    acquisition: SweepScore
    retention: Interval
    peak_memory_bytes: float
    peak_memory_of: str
    seconds: float
    message: str


class SweepResult(Struct, kw_only=True, frozen=True):
    """The answer of ``tui-lab sweep``. ``best``: the id of the best run by the criterion ``by``."""

    sweep: str
    by: str
    criterion: str
    best: str | None
    runs: list[SweepRow]


def sweep_row(run: RunSummary) -> SweepRow:
    """One run of a sweep, from its summary."""
    return SweepRow(
        run=run.id,
        state=run.state,
        values=run.sweep_values,
        train_loss=run.loss,
        validation_loss=run.validation,
        acquisition=SweepScore(run.score_name, run.score_start, run.score_end),
        retention=Interval(run.retention, run.retention_low, run.retention_high),
        peak_memory_bytes=run.peak_bytes,
        peak_memory_of=run.peak_of,
        seconds=run.seconds,
        message=run.message,
    )
