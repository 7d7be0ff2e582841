"""The job protocol seen from the parent: only whole JSON lines on stdout, whatever the job prints."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError

NOISY = """
import os, sys
from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
def handle(request, progress):
    print("stray print")
    os.write(1, b"stray bytes from C\\n")
    sys.__stdout__.write("stray again\\n"); sys.__stdout__.flush()
    progress("half way", 1, 2)
    if request.get("refuse"):
        raise LabError("No: the file is missing.")
    if request.get("fail"):
        raise KeyError("oops")
    return {"echo": request, "nan": float("nan"), "text": "\\ud800\\x1b"}
sys.exit(job_protocol.serve(handle))
"""


def child(request: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-c", NOISY], input=request, capture_output=True, text=True, timeout=60
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_prints_stay_off_stdout() -> None:
    code, lines, stderr = child('{"a": 1}\n')
    assert code == 0 and [line["kind"] for line in lines] == ["progress", "result"]
    assert lines[0] == {"kind": "progress", "text": "half way", "done": 1, "total": 2}
    assert lines[1]["answer"]["echo"] == {"a": 1} and lines[1]["answer"]["nan"] == "nan"
    assert "stray print" in stderr and "stray bytes" in stderr


def test_refusals_are_one_line_and_faults_too() -> None:
    code, lines, stderr = child('{"refuse": true}')
    assert code == job_protocol.EXIT_REFUSED and lines[-1] == {
        "kind": "error",
        "message": "No: the file is missing.",
    }
    assert "Traceback" not in stderr
    code, lines, stderr = child('{"fail": true}')
    assert (
        code == job_protocol.EXIT_FAULT
        and lines[-1]["kind"] == "error"
        and "KeyError" in lines[-1]["message"]
    )
    assert "Traceback" in stderr


class Rows(msgspec.Struct):
    rows: int = 3


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        (
            '{"rows": "x"}',
            {"kind": "error", "message": "The job's request: rows must be a whole number, not text"},
        ),
        ('{"rows": 4, "newer": 1}', {"kind": "result", "answer": {"rows": 4}}),
    ],
)
def test_a_request_is_decoded_into_the_jobs_record(request_text: str, message: dict[str, Any]) -> None:
    out = io.StringIO()
    job_protocol.run(lambda request, progress: request, io.StringIO(request_text), out, Rows)
    assert json.loads(out.getvalue()) == message


@pytest.mark.parametrize("request_text", ["", "nonsense", "[1]", '{"a": '])
def test_bad_requests_are_refused(request_text: str) -> None:
    out = io.StringIO()
    assert (
        job_protocol.run(lambda request, progress: request, io.StringIO(request_text), out)
        == job_protocol.EXIT_REFUSED
    )
    assert json.loads(out.getvalue())["kind"] == "error"


def test_a_request_over_several_lines() -> None:
    assert job_protocol.read_request(io.StringIO('{\n "a":\n 1}\n')) == {"a": 1}
    with pytest.raises(LabError):
        job_protocol.read_request(io.StringIO("{\n"))


def test_a_job_ends_with_the_process_that_reads_its_answer() -> None:
    """Whatever it computes, and although the lab was killed and could not say so."""
    program = (
        "import sys; from tui_lab.core import job_protocol; out = job_protocol.reserve_stdout()\n"
        "print('begins', file=sys.stderr, flush=True)\nwhile True: pass"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            assert process.stderr.readline() == b"begins\n"
            process.stdout.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
