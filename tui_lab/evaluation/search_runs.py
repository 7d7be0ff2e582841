"""Pilots of a search as runs: each is trained in a process of its own, and its strengths are measured by
the job of ``tui-lab strength``. A run that a killed search left behind is waited for or used, not trained
again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.evaluation.records import SweepRequest
from tui_lab.evaluation.search_plan import Pilot, PilotPoint
from tui_lab.evaluation.search_settings import SearchSettings, SearchValues
from tui_lab.retention.stored import StrengthCurve
from tui_lab.runs import commands, folder, launch
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import sweep
from tui_lab.runs.state import ENDED, Watcher

STRENGTH_JOB = "tui_lab.evaluation.strength_sweep"
POLL_S = 0.5
#: A run that was asked to stop gets this share of the budget, and at most these seconds; then it is killed.
STOPPING_SHARE, STOPPING_S = 0.01, 30.0


class SearchRuns:
    """Measures pilots of a search. ``clock`` counts what its budget counts: seconds."""

    def __init__(
        self,
        settings: SearchSettings,
        directory: Path | None,
        on_progress: OnProgress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._directory = settings, directory
        self._on_progress, self._clock = on_progress, clock
        self._count = 0

    def __call__(
        self,
        values: SearchValues,
        steps: int,
        seed: int,
        strengths: tuple[float, ...],
        deadline: float,
        *,
        confirms: bool,
    ) -> Pilot | None:
        """As :class:`tui_lab.evaluation.search.Measure`. Raises LabError where no run can be made."""
        settings = self._settings
        run = self._train({**values, "max_steps": steps, "seed": seed}, deadline)
        if run is None:
            return None
        state = Watcher(run).read_all()
        energy_j = state.end.energy_j if state.end is not None else None
        pilot = Pilot(
            trial=-1, rung=0, steps=steps, seed=seed, values=values, run=run.id, seconds=0.0,
            energy_j=energy_j,
        )  # fmt: skip
        if not run.adapter_path.is_dir() and not run.model_path.is_dir():
            message = state.end.message if state.end is not None else "it ended without weights"
            return msgspec.structs.replace(pilot, problem=f"run {run.id}: {message}")
        request = SweepRequest(
            run=str(run.path),
            suite=settings.suite,
            strengths=strengths,
            keep=settings.keep,
            limit=0 if confirms else settings.items,
        )
        curve = asyncio.run(self._measured(request, deadline))
        if curve is None:
            return None
        points = [
            PilotPoint(point.strength, point.acquisition, point.headline, point.acquisition_interval)
            for point in curve.points
            if point.strength in strengths
        ]
        if all(math.isnan(point.retention.low) for point in points):
            raise LabError(
                f"the base is too near to guessing on {settings.suite}, so no promise about it can be kept; "
                "name another suite with --suite"
            )
        base = next((point.acquisition for point in curve.points if point.strength == 0), math.nan)
        return msgspec.structs.replace(pilot, points=points, base=base)

    def _train(self, changes: dict[str, object], deadline: float) -> Run | None:
        """The trained run; None where the deadline came first. A run of an earlier process is used."""
        self._count += 1
        run = self._earlier(changes)
        pid = 0
        if run is None:
            run, process = launch.create_and_start(self._settings.recipe(changes), self._directory)
            sweep.write_place(run, sweep.SweepPlace(self._settings.search, self._count, 0, changes))
            pid, wait = process.pid, process.poll
        else:
            found = run
            wait = lambda: None if folder.is_locked(found) else 0  # noqa: E731
        while wait() is None:
            if self._clock() >= deadline:
                self._stop(run, pid, wait)
                return None
            time.sleep(POLL_S)
        return run

    def _earlier(self, changes: dict[str, object]) -> Run | None:
        """A run of this search with the same values that ended well or is in progress."""
        for run in folder.list_runs(self._directory):
            place = sweep.place_of(run)
            if place is None or place.sweep != self._settings.search or place.values != changes:
                continue
            ended = Watcher(run).status in ENDED
            if folder.is_locked(run) or (ended and run.adapter_path.is_dir()):
                return run
        return None

    def _stop(self, run: Run, pid: int, wait: Callable[[], int | None]) -> None:
        """Ends a run because the budget has ended: it may save what it learned, for a moment."""
        self._on_progress(f"the budget has ended: stopping run {run.id}")
        commands.send(run, "stop")
        until = time.monotonic() + min(STOPPING_S, STOPPING_SHARE * self._settings.budget_s)
        while wait() is None and time.monotonic() < until:
            time.sleep(min(POLL_S, 0.1))
        if wait() is None and pid:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            wait()

    async def _measured(self, request: SweepRequest, deadline: float) -> StrengthCurve | None:
        """The curve; None where the deadline came first: the job is killed."""
        job = asyncio.create_task(job_client.run_job(STRENGTH_JOB, request, answer=StrengthCurve))
        while True:
            done, _ = await asyncio.wait({job}, timeout=POLL_S)
            if done:
                return job.result()
            if self._clock() >= deadline:
                job.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await job
                return None
