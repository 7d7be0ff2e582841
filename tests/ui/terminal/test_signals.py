"""What tells the lab to end: each a real lab on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

#: Seconds that a lab may take to end.
ENDS_IN_S = 15.0
#: What a terminal is told at the end: the normal screen, and a cursor.
NORMAL_SCREEN, CURSOR = b"\x1b[?1049l", b"\x1b[?25h"


class Lab:
    """The lab on a terminal."""

    def __init__(self) -> None:
        self.terminal, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.terminal, (24, 80))
        self.before = termios.tcgetattr(self.theirs)
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tui_lab"], stdin=self.theirs, stdout=self.theirs, stderr=self.theirs,
            start_new_session=True, env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip

    def read(self, mark: bytes, seconds: float = 30.0) -> None:
        """Reads until ``mark`` was written, or nothing comes any more."""
        deadline = time.monotonic() + seconds
        while mark not in self.written and time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.written += os.read(self.terminal, 1 << 16)
        assert mark in self.written


@pytest.fixture
def lab(runs_dir: object) -> Iterator[Lab]:
    made = Lab()
    try:
        made.read(b"Choose")
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        for number in (made.theirs, made.terminal):
            with contextlib.suppress(OSError):
                os.close(number)


def test_a_lab_that_is_told_to_end_leaves_the_terminal_as_it_was(lab: Lab) -> None:
    assert termios.tcgetattr(lab.theirs) != lab.before
    lab.process.send_signal(signal.SIGTERM)
    lab.process.send_signal(signal.SIGTERM)  # a second one spoils nothing
    lab.read(CURSOR)
    assert lab.process.wait(ENDS_IN_S) == 128 + signal.SIGTERM
    assert termios.tcgetattr(lab.theirs) == lab.before
    assert NORMAL_SCREEN in lab.written and b"Traceback" not in lab.written


def test_a_lab_whose_terminal_has_gone_ends(lab: Lab) -> None:
    os.close(lab.theirs)
    os.close(lab.terminal)
    lab.process.send_signal(signal.SIGHUP)  # as the kernel does where the lab has the terminal
    lab.process.wait(ENDS_IN_S)


def test_a_lab_whose_terminal_takes_nothing_more_ends(lab: Lab) -> None:
    for number in range(60):  # all is drawn again and again, and nobody reads
        termios.tcsetwinsize(lab.terminal, (50 + number % 2, 200))
        lab.process.send_signal(signal.SIGWINCH)
        time.sleep(0.05)
    assert lab.process.poll() is None
    lab.process.send_signal(signal.SIGTERM)
    assert lab.process.wait(ENDS_IN_S) == 128 + signal.SIGTERM, "in order, though what was drawn is lost"
