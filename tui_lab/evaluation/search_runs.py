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
from functools import partial
from pathlib import Path

import msgspec

from tui_lab.core import job_client
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.evaluation.records import SweepRequest
from tui_lab.evaluation.search_settings import SearchSettings, SearchValues
from tui_lab.retention.stored import StrengthCurve
from tui_lab.runs import commands, folder, launch
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import sweep
from tui_lab.runs.schema import EndEvent
from tui_lab.runs.searches import Pilot, PilotPoint
from tui_lab.runs.state import Watcher

STRENGTH_JOB = "tui_lab.evaluation.strength_sweep"
POLL_S = 0.5
#: A run that was asked to stop gets this share of the budget, and at most these seconds; then it is killed.
STOPPING_SHARE, STOPPING_S = 0.01, 30.0


class SearchRuns:
    """Measures pilots of a search."""

    def __init__(self, settings: SearchSettings, directory: Path | None, on_progress: OnProgress) -> None:
        self._settings, self._directory, self._on_progress = settings, directory, on_progress
        self._count = 0

    def __call__(
        self,
        values: SearchValues,
        steps: int,
        seed: int,
        strengths: tuple[float, ...],
        is_over: Callable[[], bool],
        *,
        confirms: bool,
    ) -> Pilot | None:
        """As :class:`tui_lab.evaluation.search.Measure`. Raises LabError where no run can be made."""
        settings = self._settings
        began = time.monotonic()
        run = self._train({**values, "max_steps": steps, "seed": seed}, is_over)
        if run is None:
            return None
        end = Watcher(run).read_all().end or EndEvent()
        pilot = Pilot(trial=-1, rung=0, steps=steps, seed=seed, values=values, run=run.id, seconds=0.0)
        if not _has_weights(run):
            problem = end.message or "it ended without weights"
            return msgspec.structs.replace(pilot, problem=f"run {run.id}: {problem}")
        request = SweepRequest(
            run=str(run.path),
            suite=settings.suite,
            strengths=strengths,
            keep=settings.keep,
            limit=0 if confirms else settings.items,
            until_kept="listed" if confirms else "halved",
        )
        curve = asyncio.run(self._measured(request, is_over))
        if curve is None:
            return None
        points = [
            PilotPoint(point.strength, point.acquisition, point.headline, point.acquisition_interval)
            for point in reversed(curve.points)
            if point.strength in strengths or (point.strength and not confirms)
        ]
        if all(math.isnan(point.retention.low) for point in points):
            raise LabError(
                f"the base is too near to guessing on {settings.suite}, so no promise about it can be kept; "
                "name another suite with --suite"
            )
        base = next((point.acquisition for point in curve.points if point.strength == 0), math.nan)
        took, ran = time.monotonic() - began, end.seconds or 0.0
        return msgspec.structs.replace(
            pilot,
            points=points,
            base=base,
            train_share=min(1.0, (end.trained_s or 0.0) / took),
            power_w=end.energy_j / ran if end.energy_j and ran else None,
        )

    def _train(self, changes: dict[str, object], is_over: Callable[[], bool]) -> Run | None:
        """The trained run; None where the budget ended first. A run of an earlier process is used, and goes
        on where it was stopped or killed."""
        self._count += 1
        run = self._earlier(changes)
        if run is None:
            run = folder.create(self._settings.recipe(changes), self._directory)
            sweep.write_place(run, sweep.SweepPlace(self._settings.search, self._count, 0, changes))
        pid = 0
        wait: Callable[[], int | None] = partial(_has_ended, run)
        if not folder.is_locked(run) and not (Watcher(run).status == "finished" and _has_weights(run)):
            process = launch.start(run)
            pid, wait = process.pid, process.poll
        while wait() is None:
            if is_over():
                self._stop(run, pid, wait)
                return None
            time.sleep(POLL_S)
        return run

    def _earlier(self, changes: dict[str, object]) -> Run | None:
        """A run of this search with the same values that did not fail."""
        for run in folder.list_runs(self._directory):
            place = sweep.place_of(run)
            if place is None or place.sweep != self._settings.search or place.values != changes:
                continue
            if Watcher(run).status != "failed":
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

    async def _measured(self, request: SweepRequest, is_over: Callable[[], bool]) -> StrengthCurve | None:
        """The curve; None where the budget ended first: the job is killed."""
        job = asyncio.create_task(job_client.run_job(STRENGTH_JOB, request, answer=StrengthCurve))
        while True:
            done, _ = await asyncio.wait({job}, timeout=POLL_S)
            if done:
                return job.result()
            if is_over():
                job.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await job
                return None


def _has_ended(run: Run) -> int | None:
    """0 for a run that no process holds, as :meth:`subprocess.Popen.poll`."""
    return None if folder.is_locked(run) else 0


def _has_weights(run: Run) -> bool:
    return run.adapter_path.is_dir() or run.model_path.is_dir()
