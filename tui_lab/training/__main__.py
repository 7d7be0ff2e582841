"""``python -m tui_lab.training RUN_DIR``: the run process. Its only outputs are its run folder.

Everything heavy is imported after the first event is written, so that watchers see the run begin at
once. The process ignores SIGHUP, takes SIGTERM as a request to stop, and whatever goes wrong ends the
event log with one sentence; the traceback goes to ``worker.log``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from tui_lab.errors import LabError
from tui_lab.out_of_memory import is_out_of_memory
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock
from tui_lab.runs.launch import LOCK_ENV

#: Below the lab, so that keys are answered while a run and its data loaders compute.
NICENESS = 5


def main(arguments: list[str]) -> int:
    """Runs the recipe of a run folder; 0 when it finished or was stopped as asked."""
    if len(arguments) != 1:
        print("usage: python -m tui_lab.training RUN_DIR", file=sys.stderr)  # noqa: T201
        return 2
    run = Run(Path(arguments[0]).resolve())
    if not run.recipe_path.is_file():
        print(f"{run.path}: there is no recipe.toml in this folder", file=sys.stderr)  # noqa: T201
        return 2
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    try:
        if LOCK_ENV not in os.environ:
            RunLock.take(run)  # held until the process ends
        else:
            os.environ.pop(LOCK_ENV)  # the launcher's descriptor is open here and holds the lock
        events = EventWriter(run.events_path)
    except (LabError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return _work(run, events)


def _work(run: Run, events: EventWriter) -> int:
    # an optional faster kernel that is not installed is no news for whoever reads the log's last words
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    try:
        from tui_lab.training import memory_limit
        from tui_lab.training.attempt import Attempt

        attempt = Attempt(run, events)
        signal.signal(signal.SIGTERM, lambda *_: attempt.ask_to_stop())
        with memory_limit.limited():
            return attempt.run_to_end()
    except LabError as error:
        return _failed(events, str(error), {})
    except Exception as error:
        traceback.print_exc()
        if is_out_of_memory(error):
            message = (
                "out of memory before the steps, which would know how to go on: close what else uses this "
                "card or machine, or take a smaller model, a base in 4 bits (quantization = 'nf4') or a "
                "lower max_length"
            )
        else:
            message = (
                f"{type(error).__name__}: {str(error).strip() or 'no message'} (worker.log has the details)"
            )
        return _failed(events, message, {})


def _failed(events: EventWriter, message: str, extra: dict[str, Any]) -> int:
    try:
        events.write("end", state="failed", message=message, **extra)
    except OSError as error:  # the disk is full or the folder is gone: the log is all that is left
        print(f"{message}; and the end could not be written: {error}", file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
