"""What tells a person that a run has ended: a command, a webhook, the terminal. All are off until a setting
asks for them.

The run process itself calls the command and the webhook, so that they work without a lab and without a
terminal. Notifications of the terminal (OSC 9: iTerm2, WezTerm, Windows Terminal, kitty; OSC 777: Ghostty,
foot, urxvt) are written by whoever shows the run, and travel over SSH like any other output."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

import msgspec

from tui_lab.core import format
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import is_true
from tui_lab.runs.state import Watcher

COMMAND_ENV = "TUI_LAB_NOTIFY_COMMAND"
WEBHOOK_ENV = "TUI_LAB_NOTIFY_WEBHOOK"
TERMINAL_ENV = "TUI_LAB_NOTIFY_TERMINAL"
#: Seconds that the command and the webhook may take.
COMMAND_TIMEOUT_S, WEBHOOK_TIMEOUT_S = 30.0, 15.0
#: Characters of a notification's text.
LONGEST_TEXT = 240


class RunEnded(msgspec.Struct, frozen=True):
    """What is sent: ``text`` is one sentence (also as ``content``: Slack reads the one, Discord the other);
    ``state``: finished, stopped, failed; ``retention``: the newest one, 1 when nothing is lost."""

    text: str
    content: str
    run: str
    state: str
    path: str
    step: int | None = None
    seconds: float | None = None
    validation_loss: float | None = None
    retention: float | None = None
    message: str = ""
    kind: str = "run_ended"
    v: int = 1


def ended(watcher: Watcher) -> RunEnded:
    """The notification about a run that has ended. Text from models and data is sanitized."""
    state, run = watcher.state, watcher.run
    end, retention = state.end, state.retention
    parts = [f"run {sanitize(run.id)} {watcher.status}"]
    if end is not None and end.seconds:
        parts.append(f"after {format.duration(end.seconds)}")
    if end is not None and end.validation_loss is not None:
        parts.append(f"with a validation loss of {end.validation_loss:.3f}")
    text = " ".join(parts)
    if retention is not None:
        text += f"; retention {retention.value:.0%}"
    message = sanitize(end.message.strip().split("\n")[0])[:LONGEST_TEXT] if end is not None else ""
    if message and watcher.status != "finished":
        text += f": {message}"
    text = text[:LONGEST_TEXT]
    return RunEnded(
        text, text, run.id, watcher.status, str(run.path), None if end is None else end.step,
        None if end is None else end.seconds, None if end is None else end.validation_loss,
        None if retention is None else round(retention.value, 4), message,
    )  # fmt: skip


def send(notice: RunEnded, environment: Mapping[str, str]) -> list[str]:
    """Runs the command and calls the webhook of the settings, if any. What failed, as sentences without the
    webhook's address, which may be a secret."""
    found = []
    if command := environment.get(COMMAND_ENV):
        found.append(_run(command, notice, environment))
    if address := environment.get(WEBHOOK_ENV):
        found.append(_post(address, notice))
    return [problem for problem in found if problem]


def _run(command: str, notice: RunEnded, environment: Mapping[str, str]) -> str:
    """The command gets the sentence and the state in variables and the whole notification on its input."""
    variables = {"TUI_LAB_RUN": notice.run, "TUI_LAB_STATE": notice.state, "TUI_LAB_TEXT": notice.text}
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            input=to_json(notice) + "\n", text=True, timeout=COMMAND_TIMEOUT_S, capture_output=True,
            env={**environment, **variables}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"notify_command was ended after {COMMAND_TIMEOUT_S:g} s"
    except OSError as error:
        return f"notify_command cannot be run: {error.strerror}"
    if done.returncode:
        said = sanitize(done.stderr.strip().split("\n")[-1])[:LONGEST_TEXT]
        return f"notify_command failed with exit code {done.returncode}: {said or 'no message'}"
    return ""


def _post(address: str, notice: RunEnded) -> str:
    host = sanitize(urllib.parse.urlsplit(address).hostname or "")
    if not address.startswith(("https://", "http://")) or not host:
        return "notify_webhook is not an address that begins with https:// or http://"
    body = to_json(notice).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        return f"notify_webhook: {host} answered {error.code}"
    except (OSError, HTTPException, ValueError):
        return f"notify_webhook: {host} cannot be reached"


def terminal_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the settings ask for notifications of the terminal."""
    return is_true(environment.get(TERMINAL_ENV, ""))


def terminal_sequences(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The bell, the window's title and a desktop notification, as a terminal takes them; through tmux, which
    has to allow it (``set -g allow-passthrough on``)."""
    plain = sanitize(text).replace(";", ",")[:LONGEST_TEXT]
    notices = [f"\x1b]9;{plain}\x1b\\", f"\x1b]777;notify;tui-lab;{plain}\x1b\\"]
    if environment.get("TMUX"):
        notices = ["\x1bPtmux;" + each.replace("\x1b", "\x1b\x1b") + "\x1b\\" for each in notices]
    return "".join(["\x07", f"\x1b]2;{plain}\x1b\\", *notices])
