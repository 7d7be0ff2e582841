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
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.privacy import keep_private, mask_output
from tui_lab.runs import launch
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.queue import queue, workers
from tui_lab.runs.queue.queue import Queue, QueueEntry, QueueItem

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
        nothing = now.held or not any(item.state == "queued" for item in found)
        if nothing:
            return 0 if self._leave() else POLL_S
        running = [item for item in found if item.state == "running"]
        if len(running) >= max(1, len(now.workers)):
            return POLL_S
        if now.waits and queue.live_others(found, self.directory):
            return OTHERS_POLL_S
        self._start(next(item for item in found if item.state == "queued"), [each.entry for each in running])
        return POLL_S

    def _leave(self) -> bool:
        """Releases the runner's lock unless a run was added meanwhile. Both happen under the queue's lock, so
        that an added run is either seen here or starts a new runner."""
        with queue.changing(self.directory):
            now = queue.read(self.directory)
            if not now.held and any(item.state == "queued" for item in queue.items(self.directory)):
                return False
            os.close(self.descriptor)
            return True

    def _start(self, item: QueueItem, running: Sequence[QueueEntry]) -> None:
        """Counts the start, moves the folder among the runs and starts the process on the device of an idle
        worker. If the runner is killed between two of these, the next one continues from there. The queue's
        lock is held all the time: an entry that was removed meanwhile is not started."""
        run, entry = Run(self.directory / item.run.id), item.entry
        with queue.changing(self.directory) as write:
            now = queue.read(self.directory)
            if now.held or not any(each.run == run.id for each in now.entries):
                return
            device = _idle_device(now.workers, running, item.run) if now.workers else ""
            if device is None:
                return  # runs of former workers are in progress
            entry = replace(entry, starts=entry.starts + 1, device=device)
            write(_with_entry(now, entry))
            try:
                if item.run.path != run.path:
                    item.run.path.rename(run.path)
                environment: Mapping[str, str] = {} if entry.gpus is None else {queue.GPUS_ENV: entry.gpus}
                if device:
                    environment = workers.environment(device, now.workers)
                self._children.append(launch.start(run, environment=environment))
            except OSError as error:
                problem = f"its folder cannot be moved ({error.strerror})"
                write(_with_entry(now, replace(entry, problem=problem)))
            except LabError as error:
                if not is_locked(run):  # otherwise the user has just started it by hand
                    write(_with_entry(now, replace(entry, problem=str(error))))


def _idle_device(devices: tuple[str, ...], running: Sequence[QueueEntry], run: Run) -> str | None:
    try:
        recipe = run.recipe()
    except LabError:
        recipe = None  # its start says why
    return workers.free_device(devices, [entry.device for entry in running], recipe)


def _with_entry(now: Queue, entry: QueueEntry) -> Queue:
    """The queue with the entry of the same run replaced."""
    return replace(now, entries=tuple(entry if each.run == entry.run else each for each in now.entries))


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
