"""Stops a run at once while there is nothing to save: data are prepared, the model is loaded or measured.

Between the steps of a training a stop is a flag, see :mod:`tui_lab.training.control`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tui_lab.runs.schema import CommandEvent, EndEvent
from tui_lab.training.control import CommandProcessor

if TYPE_CHECKING:
    from tui_lab.training.attempt_records import AttemptContext

#: Seconds between two looks for commands.
POLL_S = 0.3
#: Seconds after a stop until the process ends, whatever the main thread does: code of a library that does not
#: return to Python cannot be interrupted.
END_AFTER_S = 15.0


class StopRequested(BaseException):  # no Exception: libraries catch those
    """A stop was asked for where the work can be left at once."""


class _Interruptible:
    """Whether the main thread may be interrupted now."""

    now = False


def stop_at_signals(commands: CommandProcessor) -> None:
    """Makes SIGTERM a request to stop. Only for the main thread."""

    def stop(*_: object) -> None:
        commands.stop_requested = True
        if _Interruptible.now:
            _Interruptible.now = False
            raise StopRequested

    signal.signal(signal.SIGTERM, stop)


@contextlib.contextmanager
def interruptible(context: AttemptContext) -> Iterator[None]:
    """Within the block a SIGTERM or the command "stop" raises StopRequested in the main thread."""
    if not context.group.is_main:
        yield
        return
    left = threading.Event()
    watch = threading.Thread(target=_watch, args=(context, left), name="stop", daemon=True)
    try:
        if context.commands.stop_requested:
            raise StopRequested
        _Interruptible.now = True
        watch.start()
        yield
    finally:
        _Interruptible.now = False
        left.set()
        if watch.ident is not None:
            watch.join()


def _watch(context: AttemptContext, left: threading.Event) -> None:
    """Waits for a stop, by a command or a signal, until the block is left."""
    inbox = context.commands.new_inbox()
    stop_id = ""
    while not (stop_id or context.commands.stop_requested or left.wait(POLL_S)):
        found = [each for each in inbox.poll() if each.id not in inbox.late]
        stop_id = next((each.id for each in found if each.name == "stop"), "")
    if left.is_set():
        return
    if stop_id:
        outcome = "stopped at once: there was nothing to save"
        context.events.write(CommandEvent(id=stop_id, name="stop", outcome=outcome))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    if not left.wait(END_AFTER_S):
        text = "stopped on request; a library did not return, so the process was ended; it can be resumed"
        context.events.write(EndEvent(state="stopped", step=context.from_step, message=text))
        os._exit(0)
