"""The terminal: its colours, glyphs and size, how long it takes to answer, and what tmux does in between.
What is not known without asking is asked: tmux for its options, the terminal for one round trip."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import ascii_reason
from tui_lab.doctor.check import Check, State

SMALLEST_TERMINAL = (80, 24)
#: Terminals that can do nothing but print lines.
NO_SCREEN = ("", "dumb", "unknown")
#: From here on typing feels late; a terminal on the same machine answers within a few milliseconds.
LATE_S = 0.1
#: Longer than any line that can be worked on; what comes later is thrown away.
ANSWER_TIMEOUT_S = 2.0
#: Milliseconds that tmux may wait after Escape before that feels late.
LATE_ESCAPE_MS = 50
_TMUX_TIMEOUT_S = 5
_TRUE_COLOUR = ("truecolor", "24bit")


def is_remote(environment: Mapping[str, str]) -> bool:
    """Whether this shell was reached over SSH."""
    return bool(environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"))


def has_true_colour(environment: Mapping[str, str]) -> bool:
    """Whether programs take this terminal for one of 16.7 million colours."""
    term = environment.get("TERM", "")
    return environment.get("COLORTERM", "").lower() in _TRUE_COLOUR or "direct" in term


def check_colours(environment: Mapping[str, str], is_terminal: bool) -> Check:
    term = environment.get("TERM", "")
    where = "" if is_terminal else " (the output is not a terminal now)"
    state: State = "warn" if is_terminal else "ok"
    if environment.get("NO_COLOR"):
        return Check("colours", "ok", f"switched off by NO_COLOR{where}", "unset NO_COLOR to see colours")
    if term in NO_SCREEN:
        advice = (
            "the lab cannot be drawn here: set TERM, such as TERM=xterm-256color, or do without the lab "
            "(`tui-lab train --plain`, `tui-lab watch --plain`)"
        )
        return Check("colours", state, f"TERM={term or '(unset)'}{where}", advice)
    if has_true_colour(environment):
        return Check("colours", "ok", f"16.7 million (TERM={sanitize(term)}){where}")
    if "256color" in term or term in ("xterm-kitty", "alacritty", "xterm-ghostty"):
        advice = "if the terminal has true colour, set COLORTERM=truecolor"
        if is_remote(environment):
            advice += " in this machine's profile: it does not travel over SSH by itself"
        return Check("colours", "ok", f"256 (TERM={sanitize(term)}){where}", advice)
    advice = "set TERM=xterm-256color if the terminal has more colours"
    return Check("colours", state, f"8 or 16 (TERM={sanitize(term)}){where}", advice)


def check_glyphs(environment: Mapping[str, str], encoding: str) -> Check:
    """Whether the text that charts are drawn with can be shown: braille dots and block elements."""
    if reason := ascii_reason(environment):
        told = reason.startswith("PYTHONIOENCODING")
        advice = "unset PYTHONIOENCODING" if told else "set LANG=C.UTF-8 (or en_US.UTF-8)"
        return Check("glyphs", "warn", reason.partition(". ")[0], advice)
    if encoding.replace("-", "").lower() not in ("utf8", "utf16", "utf32"):
        advice = "charts need UTF-8: set LANG=C.UTF-8 (or en_US.UTF-8), or use `tui-lab --ascii`"
        return Check("glyphs", "warn", f"encoding {sanitize(encoding)}", advice)
    if environment.get("TERM") == "linux":
        advice = "the text console has no braille: `tui-lab --plots block`, or a terminal emulator or SSH"
        return Check("glyphs", "warn", "UTF-8, on the Linux console", advice)
    advice = "if ⡇⣿⠿ show as boxes or blanks: `tui-lab --plots block`, or a font such as DejaVu Sans Mono"
    return Check("glyphs", "ok", "UTF-8; charts use ⡇⣿⠿ and █▄░", advice)


def check_size(columns: int, lines: int) -> Check:
    text = f"{columns} × {lines}"
    if columns < SMALLEST_TERMINAL[0] or lines < SMALLEST_TERMINAL[1]:
        return Check("terminal size", "warn", text, "enlarge the window to 80 × 24 or more")
    return Check("terminal size", "ok", text)


# --------------------------------------------------------------------------------------------------
# the line


def round_trip_s(incoming: int = 0, outgoing: int = 1) -> float | None:
    """Seconds until the terminal (or tmux in between) answers what it is; None where it does not. What is
    typed meanwhile is lost."""
    try:
        import termios
        import tty

        before = termios.tcgetattr(incoming)
    except (ImportError, OSError, termios.error):
        return None
    try:
        tty.setcbreak(incoming, termios.TCSAFLUSH)
        start = time.perf_counter()
        os.write(outgoing, b"\x1b[c")
        answer = b""
        while (left := start + ANSWER_TIMEOUT_S - time.perf_counter()) > 0:
            if not select.select([incoming], [], [], left)[0]:
                return None
            answer += os.read(incoming, 64)
            if answer.endswith(b"c"):
                return time.perf_counter() - start
        return None
    except OSError:
        return None
    finally:
        termios.tcsetattr(incoming, termios.TCSAFLUSH, before)


def ask_terminal(environment: Mapping[str, str]) -> float | None:
    """The round trip, where there is a terminal that can be asked."""
    if environment.get("TERM", "") in (*NO_SCREEN, "linux"):
        return None
    try:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return None
        sys.stdout.flush()
        return round_trip_s(sys.stdin.fileno(), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return None


def check_line(environment: Mapping[str, str], answer_s: float | None) -> Check:
    """Where the terminal is, and how long the way to it is."""
    where = "over SSH" if is_remote(environment) else "on this machine, as far as can be told"
    inner = environment.get("TMUX") or environment.get("STY")
    if answer_s is None:
        found = where
    else:
        who = "tmux or screen" if inner else "the terminal"
        found = f"{where}; {who} answers in {answer_s * 1000:.0f} ms"
    if answer_s is not None and answer_s > LATE_S:
        return Check("line", "warn", found, "the line is slow: `tui-lab --slow-link` sends less over it")
    if is_remote(environment) and (inner or answer_s is None):
        return Check("line", "ok", found, "if typing feels late: `tui-lab --slow-link` sends less")
    return Check("line", "ok", found)


# --------------------------------------------------------------------------------------------------
# tmux and screen


@dataclass(frozen=True)
class Tmux:
    """What tmux says of itself."""

    version: str
    escape_ms: int
    focus_events: bool
    features: tuple[str, ...]
    default_terminal: str


def ask_tmux(environment: Mapping[str, str]) -> Tmux | None:
    """The tmux that this terminal is in; None where there is none, or it does not answer."""
    if not environment.get("TMUX"):
        return None
    form = "#{version}|#{escape-time}|#{focus-events}|#{client_termfeatures}|#{default-terminal}"
    try:
        done = subprocess.run(
            ["tmux", "display-message", "-p", form],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TMUX_TIMEOUT_S,
            env=dict(environment),
        )
        version, escape, focus, features, terminal = done.stdout.decode("utf-8", "replace").strip().split("|")
        return Tmux(version, int(escape), focus in ("1", "on"), tuple(features.split(",")), terminal)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def check_multiplexer(environment: Mapping[str, str], tmux: Tmux | None) -> Check | None:
    """What of tmux's settings makes the lab look or feel worse than it need; None outside of tmux."""
    if environment.get("STY"):
        advice = "GNU screen has no true colour before version 5; tmux has"
        return Check(
            "multiplexer", "ok", f"GNU screen (TERM={sanitize(environment.get('TERM', ''))})", advice
        )
    if not environment.get("TMUX"):
        return None
    if tmux is None:
        return Check("multiplexer", "ok", "tmux, which does not answer from here")
    wanted = []
    if tmux.escape_ms > LATE_ESCAPE_MS:
        wanted.append(f"set -s escape-time 10 (Escape waits {tmux.escape_ms} ms)")
    if not environment.get("TERM", "").startswith(("tmux", "screen")):
        wanted.append('set -g default-terminal "tmux-256color" (programs draw for another terminal)')
    if has_true_colour(environment) and "RGB" not in tmux.features:
        wanted.append("set -as terminal-features ',*:RGB' (colours are rounded to 256)")
    found = f"tmux {sanitize(tmux.version)}, Escape waits {tmux.escape_ms} ms"
    found += ", true colour" if "RGB" in tmux.features else ""
    if wanted:
        return Check("multiplexer", "warn", found, f"in ~/.tmux.conf: {'; '.join(wanted)}")
    hint = "" if tmux.focus_events else "set -s focus-events on tells programs whether you look at them"
    return Check("multiplexer", "ok", found, hint)
