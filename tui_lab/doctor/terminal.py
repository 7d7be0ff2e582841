"""The terminal: its colours, glyphs and size, its response time, and the settings of tmux. tmux is queried
for its options, the terminal for one round trip."""

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
from tui_lab.doctor.check import CheckState, DoctorCheck

MIN_SIZE = (80, 24)
#: Values of TERM of terminals that can only print lines.
NO_SCREEN = ("", "dumb", "unknown")
#: From here on typing feels slow; a terminal on the same machine answers within a few milliseconds.
SLOW_S = 0.1
#: Longer than any usable connection needs; later answers are discarded.
ANSWER_TIMEOUT_S = 2.0
#: tmux waits this long after Escape before that feels slow.
SLOW_ESCAPE_MS = 50
_TMUX_TIMEOUT_S = 5
_TRUE_COLOUR = ("truecolor", "24bit")


def is_remote(environment: Mapping[str, str]) -> bool:
    """Whether this shell was reached over SSH."""
    return bool(environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"))


def has_true_colour(environment: Mapping[str, str]) -> bool:
    """Whether the environment announces 16.7 million colours."""
    term = environment.get("TERM", "")
    return environment.get("COLORTERM", "").lower() in _TRUE_COLOUR or "direct" in term


def check_colours(environment: Mapping[str, str], is_terminal: bool) -> DoctorCheck:
    term = environment.get("TERM", "")
    where = "" if is_terminal else " (the output is not a terminal)"
    state: CheckState = "warn" if is_terminal else "ok"
    if environment.get("NO_COLOR"):
        return DoctorCheck(
            "colours", "ok", f"switched off by NO_COLOR{where}", "unset NO_COLOR to see colours"
        )
    if term in NO_SCREEN:
        advice = (
            "the lab cannot be drawn here: set TERM, such as TERM=xterm-256color, or use plain text "
            "(`tui-lab train --plain`, `tui-lab watch --plain`)"
        )
        return DoctorCheck("colours", state, f"TERM={term or '(unset)'}{where}", advice)
    if has_true_colour(environment):
        return DoctorCheck("colours", "ok", f"16.7 million (TERM={sanitize(term)}){where}")
    if "256color" in term or term in ("xterm-kitty", "alacritty", "xterm-ghostty"):
        advice = "if the terminal has true colour, set COLORTERM=truecolor"
        if is_remote(environment):
            advice += " in this machine's profile: SSH does not pass it on"
        return DoctorCheck("colours", "ok", f"256 (TERM={sanitize(term)}){where}", advice)
    advice = "set TERM=xterm-256color if the terminal has more colours"
    return DoctorCheck("colours", state, f"8 or 16 (TERM={sanitize(term)}){where}", advice)


def check_glyphs(environment: Mapping[str, str], encoding: str) -> DoctorCheck:
    """Whether the terminal can show the characters of the charts: braille dots and block elements."""
    if reason := ascii_reason(environment):
        python = reason.startswith("PYTHONIOENCODING")
        advice = "unset PYTHONIOENCODING" if python else "set LANG=C.UTF-8 (or en_US.UTF-8)"
        return DoctorCheck("glyphs", "warn", reason.partition(". ")[0], advice)
    if encoding.replace("-", "").lower() not in ("utf8", "utf16", "utf32"):
        advice = "charts need UTF-8: set LANG=C.UTF-8 (or en_US.UTF-8), or use `tui-lab --ascii`"
        return DoctorCheck("glyphs", "warn", f"encoding {sanitize(encoding)}", advice)
    if environment.get("TERM") == "linux":
        advice = "the text console has no braille: `tui-lab --plots block`, or a terminal emulator or SSH"
        return DoctorCheck("glyphs", "warn", "UTF-8, on the Linux console", advice)
    advice = "if ⡇⣿⠿ show as boxes or blanks: `tui-lab --plots block`, or a font such as DejaVu Sans Mono"
    return DoctorCheck("glyphs", "ok", "UTF-8; charts use ⡇⣿⠿ and █▄░", advice)


def check_size(columns: int, lines: int) -> DoctorCheck:
    text = f"{columns} × {lines}"
    if columns < MIN_SIZE[0] or lines < MIN_SIZE[1]:
        return DoctorCheck("terminal size", "warn", text, "enlarge the window to 80 × 24 or more")
    return DoctorCheck("terminal size", "ok", text)


# --------------------------------------------------------------------------------------------------
# response time


def round_trip_s(incoming: int = 0, outgoing: int = 1) -> float | None:
    """Seconds until the terminal (or tmux) answers a device attributes request; None without an answer. Keys
    that are typed meanwhile are lost."""
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
        while (remaining := start + ANSWER_TIMEOUT_S - time.perf_counter()) > 0:
            if not select.select([incoming], [], [], remaining)[0]:
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
    """The round trip in seconds; None without a terminal that answers."""
    if environment.get("TERM", "") in (*NO_SCREEN, "linux"):
        return None
    try:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            return None
        sys.stdout.flush()
        return round_trip_s(sys.stdin.fileno(), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return None


def check_line(environment: Mapping[str, str], answer_s: float | None) -> DoctorCheck:
    """Where the terminal is, and its response time."""
    where = "over SSH" if is_remote(environment) else "not over SSH"
    inner = environment.get("TMUX") or environment.get("STY")
    if answer_s is None:
        found = where
    else:
        answering = "tmux or screen" if inner else "the terminal"
        found = f"{where}; {answering} answers in {answer_s * 1000:.0f} ms"
    if answer_s is not None and answer_s > SLOW_S:
        return DoctorCheck("line", "warn", found, "the connection is slow: `tui-lab --slow-link` sends less")
    if is_remote(environment) and (inner or answer_s is None):
        return DoctorCheck("line", "ok", found, "if typing feels slow: `tui-lab --slow-link` sends less")
    return DoctorCheck("line", "ok", found)


# --------------------------------------------------------------------------------------------------
# tmux and screen


@dataclass(frozen=True)
class Tmux:
    """The settings of tmux that matter to the lab."""

    version: str
    escape_ms: int
    focus_events: bool
    features: tuple[str, ...]
    default_terminal: str


def ask_tmux(environment: Mapping[str, str]) -> Tmux | None:
    """The tmux around this terminal; None without one, or where it does not answer."""
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


def check_multiplexer(environment: Mapping[str, str], tmux: Tmux | None) -> DoctorCheck | None:
    """The settings of tmux that make the lab look or feel worse; None outside of tmux."""
    if environment.get("STY"):
        advice = "GNU screen has no true colour before version 5; tmux has"
        return DoctorCheck(
            "multiplexer", "ok", f"GNU screen (TERM={sanitize(environment.get('TERM', ''))})", advice
        )
    if not environment.get("TMUX"):
        return None
    if tmux is None:
        return DoctorCheck("multiplexer", "ok", "tmux, which does not answer")
    changes = []
    if tmux.escape_ms > SLOW_ESCAPE_MS:
        changes.append(f"set -s escape-time 10 (Escape waits {tmux.escape_ms} ms)")
    if not environment.get("TERM", "").startswith(("tmux", "screen")):
        changes.append('set -g default-terminal "tmux-256color" (programs assume another terminal)')
    if has_true_colour(environment) and "RGB" not in tmux.features:
        changes.append("set -as terminal-features ',*:RGB' (colours are rounded to 256)")
    found = f"tmux {sanitize(tmux.version)}, Escape waits {tmux.escape_ms} ms"
    found += ", true colour" if "RGB" in tmux.features else ""
    if changes:
        return DoctorCheck("multiplexer", "warn", found, f"in ~/.tmux.conf: {'; '.join(changes)}")
    hint = "" if tmux.focus_events else "set -s focus-events on tells programs which window has the focus"
    return DoctorCheck("multiplexer", "ok", found, hint)
