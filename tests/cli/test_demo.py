"""``tui-lab demo`` on the command line: what it refuses, and that its runs go with it however it is ended."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tui_lab.cli import main, options
from tui_lab.runs.folder import is_locked, list_runs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo"], "the demo needs a terminal"),
        (["demo", "--replay", "--keep", "here"], "--replay trains nothing"),
        (["demo", "--replay", "--patient"], "--replay trains nothing"),
    ],
)
def test_what_cannot_be_played_is_one_sentence(
    words: list[str], said: str, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words) == options.EXIT_USAGE
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not runs_dir.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("words", [[], ["demo"], ["demo", "--replay"]])
def test_nothing_is_drawn_on_a_terminal_that_only_prints_lines(
    words: list[str], runs_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Terminal()
    for name, stream in (("stdin", Terminal()), ("stdout", drawn)):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setenv("TERM", "dumb")
    assert main.main(words) == options.EXIT_USAGE
    error = capsys.readouterr().err
    assert "TERM=dumb" in error and "--plain" in error and len(error.splitlines()) == 1
    assert drawn.getvalue() == ""


def drain(terminal: int) -> None:
    """Reads what was written: a terminal that nobody reads would hold the lab."""
    with contextlib.suppress(OSError):
        os.read(terminal, 1 << 20)


def wait(terminal: int, condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        drain(terminal)
        time.sleep(0.05)
    return True


def test_a_demo_that_is_ended_by_a_signal_takes_its_run_along(
    tmp_path: Path, runs_dir: Path, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "30")
    monkeypatch.setenv("TERM", "xterm-256color")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "about.json").write_text("of a demo that was played to its end")
    program = (
        "import tui_lab.ui.demo.player as player; player.READING_CHARS_PER_S = 4000.0; player.FINDING_S = 0\n"
        f"from tui_lab.cli.main import main\nraise SystemExit(main(['demo', '--keep', {str(kept)!r}]))"
    )
    terminal, theirs = pty.openpty()
    os.set_blocking(terminal, False)
    demo = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        assert wait(terminal, lambda: any(run.events_path.is_file() for run in list_runs(kept / "runs")), 60)
        [run] = list_runs(kept / "runs")
        assert is_locked(run), "it trains"
        demo.send_signal(signal.SIGTERM)
        assert wait(terminal, lambda: demo.poll() is not None, 20)
        assert demo.returncode == 128 + signal.SIGTERM
        assert wait(terminal, lambda: not is_locked(run), 5), "its run has gone with it"
    finally:
        demo.kill()
        demo.wait()
        os.close(terminal)
    assert "to its end" in (kept / "about.json").read_text()
    assert not runs_dir.exists(), "a person's own runs are elsewhere"
