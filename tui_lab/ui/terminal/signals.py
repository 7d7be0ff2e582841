"""Ends the lab on SIGTERM and on SIGHUP (the terminal is gone) as its own key does: the terminal is restored,
and the lab's child processes end."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from tui_lab.ui.terminal.textual_internals import discard_output, exit_from_signal
from tui_lab.ui.terminal.types import AnyApp

#: Seconds after which a lab that has not ended writes no more: a line that is dead would hold it for ever.
SILENT_AFTER_S = 3.0


class Ending:
    """Ends one app when a signal comes. Only for the main thread."""

    def __init__(self) -> None:
        self._app: AnyApp | None = None
        self._over = threading.Event()

    def run(self, app: AnyApp, *, mouse: bool) -> int:
        """Runs an app; its exit code, which is 128 and the signal's number where one has ended it."""
        self._app = app
        try:
            app.run(mouse=mouse)
        finally:
            self._over.set()
        return app.return_code or 0

    def told(self, number: int, _frame: FrameType | None) -> None:
        """The signals' handler."""
        if self._over.is_set():
            return  # it ends anyway
        if not exit_from_signal(self._app, 128 + number):
            raise SystemExit(128 + number)
        threading.Thread(target=self._silence, args=(128 + number,), daemon=True).start()

    def _silence(self, code: int) -> None:
        if self._over.wait(SILENT_AFTER_S):
            return
        discarded = discard_output(self._app)
        if discarded is None:
            return
        # what a thread is writing can neither be taken back nor waited for, and Python would wait for it
        atexit.register(os._exit, code)
        while not self._over.wait(0.01):
            discarded.take_one()


@contextlib.contextmanager
def in_order() -> Iterator[Ending]:
    """What is told to end within it does so in order; see :meth:`Ending.run`."""
    ending = Ending()
    before = [(number, signal.signal(number, ending.told)) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        yield ending
    finally:
        for number, handler in before:
            signal.signal(number, handler)
