"""The process by itself: whatever stands on its stdin, it answers in whole JSON lines and ends with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

GARBAGE = (b"nonsense", b"[1, 2]", b"\xff\xfe\x00", b"", b'"text"', b"[" * 100_000)
#: Requests that cannot be, and what is said of them.
REQUESTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"id": 1}, "does not know the request"),
    ({"id": 2, "do": "load", "colour": "red"}, "'colour' is none of model"),
    ({"id": 3, "do": "generate", "prompt": 7, "lanes": []}, "prompt is a text"),
    ({"id": 4, "do": "load", "model": 7}, "model is a text"),
    ({"id": 5, "do": "judge", "prompt_ids": [1], "token_ids": ["x"], "on": []}, "token_ids is a list of"),
    ({"id": 6, "do": "load", "model": "\x1b[2J"}, "␛[2J"),
    ({"id": 7, "do": "generate", "prompt": "a", "lanes": [7]}, "lanes is a list of texts"),
    ({"id": 8, "do": "generate", "prompt": "a", "lanes": [], "max_new_tokens": "9"}, "is a whole number"),
    ({"id": 9, "do": "generate", "prompt": "a", "lanes": ["greedy"]}, "no model is loaded"),
    ({"id": 10, "do": ["x"]}, "does not know the request"),
    ({"id": None, "do": "count", "prompt": "a"}, "lanes is missing"),
    ({"id": 11, "do": "judge", "prompt_ids": [1]}, "on is missing; token_ids is missing"),
)


@pytest.mark.timeout(60)
def test_garbage_is_answered_and_the_end_of_stdin_is_the_end() -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tui_lab.playground"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin and process.stdout

    def next_line() -> dict[str, Any]:
        assert process.stdout
        answer = json.loads(process.stdout.readline())
        assert isinstance(answer, dict)
        return answer

    try:
        assert next_line()["kind"] == "status"
        for garbage in GARBAGE:
            process.stdin.write(garbage + b"\n")
            process.stdin.flush()
            answer = next_line()
            assert answer["kind"] == "error" and "not valid JSON" in answer["message"], garbage[:20]
        for request, said in REQUESTS:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = next_line()
            while answer["kind"] == "progress":
                answer = next_line()
            assert answer["kind"] == "error" and answer["id"] == request["id"] and said in answer["message"]
            assert "\n" not in answer["message"] and "\x1b" not in answer["message"]
            assert "unexpectedly" not in answer["message"], answer
        process.stdin.write(b'{"do": "cancel", "of": 99}\n{"id": 9, "do": "load", "mod')
        process.stdin.close()
        began = time.monotonic()
        assert process.wait(5) == 0 and time.monotonic() - began < 3
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.stderr
        process.stderr.close()
