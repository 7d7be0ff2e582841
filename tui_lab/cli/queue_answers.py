"""What ``tui-lab queue`` and ``tui-lab sweep`` print with ``-o json``. Lists are under ``items``, and under
``runs`` too, where earlier versions had them."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from tui_lab.cli.output import Answer
from tui_lab.core.errors import LabError
from tui_lab.retention.statistics import Interval
from tui_lab.runs.index import RunSummary
from tui_lab.runs.queue import sweep
from tui_lab.runs.queue.queue import QueueItem
from tui_lab.runs.queue.sweep import SweepValues
from tui_lab.runs.queue.workers import WorkerForecast


class QueuedRun(Struct, frozen=True):
    """A run that was added, with its values of the sweep."""

    run: str
    values: SweepValues


class Queued(Answer, tag="queued", kw_only=True, frozen=True):
    """The answer of ``queue add`` and ``train --queue``."""

    sweep: str | None
    held: bool
    items: list[QueuedRun]
    runs: list[QueuedRun]


class QueueableRuns(Answer, tag="queue_dry_run", kw_only=True, frozen=True):
    """What ``train --queue --dry-run`` would append: the values of each run's sweep."""

    items: list[SweepValues]


class QueueRow(Struct, kw_only=True, frozen=True):
    """One run of ``queue list``; ``problem`` only where its recipe cannot be read. ``device``: of the worker
    that started it, "" without workers; ``job``: as engine:number, "" without a cluster."""

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
    device: str
    job: str


class QueueList(Answer, tag="queue_list", kw_only=True, frozen=True):
    """The answer of ``queue list``. ``going``: whether the queue's process is running."""

    going: bool
    held: bool
    waits_for_others: bool
    items: list[QueueRow]
    runs: list[QueueRow]


class QueueStatus(Answer, tag="queue", kw_only=True, frozen=True):
    """The answer of ``queue start`` and ``queue stop``: the number of runs by state, and the first that is
    running. ``workers``: with ``queue start``, what the waiting runs need on the device of each worker."""

    held: bool
    queued: int
    running: int
    done: int
    failed: int
    run: str | None
    workers: list[WorkerForecast]


class Removed(Answer, tag="removed", kw_only=True, frozen=True):
    """The answer of ``queue remove``: the ids of the runs."""

    items: list[str]
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
        device=item.entry.device,
        job=item.entry.job,
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


class SweepResult(Answer, tag="sweep", kw_only=True, frozen=True):
    """The answer of ``tui-lab sweep``. ``best``: the id of the best run by the criterion ``by``."""

    sweep: str
    by: str
    criterion: str
    best: str | None
    items: list[SweepRow]
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
