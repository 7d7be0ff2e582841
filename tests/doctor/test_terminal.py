"""Terminals that are not this one, and tmux's answers."""

import os
import pty
import threading
import time

import pytest

from tui_lab.doctor import terminal
from tui_lab.doctor.terminal import Tmux

UTF8 = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environment", "state", "words"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ok", "16.7 million"),
        ({"TERM": "xterm-direct"}, "ok", "16.7 million"),
        ({"TERM": "tmux-256color"}, "ok", "256"),
        ({"TERM": "xterm"}, "warn", "8 or 16"),
        ({"TERM": "dumb"}, "warn", "dumb"),
        ({}, "warn", "unset"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "ok", "NO_COLOR"),
    ],
)
def test_colours(environment: dict, state: str, words: str) -> None:
    check = terminal.check_colours(environment, True)
    assert check.state == state and words in check.found
    assert "not a terminal" in terminal.check_colours(environment, False).found


def test_glyphs_and_size() -> None:
    assert terminal.check_glyphs(UTF8, "utf-8").state == "ok"
    assert terminal.check_glyphs(UTF8, "UTF8").state == "ok"
    ascii_ = terminal.check_glyphs(UTF8, "ANSI_X3.4-1968")
    assert ascii_.state == "warn" and "LANG" in ascii_.advice
    told = terminal.check_glyphs({**UTF8, "PYTHONIOENCODING": "latin-1"}, "latin-1")
    assert told.state == "warn" and told.advice == "unset PYTHONIOENCODING"
    assert terminal.check_glyphs({"TERM": "linux"}, "utf-8").state == "warn"
    assert terminal.check_size(80, 24).state == "ok"
    assert terminal.check_size(79, 24).state == terminal.check_size(80, 23).state == "warn"


def test_what_ssh_leaves_behind_is_hinted_at() -> None:
    remote = {"TERM": "xterm-256color", "SSH_CONNECTION": "192.0.2.1 5 192.0.2.2 22"}
    assert "SSH does not pass it on" in terminal.check_colours(remote, True).advice
    assert "SSH" not in terminal.check_colours(UTF8, True).advice
    assert "over SSH" in terminal.check_line(remote, 0.02).found
    assert "192.0.2" not in terminal.check_line(remote, 0.02).found


@pytest.mark.parametrize(
    ("environment", "answer_s", "state", "told", "advised"),
    [
        ({}, 0.004, "ok", "not over SSH; the terminal answers in 4 ms", ""),
        ({}, None, "ok", "not over SSH", ""),
        ({}, 0.3, "warn", "answers in 300 ms", "--slow-link"),
        ({"SSH_TTY": "x"}, 0.02, "ok", "over SSH; the terminal answers in 20 ms", ""),
        ({"SSH_TTY": "x", "TMUX": "x"}, 0.001, "ok", "tmux or screen answers in 1 ms", "--slow-link"),
    ],
)
def test_the_line(
    environment: dict[str, str], answer_s: float | None, state: str, told: str, advised: str
) -> None:
    check = terminal.check_line(environment, answer_s)
    assert check.state == state and told in check.found
    assert advised in check.advice and bool(advised) == bool(check.advice)


def far_terminal(answer: bytes, after_s: float) -> tuple[float | None, bytes]:
    """What is measured of a terminal that answers so, and what it was asked."""
    far, near = pty.openpty()
    asked = []

    def reply() -> None:
        asked.append(os.read(far, 64))
        time.sleep(after_s)
        os.write(far, answer)

    thread = threading.Thread(target=reply, daemon=True)
    thread.start()
    try:
        return terminal.round_trip_s(near, near), asked[0]
    finally:
        thread.join()
        os.close(far)
        os.close(near)


def test_the_round_trip_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, asked = far_terminal(b"\x1b[?62;22c", 0.05)
    assert asked == b"\x1b[c" and seconds is not None and 0.05 <= seconds < 1.0
    monkeypatch.setattr(terminal, "ANSWER_TIMEOUT_S", 0.05)
    assert far_terminal(b"\x1b[?62", 0.0)[0] is None  # never whole
    with open(os.devnull) as file:  # noqa: PTH123
        assert terminal.round_trip_s(file.fileno(), file.fileno()) is None


INSIDE = {"TMUX": "socket,1,0", "TERM": "tmux-256color", "COLORTERM": "truecolor"}
GOOD = Tmux("3.5", 10, True, ("256", "RGB"), "tmux-256color")


def test_what_tmux_should_be_told() -> None:
    fine = terminal.check_multiplexer(INSIDE, GOOD)
    assert fine is not None and (fine.state, fine.advice) == ("ok", "") and "true colour" in fine.found
    usual = terminal.check_multiplexer(
        {**INSIDE, "TERM": "xterm"}, Tmux("3.3a", 500, False, ("256",), "screen")
    )
    assert usual is not None and usual.state == "warn"
    for words in ("escape-time 10", "500 ms", "default-terminal", "terminal-features", "~/.tmux.conf"):
        assert words in usual.advice
    no_colour = terminal.check_multiplexer({**INSIDE, "COLORTERM": ""}, Tmux("3.5", 10, False, (), "screen"))
    assert no_colour is not None and no_colour.state == "ok" and "focus-events" in no_colour.advice
    assert terminal.check_multiplexer({"TERM": "xterm"}, None) is None
    screen = terminal.check_multiplexer({"STY": "1.pts-0", "TERM": "screen"}, None)
    assert screen is not None and "GNU screen" in screen.found
    silent = terminal.check_multiplexer(INSIDE, None)
    assert silent is not None and silent.state == "ok"


def test_tmux_is_asked_only_inside_of_it() -> None:
    assert terminal.ask_tmux({"PATH": os.environ["PATH"]}) is None
    assert terminal.ask_tmux({"PATH": "/nowhere", "TMUX": "/nowhere,1,0"}) is None
