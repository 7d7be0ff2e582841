"""The lab ends on signals: real processes on a pseudo-terminal."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

#: Most seconds until the process has ended.
EXIT_TIMEOUT_S = 90.0
#: What is written at the end: the normal screen, and a visible cursor.
NORMAL_SCREEN, CURSOR = b"\x1b[?1049l", b"\x1b[?25h"


#: Runs a lab whose main thread never comes back to the event loop.
STUCK = """
import os, sys, threading, time
from tui_lab.ui import app
def hang(self):
    os.write(2, b"stuck now")
    lock = threading.Lock()
    lock.acquire()
    while True: {what}
app.LabApp.post_display_hook = hang
sys.exit(app.main())
"""


class Lab:
    """A lab process on a pseudo-terminal."""

    def __init__(self, *command: str) -> None:
        self.terminal, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.terminal, (24, 80))
        self.before = termios.tcgetattr(self.theirs)
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, *(command or ("-m", "tui_lab"))],
            stdin=self.theirs, stdout=self.theirs, stderr=self.theirs,
            start_new_session=True, env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip

    def read(self, mark: bytes, seconds: float = 30.0) -> None:
        """Reads until ``mark`` was written. Fails after ``seconds``."""
        deadline = time.monotonic() + seconds
        while mark not in self.written and time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.written += os.read(self.terminal, 1 << 16)
        assert mark in self.written

    def redraw(self, times: int) -> None:
        """Lets it draw the whole screen again and again, which nobody reads."""
        for number in range(times):
            termios.tcsetwinsize(self.terminal, (50 + number % 2, 200))
            self.process.send_signal(signal.SIGWINCH)
            time.sleep(0.1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for number in (self.theirs, self.terminal):
            with contextlib.suppress(OSError):
                os.close(number)


@pytest.fixture
def labs(runs_dir: object) -> Iterator[Callable[..., Lab]]:
    """Starts labs, each with its first pane drawn."""
    started: list[Lab] = []

    def start(*command: str) -> Lab:
        started.append(Lab(*command))
        started[-1].read(b"stuck now" if command else b"Setup")
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def lab(labs: Callable[..., Lab]) -> Lab:
    return labs()


def test_sigterm_restores_the_terminal(lab: Lab) -> None:
    assert termios.tcgetattr(lab.theirs) != lab.before
    for _ in range(20):  # more signals, while the first is handled and later, change nothing
        lab.process.send_signal(signal.SIGTERM)
        time.sleep(0.005)
    lab.read(CURSOR)
    assert lab.process.wait(EXIT_TIMEOUT_S) == 128 + signal.SIGTERM
    assert termios.tcgetattr(lab.theirs) == lab.before
    assert NORMAL_SCREEN in lab.written and b"Traceback" not in lab.written


def test_a_closed_terminal_ends_the_lab(lab: Lab) -> None:
    os.close(lab.theirs)
    os.close(lab.terminal)
    lab.process.send_signal(signal.SIGHUP)  # the kernel sends it to the owner of the terminal
    lab.process.wait(EXIT_TIMEOUT_S)


def test_sigterm_ends_a_lab_whose_terminal_is_not_read(labs: Callable[..., Lab]) -> None:
    """The app waits for the terminal in two places: with the next text when many wait to be written, and
    at its end when few do."""
    few, many = labs(), labs()
    few.redraw(10)
    many.redraw(50)
    for each in (few, many):
        assert each.process.poll() is None
        each.process.send_signal(signal.SIGTERM)
    for each in (few, many):
        assert each.process.wait(EXIT_TIMEOUT_S) == 128 + signal.SIGTERM


@pytest.mark.parametrize("what", ["pass", "lock.acquire()"])
def test_a_signal_ends_a_lab_whose_event_loop_is_stuck(labs: Callable[..., Lab], what: str) -> None:
    lab = labs("-c", STUCK.format(what=what))
    lab.process.send_signal(signal.SIGTERM)
    lab.read(CURSOR)
    assert lab.process.wait(EXIT_TIMEOUT_S) == 128 + signal.SIGTERM
    assert termios.tcgetattr(lab.theirs) == lab.before
    assert NORMAL_SCREEN in lab.written


def test_a_closed_terminal_ends_a_stuck_lab_without_a_signal(labs: Callable[..., Lab]) -> None:
    """A process that is not the leader of a session gets none from the kernel."""
    lab = labs("-c", STUCK.format(what="time.sleep(60)"))
    os.close(lab.theirs)
    os.close(lab.terminal)
    assert lab.process.wait(EXIT_TIMEOUT_S) == 128 + signal.SIGHUP


#: Runs a lab in which a handler, a worker or a timer fails with an error that nobody expects.
FAULTY = """
import os, sys
from tui_lab.cli.main import main
from tui_lab.ui import app
async def fail():
    os.write(2, b"stuck now")
    raise KeyError("a fault\\nof two lines")
async def work(self): {what}
app.LabApp.on_ready = work
sys.exit(main([]))
"""


@pytest.mark.parametrize(
    "what", ["await fail()", "self.run_worker(fail())", "self.set_timer(0.01, fail)"], ids=str.split
)
def test_a_fault_of_the_lab_is_one_sentence_with_a_log(
    labs: Callable[..., Lab], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUI_LAB_STATE_DIR", str(tmp_path))
    lab = labs("-c", FAULTY.format(what=what))
    lab.read(b"has the report.\r\n")
    assert lab.process.wait(EXIT_TIMEOUT_S) == 1
    assert termios.tcgetattr(lab.theirs) == lab.before
    end = lab.written.decode().rpartition("\x1b")[2]
    assert "tui-lab: the lab ended unexpectedly (KeyError: " in end
    assert "runs in progress continue" in end and str(tmp_path / "error.log") in end
    assert b"Traceback" not in lab.written and end.count("\n") == 1
    report = (tmp_path / "error.log").read_text()
    assert "in fail" in report and "of two lines" in report
