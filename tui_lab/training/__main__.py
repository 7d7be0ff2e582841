"""``python -m tui_lab.training RUN_DIR``: the run process. Its only outputs are its run folder.

Everything heavy is imported after the first event is written, so that watchers see the run begin at
once. The process ignores SIGHUP, takes SIGTERM as a request to stop, and whatever goes wrong ends the
event log with one sentence; the traceback goes to ``worker.log``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import FrameType

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.hardware import memory_budget
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock
from tui_lab.runs.launch import LOCK_ENV
from tui_lab.runs.schema import EndEvent
from tui_lab.runs.storage import Reserve, explain
from tui_lab.training import distributed

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
    faulthandler.enable()  # the last words of a process that dies of a segmentation fault
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    if distributed.rank():
        return _work_beside(run)
    reserve = Reserve(run)
    try:
        if LOCK_ENV not in os.environ:
            RunLock.take(run)  # held until the process ends
        else:
            os.environ.pop(LOCK_ENV)  # the launcher's descriptor is open here and holds the lock
        events = EventWriter(run.events_path)
    except (LabError, OSError) as error:
        print(explain(error, run) or error, file=sys.stderr)  # noqa: T201
        return 1
    try:
        reserve.hold()
    except OSError as error:
        return _failed(run, events, reserve, explain(error, run) or str(error))
    code = _work(run, events, reserve)
    reserve.give_back()
    _report(run, code)
    return code


def _report(run: Run, code: int) -> None:
    """The run's report, once its log has its end. What keeps it from being written is no fault of the run,
    and after a failure it must not stand where the reason does."""
    from tui_lab.report import write

    said = write.write_at_end(run)
    if said and code == 0:
        print(said, file=sys.stderr)  # noqa: T201


def _work_beside(run: Run) -> int:
    """The work of a process that is not the first: the same steps, and no word in the run's log."""
    number = distributed.rank()
    os.environ.pop(LOCK_ENV, None)
    sys.stdout = distributed.PrefixedStream(sys.stdout, f"[process {number}] ")
    sys.stderr = distributed.PrefixedStream(sys.stderr, f"[process {number}] ")
    try:
        distributed.write_exit_reason(run, number, "")
    except OSError as error:
        print(explain(error, run) or error, file=sys.stderr)  # noqa: T201
        return 1
    return _work(run, distributed.NullEventWriter(run.events_path), Reserve(run))


def _take_one_gpu() -> None:
    """One process computes on one GPU. Shown several, the Trainer would split each batch among them behind
    everybody's back (DataParallel); torch is not loaded yet, so it can be shown one."""
    if distributed.size() == 1:
        os.environ.update(memory_budget.current().environment)


def _work(run: Run, events: EventWriter, reserve: Reserve) -> int:
    # an optional faster kernel that is not installed is no news for whoever reads the log's last words
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        _take_one_gpu()
        from tui_lab.training import memory_limit
        from tui_lab.training.attempt import open_attempt, run_attempt

        context = open_attempt(run, events)

        def stop(number: int, frame: FrameType | None) -> None:
            if (
                not distributed.rank()
            ):  # the first process decides; a launcher sends the signal to each of them
                context.commands.stop_requested = True

        signal.signal(signal.SIGTERM, stop)
        if asked:  # while the libraries were loaded
            stop(asked[0], None)
        with memory_limit.limited():
            return run_attempt(context)
    except LabError as error:
        return _failed(run, events, reserve, str(error))
    except Exception as error:
        with contextlib.suppress(OSError):  # worker.log lies on the same disk
            traceback.print_exc()
        if message := explain(error, run):
            pass
        elif is_out_of_memory(error) and distributed.size() > 1:
            message = (
                f"out of memory on process {distributed.rank()}: what splits a step that does not fit works for a "
                "single process; lower per_device_train_batch_size and raise gradient_accumulation_steps, "
                "set gradient_checkpointing = true, or lower max_length"
            )
        elif is_out_of_memory(error):
            message = (
                "out of memory before the steps, which would know how to go on: close what else uses this "
                "card or machine, or take a smaller model, a base in 4 bits (quantization = 'nf4') or a "
                "lower max_length"
            )
        elif distributed.is_lost_connection(error):
            message = (not distributed.rank() and distributed.exit_reason_of_others(run)) or (
                "another process of this run went away without a word (worker.log may tell more); "
                "the run can be resumed from its last checkpoint"
            )
        else:
            message = (
                f"{type(error).__name__}: {str(error).strip() or 'no message'} (worker.log has the details)"
            )
        return _failed(run, events, reserve, message)


def _failed(run: Run, events: EventWriter, reserve: Reserve, message: str) -> int:
    with contextlib.suppress(OSError):
        if distributed.rank():
            distributed.write_exit_reason(run, distributed.rank(), message)
            print(message, file=sys.stderr)  # noqa: T201
    reserve.give_back()  # a full disk has room for the end now
    try:
        events.write(EndEvent(state="failed", message=message))
    except OSError as error:  # the folder is gone or takes nothing at all: worker.log is all that is left
        with contextlib.suppress(OSError):
            print(f"{message}; and the end could not be written: {error}", file=sys.stderr)  # noqa: T201
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
