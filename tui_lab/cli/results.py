"""The results of runs, as commands print them with ``-o json``."""

from __future__ import annotations

from pathlib import Path

from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from tui_lab.cli.output import Answer
from tui_lab.core.format import finite
from tui_lab.runs import notes
from tui_lab.runs.event_parts import Acquisition
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import EndEvent
from tui_lab.runs.state import Watcher


class RunResult(Answer, tag="result", kw_only=True, frozen=True):
    """The result of a run: the newest values while it is in progress, the final ones once it has ended.
    ``overfitting_gap``: (training − held-out accuracy) / training accuracy of tokens at the last validation.
    ``saved``: the path of the adapter or model; memory in bytes, energy in joules."""

    run: str
    path: str
    state: str
    step: int
    total_steps: int
    seconds: float | None
    train_loss: float | None
    validation_loss: float | None
    overfitting_gap: float | None
    acquisition: Acquisition
    peak_memory: dict[str, float]
    flops_per_token: float | None
    mfu: float | None
    energy_j: float | None
    saved: str | None
    message: str


class ListedRun(RunResult, tag="result", kw_only=True, frozen=True):
    """A run of ``tui-lab runs``: its result, and the recipe's fields where that is readable. ``from_run``:
    the id of the run that it goes on from, or ""; ``frozen_rank``: the rank of that run's adapter where a new
    one was trained beside it, else 0."""

    model: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    preset: str | UnsetType = UNSET
    from_run: str = ""
    frozen_rank: int = 0
    started_at: float | None
    problem: str
    name: str
    tags: tuple[str, ...]
    note: str


class RunsAnswer(Answer, tag="runs", kw_only=True, frozen=True):
    """The runs, newest first."""

    items: list[ListedRun]


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
        overfitting_gap=finite(state.overfitting_gap),
        acquisition=end.acquisition,
        peak_memory=dict(end.peak_memory) or state.peak_memory,
        flops_per_token=end.flops_per_token,
        mfu=end.mfu,
        energy_j=state.telemetry.energy_j if end.energy_j is None else end.energy_j,
        saved=str(run.path / saved) if saved else None,
        message=end.message,
    )


def listed_run(run: Run, watcher: Watcher) -> ListedRun:
    """Result, recipe, start and notes of a run whose log ``watcher`` has read."""
    recipe, written = watcher.recipe, notes.read(run)
    return ListedRun(
        **asdict(result_of(run, watcher, watcher.status)),
        model=recipe.model if recipe else UNSET,
        data=recipe.data if recipe else UNSET,
        preset=recipe.preset if recipe else UNSET,
        from_run=Path(recipe.from_run).name if recipe else "",
        frozen_rank=recipe.frozen_rank if recipe else 0,
        started_at=watcher.state.started_at or None,
        problem=watcher.problem,
        name=written.name,
        tags=written.tags,
        note=written.note,
    )
