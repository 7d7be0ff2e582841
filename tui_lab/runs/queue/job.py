"""What a job of a cluster executes: it takes its entry from the queue, starts the run on its machine and
waits for its end. The folder of the runs is one that all machines share."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.privacy import keep_private, mask_output
from tui_lab.hardware.cuda_support import GPUS_ENV
from tui_lab.runs import launch
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import queue

#: Signals that ask a run to stop: before the time limit, at a cancellation, at an interruption.
SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


def execute(directory: str, name: str) -> int:
    """Executes the run ``name`` of the queue; its exit status. Raises LabError where it is not waiting any
    more: it was removed, the queue is held, or another job has taken it."""
    keep_private()
    mask_output()
    child: subprocess.Popen[bytes] | None = None
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        if child is not None:
            child.terminate()

    for number in SIGNALS:  # in place of submitit's, which would submit the job again
        signal.signal(number, stop)
    child = _start(Path(directory), name)
    if stopped:  # while it was started
        child.terminate()
    return child.wait()


def _start(directory: Path, name: str) -> subprocess.Popen[bytes]:
    """Moves the run's folder among the runs and starts its process, under the queue's lock."""
    with queue.changing(directory) as write:
        now = queue.read(directory)
        entry = next((each for each in now.entries if each.run == name), None)
        item = queue.item_of(entry, directory) if entry is not None else None
        if entry is None or item is None or item.state != "queued":
            raise LabError(f"run {name} does not wait in the queue any more")
        if now.held:
            write(queue.with_entry(now, replace(entry, job="")))
            raise LabError(f"run {name} goes back into the queue, which is held")
        run = Run(directory / name)
        if item.run.path != run.path:
            item.run.path.rename(run.path)
        environment: dict[str, str] = {}
        # the local executor hides all GPUs; Slurm chooses those of its jobs
        if os.environ.get("SUBMITIT_EXECUTOR") == "local":
            os.environ.pop(GPUS_ENV, None)
            environment = entry.environment
        return launch.start(run, environment=environment)
