"""Ends the lab on SIGTERM and SIGHUP (terminal closed) as its Quit key does: the terminal is restored,
and the lab's child processes end."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from tui_lab.ui.terminal.textual_internals import discard_output, exit_from_signal
from tui_lab.ui.terminal.types import AnyApp

#: Seconds after a signal until output is discarded: a write to a dead connection would block forever.
DISCARD_AFTER_S = 3.0


class SignalHandler:
    """Exits one app when a signal arrives. Only for the main thread."""

    def __init__(self) -> None:
        self._app: AnyApp | None = None
        self._ended = threading.Event()
        # a handler interrupts the main thread anywhere: what it calls must not take a lock, as the start of a
        # thread does
        self._codes: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(self, app: AnyApp, *, mouse: bool) -> int:
        """Runs an app and returns its exit code: 128 plus the signal's number if a signal ended it."""
        self._app = app
        threading.Thread(target=self._discard_late, name="signals", daemon=True).start()
        try:
            app.run(mouse=mouse)
        finally:
            self._ended.set()
        return app.return_code or 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the signals."""
        if self._ended.is_set():
            return
        if not exit_from_signal(self._app, 128 + number):
            raise SystemExit(128 + number)
        self._codes.put(128 + number)

    def _discard_late(self) -> None:
        """Discards output if the app has not ended soon after a signal."""
        code = self._codes.get()
        if self._ended.wait(DISCARD_AFTER_S):
            return
        if discard_output(self._app):
            # a write that has begun cannot be interrupted, and Python would wait for the thread that does it
            atexit.register(os._exit, code)


@contextlib.contextmanager
def handle_signals() -> Iterator[SignalHandler]:
    """Handles SIGTERM and SIGHUP within the block; see :meth:`SignalHandler.run`."""
    handler = SignalHandler()
    before = [(number, signal.signal(number, handler.handle)) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        yield handler
    finally:
        for number, previous in before:
            signal.signal(number, previous)
