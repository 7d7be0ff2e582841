"""The process itself: it answers whatever is on its stdin in whole JSON lines, and ends with it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

GENERATE = {"do": "generate", "prompt": "a", "lanes": ["greedy"]}
#: Lines, the id of the answer and what it says; test_messages has all kinds of bad lines.
LINES: tuple[tuple[bytes, int | None, str], ...] = (
    (b"nonsense", None, "not valid JSON"),
    (b'{"id": 1, "request": {"do": "dance"}}', 1, "dance"),
    (b'{"id": 2, "request": {"do": "load", "model": "\\u001b[2J"}}', 2, "\u241b[2J"),
    (b'{"id": 3, "request": ' + json.dumps(GENERATE).encode() + b"}", 3, "no model is loaded"),
)


@pytest.mark.timeout(120)
def test_bad_lines_are_answered_and_the_process_ends_with_stdin() -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tui_lab.playground"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin and process.stdout

    def next_answer() -> dict[str, Any]:
        assert process.stdout
        while (answer := json.loads(process.stdout.readline()))["kind"] == "progress":
            pass
        assert isinstance(answer, dict)
        return answer

    try:
        assert next_answer()["kind"] == "status"
        for line, request_id, said in LINES:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = next_answer()
            assert (answer["kind"], answer["id"]) == ("error", request_id) and said in answer["message"]
            assert "\n" not in answer["message"] and "unexpectedly" not in answer["message"]
        process.stdin.write(b'{"id": 0, "request": {"do": "cancel", "of": 99}}\n{"id": 9, "do": "load", "mod')
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
