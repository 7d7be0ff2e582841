"""The queue's process: ``python -m tui_lab.runs.queue.runner RUNS_DIR [LOCK_FD]``. It starts the next run
when a worker is idle (without workers: when the previous run has ended in any way), and exits when no run
waits or the queue is held.

It runs in its own session and outlives the lab and the terminal. It has no state in memory: killed and
started again, it continues from the files. One process at most holds the lock; the runs are separate
processes and outlive it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.privacy import keep_private, mask_output
from tui_lab.runs import launch
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.queue import cluster, job, queue, workers
from tui_lab.runs.queue.cluster import Cluster
from tui_lab.runs.queue.queue import QueueEntry, QueueItem

#: Interval of polling the current run, seconds: one try at its lock.
POLL_S = 0.5
#: Interval of polling all runs while one that was started by hand is running.
OTHERS_POLL_S = 2.0


class Runner:
    """Executes the queue of ``directory``. ``descriptor``: of the runner's lock, which is held."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self.descriptor = descriptor
        self._children: list[subprocess.Popen[bytes]] = []

    def go(self) -> None:
        """Runs until no run is left to start."""
        while (wait_s := self.turn()) > 0:
            time.sleep(wait_s)

    def turn(self) -> float:
        """One step: starts a run if possible. Returns the seconds until the next step, 0 at the end."""
        self._children = [child for child in self._children if child.poll() is None]  # reaps those that ended
        found = queue.items(self.directory)
        now = queue.read(self.directory)
        submitted = [item for item in found if item.entry.job and item.state in ("queued", "running")]
        for each in submitted:
            if each.state == "queued":
                self._check_job(each.entry)
        item = next((each for each in found if each.state == "queued" and not each.entry.job), None)
        if now.held or item is None:
            return 0 if not submitted and self._leave() else POLL_S
        if now.cluster is not None:
            if not now.cluster.jobs or len(submitted) < now.cluster.jobs:
                self._submit(item, now.cluster)
            return POLL_S
        running = [item for item in found if item.state == "running"]
        if len(running) >= max(1, len(now.workers)):
            return POLL_S
        if now.waits and queue.live_others(found, self.directory):
            return OTHERS_POLL_S
        self._start(item, now.workers, [each.entry.device for each in running])
        return POLL_S

    def _leave(self) -> bool:
        """Releases the runner's lock unless a run was added meanwhile. Both happen under the queue's lock, so
        that an added run is either seen here or starts a new runner."""
        with queue.changing(self.directory):
            now = queue.read(self.directory)
            found = queue.items(self.directory)
            if not now.held and any(item.state == "queued" for item in found):
                return False
            cluster.tidy(queue.jobs_folder(self.directory), [item.entry.job for item in found])
            os.close(self.descriptor)
            return True

    def _start(self, item: QueueItem, devices: tuple[str, ...], busy: Sequence[str]) -> None:
        """Counts the start, moves the folder among the runs and starts the process on the device of an idle
        worker. If the runner is killed between two of these, the next one continues from there. The queue's
        lock is held for that, but not while the device is chosen, which asks the driver: an entry that was
        removed meanwhile is not started, and one whose workers changed waits for the next turn."""
        run, entry = Run(self.directory / item.run.id), item.entry
        device = workers.free_device(devices, busy, workers.recipe_of(item.run)) if devices else ""
        if device is None:
            return  # runs of former workers are in progress
        with queue.changing(self.directory) as write:
            now = queue.read(self.directory)
            is_gone = not any(each.run == run.id for each in now.entries)
            if now.held or is_gone or now.workers != devices:
                return
            entry = replace(entry, starts=entry.starts + 1, device=device)
            write(queue.with_entry(now, entry))
            try:
                if item.run.path != run.path:
                    item.run.path.rename(run.path)
                environment = workers.environment(device, devices) if device else entry.environment
                self._children.append(launch.start(run, environment=environment))
            except OSError as error:
                problem = f"its folder cannot be moved ({error.strerror})"
                write(queue.with_entry(now, replace(entry, problem=problem)))
            except LabError as error:
                if not is_locked(run):  # otherwise the user has just started it by hand
                    write(queue.with_entry(now, replace(entry, problem=str(error))))

    # ------------------------------------------------------------------ jobs of a cluster

    def _submit(self, item: QueueItem, where: Cluster) -> None:
        """Submits a run. Raises LabError where it is refused, which ends the queue's process: the next one
        would be refused too. The job of an entry that was removed meanwhile is cancelled, and so is that of a
        run that still waits in a queue that is held now."""
        recipe = item.run.recipe()
        gpus = 0 if recipe.device == "cpu" else recipe.num_processes
        folder = queue.jobs_folder(self.directory)
        name = cluster.submit(where, folder, gpus, job.execute, str(self.directory), item.run.id)
        with queue.changing(self.directory) as write:
            now = queue.read(self.directory)
            still = queue.item_of(item.entry, self.directory)
            waits = still is not None and still.state == "queued"
            if any(each.run == item.run.id for each in now.entries) and not (now.held and waits):
                write(queue.with_entry(now, replace(item.entry, job=name)))
                return
        cluster.cancel(name)

    def _check_job(self, entry: QueueEntry) -> None:
        """Marks a run that still waits although its job has ended."""
        folder = queue.jobs_folder(self.directory)
        if not cluster.has_ended(entry.job, folder):
            return
        with queue.changing(self.directory) as write:
            now = queue.read(self.directory)
            item = queue.item_of(entry, self.directory)
            if entry in now.entries and item is not None and item.state == "queued":
                log = cluster.log_path(entry.job, folder)
                problem = f"its job {entry.job} ended before the run began; the log is {log}"
                write(queue.with_entry(now, replace(entry, problem=problem)))


def main(arguments: list[str]) -> int:
    """Executes the queue; 0 when no run is left, or another process executes it."""
    keep_private()
    mask_output()
    directory = Path(arguments[0])
    for number in (signal.SIGHUP, signal.SIGINT):
        # a closed terminal or Ctrl+C does not end the queue; a handler, because runs would inherit SIG_IGN
        signal.signal(number, lambda *_: None)
    if len(arguments) < 2:  # started by hand: the launcher takes the lock
        queue.start_runner(directory)
        return 0
    descriptor = int(arguments[1])
    os.set_inheritable(descriptor, False)
    try:
        Runner(directory, descriptor).go()
    except LabError as error:
        print(error, file=sys.stderr)  # noqa: T201 (runner.log, which `queue list` reads)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
