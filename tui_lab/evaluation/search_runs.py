"""Pilots of a search as runs: each is trained in a process of its own, and its strengths are measured by
the job of ``tui-lab strength``. A run that a killed search left behind is waited for or used, not trained
again."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.evaluation.records import SweepRequest
from tui_lab.evaluation.search_plan import Pilot, PilotPoint
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.stored import StrengthCurve
from tui_lab.runs import commands, folder, launch
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import sweep
from tui_lab.runs.state import ENDED, Watcher

STRENGTH_JOB = "tui_lab.evaluation.strength_sweep"
POLL_S = 0.5
#: Seconds that a run gets to end after it was asked to stop.
STOPPING_S = 30.0


class SearchRuns:
    """Measures pilots of the search ``search``. ``recipe``: makes the recipe of values, steps and seed;
    ``items``: of the suite for a pilot, 0 for all; a confirmation always has all."""

    def __init__(
        self,
        search: str,
        recipe: Callable[[dict[str, object]], Recipe],
        suite: str,
        items: int,
        keep: float,
        directory: Path | None,
        on_progress: OnProgress,
    ) -> None:
        self._search, self._recipe, self._suite, self._items = search, recipe, suite, items
        self._keep, self._directory, self._on_progress = keep, directory, on_progress
        self._count = 0

    def __call__(
        self,
        values: dict[str, float | int | str],
        steps: int,
        seed: int,
        strengths: tuple[float, ...],
        deadline: float,
        *,
        confirms: bool,
    ) -> Pilot | None:
        """As :class:`tui_lab.evaluation.search.Measure`. Raises LabError where no run can be made."""
        changes: dict[str, object] = {**values, "max_steps": steps, "seed": seed}
        run = self._train(changes, deadline)
        if run is None:
            return None
        pilot = Pilot(trial=-1, rung=0, steps=steps, seed=seed, values=values, run=run.id, seconds=0.0)
        if not run.adapter_path.is_dir() and not run.model_path.is_dir():
            state = Watcher(run).read_all()
            message = state.end.message if state.end is not None else "it ended without weights"
            return msgspec.structs.replace(pilot, problem=f"run {run.id}: {message}")
        try:
            curve = self._measured(run, strengths, 0 if confirms else self._items, deadline)
        except TimeoutError:
            return None
        points = [
            PilotPoint(point.strength, point.acquisition, point.headline)
            for point in curve.points
            if point.strength in strengths
        ]
        if all(math.isnan(point.retention.low) for point in points):
            raise LabError(
                f"the base is too near to guessing on {self._suite}, so no promise about it can be kept; "
                "name another suite with --suite"
            )
        return msgspec.structs.replace(pilot, points=points)

    def _train(self, changes: dict[str, object], deadline: float) -> Run | None:
        """The trained run; None where the deadline came first. A run of an earlier process is used."""
        self._count += 1
        run = self._earlier(changes)
        if run is None:
            recipe = self._recipe({**changes, "stop_on_retention": True, "retention_threshold": self._keep})
            run, process = launch.create_and_start(recipe, self._directory)
            sweep.write_place(run, sweep.SweepPlace(self._search, self._count, 0, changes))
            wait = process.poll
        else:
            found = run
            wait = lambda: None if folder.is_locked(found) else 0  # noqa: E731
        while wait() is None:
            if time.monotonic() >= deadline:
                self._stop(run, wait)
                return None
            time.sleep(POLL_S)
        return run

    def _earlier(self, changes: dict[str, object]) -> Run | None:
        """A run of this search with the same values that ended well or is in progress."""
        for run in folder.list_runs(self._directory):
            place = sweep.place_of(run)
            if place is None or place.sweep != self._search or place.values != changes:
                continue
            ended = Watcher(run).status in ENDED
            if folder.is_locked(run) or (ended and run.adapter_path.is_dir()):
                return run
        return None

    def _stop(self, run: Run, wait: Callable[[], int | None]) -> None:
        """Ends a run because the budget has ended; it saves what it learned."""
        self._on_progress(f"the budget has ended: stopping run {run.id}")
        commands.send(run, "stop")
        until = time.monotonic() + STOPPING_S
        while wait() is None and time.monotonic() < until:
            time.sleep(POLL_S)

    def _measured(self, run: Run, strengths: tuple[float, ...], items: int, deadline: float) -> StrengthCurve:
        request = SweepRequest(
            run=str(run.path), suite=self._suite, strengths=strengths, keep=self._keep, limit=items
        )

        async def measure() -> StrengthCurve:
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                return await job_client.run_job(STRENGTH_JOB, request, answer=StrengthCurve)

        return asyncio.run(measure())
