"""The server of the playground process: it answers every line of its stdin with whole JSON lines, and ends
with it. That the process itself ends with its stdin is tested in test_client."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from tui_lab.core.job_protocol import JobLineWriter
from tui_lab.playground.__main__ import Server

GENERATE = {"do": "generate", "prompt": "a", "lanes": ["greedy"]}
#: Lines, the id of the answer and what it says; test_messages has all kinds of bad lines.
LINES: tuple[tuple[bytes, int | None, str], ...] = (
    (b"nonsense", None, "not valid JSON"),
    (b'{"id": 1, "request": {"do": "dance"}}', 1, "dance"),
    (b'{"id": 2, "request": {"do": "load", "model": "\\u001b[2J"}}', 2, "\u241b[2J"),
    (b'{"id": 3, "request": ' + json.dumps(GENERATE).encode() + b"}", 3, "no model is loaded"),
)


@pytest.mark.parametrize(
    "end", [b"", b'{"id": 0, "request": {"do": "cancel", "of": 99}}\n{"id": 9, "do": "lo']
)
def test_bad_lines_are_answered_and_the_server_ends_with_stdin(end: bytes) -> None:
    out = io.StringIO()
    server = Server(JobLineWriter(out))
    server.read_requests(io.BytesIO(b"".join(line + b"\n" for line, _, _ in LINES) + end))
    server.serve()
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [answer["kind"] for answer in answers].count("status") == 1
    errors = {answer["id"]: answer["message"] for answer in answers if answer["kind"] == "error"}
    assert list(errors) == [None, 1, 2, 3]
    for _, request_id, said in LINES if not end else LINES[1:]:  # the last line is cut: another id of None
        assert said in errors[request_id]
    assert not any("\n" in message or "unexpectedly" in message for message in errors.values())


def test_the_idle_time_is_that_of_the_environment() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tui_lab.playground.__main__ import IDLE_S; print(IDLE_S)"],
        env={"TUI_LAB_PLAYGROUND_IDLE_S": "0.4", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "0.4\n", done.stderr
