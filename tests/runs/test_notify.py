"""The end of a run calls a command, a webhook and the terminal, only where the settings ask for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder, notify
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import EndEvent, StartedEvent
from tui_lab.runs.state import Watcher


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    run = folder.create(make_recipe("minute"), tmp_path)
    events = EventWriter(run.events_path)
    events.write(StartedEvent(pid=1, host="here"))
    events.write(
        EndEvent(
            state="failed", message="no \x1b[31mspace; left\nmore", step=7, seconds=75.0, validation_loss=1.25
        )
    )
    found = Watcher(run)
    found.read_all()
    return found


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """An HTTP server on this machine; its answers are 200, below /refuse 403."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(403 if "refuse" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", received
    httpd.shutdown()
    httpd.server_close()


def test_nothing_is_sent_without_a_setting(watcher: Watcher) -> None:
    assert notify.send(notify.ended(watcher), {}) == []
    assert not notify.terminal_wanted({}) and not notify.terminal_wanted({notify.TERMINAL_ENV: "False"})
    assert notify.terminal_wanted({notify.TERMINAL_ENV: "True"})


def test_the_text_is_one_safe_sentence(watcher: Watcher) -> None:
    notice = notify.ended(watcher)
    assert notice.text.startswith(f"run {watcher.run.id} failed after 1:15") and "1.250" in notice.text
    assert "\x1b" not in notice.text and "more" not in notice.text
    assert (notice.state, notice.step, notice.validation_loss) == ("failed", 7, 1.25)


def test_the_command_gets_variables_and_input(watcher: Watcher, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    command = f'echo "$TUI_LAB_STATE" > {seen}; cat >> {seen}'
    environment = {"PATH": "/usr/bin:/bin", notify.COMMAND_ENV: command}
    assert notify.send(notify.ended(watcher), environment) == []
    state, body = seen.read_text().splitlines()
    assert state == "failed" and json.loads(body)["run"] == watcher.run.id
    environment[notify.COMMAND_ENV] = "echo it broke >&2; exit 3"
    assert notify.send(notify.ended(watcher), environment) == [
        "notify_command failed with exit code 3: it broke"
    ]


def test_the_command_is_bounded_in_time(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "COMMAND_TIMEOUT_S", 0.1)
    assert "was ended after" in notify.send(notify.ended(watcher), {notify.COMMAND_ENV: "exec sleep 60"})[0]


def test_the_webhook_gets_json(watcher: Watcher, server: tuple[str, list[Any]]) -> None:
    address, received = server
    assert notify.send(notify.ended(watcher), {notify.WEBHOOK_ENV: f"{address}/hook"}) == []
    assert received[0]["kind"] == "run_ended" and received[0]["text"] == received[0]["content"]


def test_a_failing_webhook_is_named_without_its_path(watcher: Watcher, server: tuple[str, list[Any]]) -> None:
    address, _ = server
    notice = notify.ended(watcher)
    assert notify.send(notice, {notify.WEBHOOK_ENV: f"{address}/refuse/s3cret"}) == [
        "notify_webhook: 127.0.0.1 answered 403"
    ]
    for bad in ("file:///etc/passwd", "ftp://host/s3cret", "s3cret"):
        [problem] = notify.send(notice, {notify.WEBHOOK_ENV: bad})
        assert "begins with https://" in problem and "s3cret" not in problem
    assert "cannot be reached" in notify.send(notice, {notify.WEBHOOK_ENV: "http://127.0.0.1:9/s3cret"})[0]


def test_terminal_sequences_hold_no_other_sequence() -> None:
    text = notify.terminal_sequences("a;b\x1b]0;x\x07c", {})
    assert text.startswith("\x07\x1b]2;a,b") and text.count("\x1b]") == 3 and text.count("\x07") == 1
    assert "\x1b]777;notify;tui-lab;a,b" in text and "\x1b]9;a,b" in text
    inside = notify.terminal_sequences("done", {"TMUX": "x"})
    assert "\x1bPtmux;\x1b\x1b]9;done\x1b\x1b\\\x1b\\" in inside
