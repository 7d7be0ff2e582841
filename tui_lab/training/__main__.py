"""``python -m tui_lab.training RUN_DIR``: the run process. Its only outputs are its run folder.

Heavy libraries are imported after the folder is locked, so that watchers see the run begin at once. The
process ignores SIGHUP and takes SIGTERM as a request to stop. An error ends the event log with one sentence;
its traceback goes to ``worker.log``.
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

from tui_lab.core import gpu_errors
from tui_lab.core.errors import LabError
from tui_lab.core.imports import without_collections
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.core.privacy import keep_private, mask_output
from tui_lab.hardware import memory_budget
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock
from tui_lab.runs.launch import LOCK_ENV
from tui_lab.runs.schema import EndEvent
from tui_lab.runs.storage import Reserve, explain
from tui_lab.training import distributed

#: cuBLAS is deterministic with workspaces of these sizes (torch.use_deterministic_algorithms).
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
#: Lower priority than the lab, so that it stays responsive while a run computes.
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
    keep_private()
    mask_output()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    faulthandler.enable()  # writes a traceback on a segmentation fault
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    if distributed.rank():
        return _work_as_other_process(run)
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
    _notify(run)
    return code


def _notify(run: Run) -> None:
    """Tells the user that the run has ended, as the settings ask for; what fails goes to ``worker.log``."""
    from tui_lab.runs import notify
    from tui_lab.runs.state import Watcher

    if not any(os.environ.get(name) for name in (notify.COMMAND_ENV, notify.WEBHOOK_ENV)):
        return
    watcher = Watcher(run)
    watcher.read_all()
    for problem in notify.send(notify.ended(watcher), os.environ):
        print(problem, file=sys.stderr)  # noqa: T201


def _report(run: Run, code: int) -> None:
    """Writes the run's report after the end. A report that cannot be written does not fail the run, and after
    a failure its message must not follow the reason."""
    from tui_lab.report import write

    problem = write.write_at_end(run)
    if problem and code == 0:
        print(problem, file=sys.stderr)  # noqa: T201


def _work_as_other_process(run: Run) -> int:
    """The work of a process that is not the first: the same steps, without writing to the run's log."""
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


def _take_device(recipe: Recipe) -> None:
    """Shows torch, which is not imported yet, one GPU, or none where the recipe wants the CPU. With several
    the Trainer would split each batch over them (DataParallel). Raises LabError where torch cannot use the
    GPU."""
    if recipe.device == "cpu" or distributed.size() == 1:
        memory_budget.take_gpu(recipe.device)
    if recipe.deterministic:
        os.environ.setdefault(*CUBLAS_WORKSPACE)


def _work(run: Run, events: EventWriter, reserve: Reserve) -> int:
    # warnings about optional kernels would hide the last lines of the log
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        _take_device(run.recipe())
        with without_collections():
            from tui_lab.training import interruption, memory_limit
            from tui_lab.training.attempt import open_attempt, run_attempt

        context = open_attempt(run, events)

        if signals:  # while the libraries were imported
            context.commands.stop_requested = True
        if distributed.rank():  # the first process decides; a launcher signals all of them
            signal.signal(signal.SIGTERM, lambda *_: None)
        else:
            interruption.stop_at_signals(context.commands)
        with memory_limit.limited():
            return run_attempt(context)
    except LabError as error:
        return _failed(run, events, reserve, str(error))
    except Exception as error:  # noqa: BLE001 - every error of a run ends its log with a sentence
        with contextlib.suppress(OSError):  # worker.log is on the same disk
            traceback.print_exc()
        if message := explain(error, run):
            pass
        elif is_out_of_memory(error) and distributed.size() > 1:
            message = (
                f"out of memory on process {distributed.rank()}: splitting a step that does not fit works "
                "for a single process only; lower per_device_train_batch_size and raise "
                "gradient_accumulation_steps, "
                "set gradient_checkpointing = true, or lower max_length"
            )
        elif is_out_of_memory(error):
            from tui_lab.hardware.cuda_memory import memory_of_others

            others = memory_of_others()
            message = "out of memory before the first step, where nothing can be split: " + (
                f"{others}: end them, then resume"
                if others
                else "close what else uses this card or machine, or take a smaller model, a base in 4 bits "
                "(quantization = 'nf4') or a lower max_length"
            )
        elif message := gpu_errors.explain(error):
            message += " (`tui-lab resume`)"
        elif distributed.is_lost_connection(error):
            message = (not distributed.rank() and distributed.exit_reason_of_others(run)) or (
                "another process of this run ended without a reason (worker.log may have one); "
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
    reserve.give_back()  # so that a full disk has room for the end
    try:
        events.write(EndEvent(state="failed", message=message))
    except OSError as error:  # the folder is gone or cannot be written: only worker.log is left
        with contextlib.suppress(OSError):
            print(f"{message}; and the end could not be written: {error}", file=sys.stderr)  # noqa: T201
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
