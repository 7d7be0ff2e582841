"""Ends the lab on SIGTERM, SIGHUP and when its terminal is closed as its Quit key does: the terminal is
restored, and the lab's child processes end.

A thread outside the event loop waits for the signals. It ends the process itself where the event loop does
not: a loop that is stuck runs no handler, and a write to a dead connection never returns.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import termios
import threading
import time
from collections.abc import Iterator
from types import FrameType

from tui_lab.core.errors import LabEnded
from tui_lab.ui.terminal.textual_internals import (
    call_in_loop,
    discard_output,
    exit_from_signal,
    terminal_state,
    unexpected_error,
)
from tui_lab.ui.terminal.types import AnyApp

#: Seconds after a signal until an event loop that does not answer is taken for stuck.
STUCK_AFTER_S = 1.5
#: Seconds after a signal until output is discarded: a write to a dead connection would block forever.
DISCARD_AFTER_S = 3.0
#: Seconds after a signal until the process ends, whatever it does.
END_AFTER_S = 10.0
#: Ends what the lab asked of the terminal: synchronised output, pasting, the mouse, line ends, sizes and keys
#: in the input, the other screen, the hidden cursor, colours.
RESTORE = (
    b"\x1b[?2026l\x1b[?2004l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?7h\x1b[?2048l"
    b"\x1b[?1004l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[0m"
)
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class SignalHandler:
    """Exits one app when a signal arrives. Only for the main thread."""

    def __init__(self) -> None:
        self._app: AnyApp | None = None
        self._ended = threading.Event()
        #: The first signal; 0 before it.
        self.received = 0

    def run(self, app: AnyApp, *, mouse: bool) -> int:
        """Runs an app and returns its exit code: 128 plus the signal's number if a signal ended it.
        Raises LabEnded if an unexpected error did."""
        self._app = app
        receiver, sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # the interpreter writes the number of each signal to this pipe, even while the main thread is stuck
        before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
        watch = threading.Thread(target=self._watch, args=(receiver,), name="signals", daemon=True)
        watch.start()
        try:
            app.run(mouse=mouse)
        finally:
            self._ended.set()
            signal.set_wakeup_fd(before)
            os.close(sender)  # ends the thread
            watch.join(STUCK_AFTER_S)
            os.close(receiver)  # only now: the interpreter reports a signal that it cannot write
        if (error := unexpected_error(app)) is not None:
            raise LabEnded from error
        return app.return_code or 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the signals."""
        self.received = self.received or number
        if not self._ended.is_set() and not exit_from_signal(self._app, 128 + number):
            raise SystemExit(128 + number)

    def _watch(self, receiver: int) -> None:
        """Waits for a signal or the end of the terminal, and ends the app."""
        waiting = select.poll()
        waiting.register(receiver, select.POLLIN)
        if (state := terminal_state(self._app)) is not None or os.isatty(0):
            waiting.register(state[0] if state else 0, 0)  # reports only that it is closed
        number = 0
        while not number and not self._ended.is_set():
            for descriptor, _ in waiting.poll():
                if descriptor != receiver:
                    number = signal.SIGHUP
                else:
                    received = os.read(receiver, 64)
                    number = next((each for each in received if each in _SIGNALS), 0)
        if not self._ended.is_set():
            self._end(128 + number)

    def _end(self, code: int) -> None:
        """Ends the app; if it does not end, the process."""
        asked_at, answered = time.monotonic(), threading.Event()
        exit_from_signal(self._app, code)
        call_in_loop(self._app, answered.set)
        if not answered.wait(STUCK_AFTER_S) and not self._ended.is_set():
            self._end_process(code)
        if self._ended.wait(DISCARD_AFTER_S - (time.monotonic() - asked_at)):
            return
        if discard_output(self._app):
            # a write that has begun cannot be interrupted, and Python would wait for the thread that does it
            atexit.register(os._exit, code)
        if not self._ended.wait(END_AFTER_S - DISCARD_AFTER_S):
            self._end_process(code)

    def _end_process(self, code: int) -> None:
        """Restores the terminal and ends the process; its children end with their pipes."""
        if (state := terminal_state(self._app)) is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(state[0], termios.TCSANOW, state[1])
                # opened again, so that a full terminal does not block
                terminal = os.open(os.ttyname(state[0]), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                os.write(terminal, RESTORE)
        os._exit(code)


@contextlib.contextmanager
def handle_signals() -> Iterator[SignalHandler]:
    """Handles SIGTERM and SIGHUP within the block; see :meth:`SignalHandler.run`. After a signal, further
    ones are ignored: the process is ending and keeps its exit code."""
    handler = SignalHandler()
    before = [(number, signal.signal(number, handler.handle)) for number in _SIGNALS]
    try:
        yield handler
    finally:
        for number, previous in before:
            signal.signal(number, signal.SIG_IGN if handler.received else previous)
