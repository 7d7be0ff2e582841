"""Runs Python programs that a model wrote, each in a child process with limits of time, memory and files, in
a temporary folder, without a network, other processes or changes outside the folder. See
:mod:`~tui_lab.core.sandbox_child` for what enforces that."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tui_lab.core import sandbox_child
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

#: Processor seconds of a program, the limit of HumanEval's own program; waiting is limited by the second.
CPU_S, WALL_S = 3, 15.0
MEMORY_BYTES, FILE_BYTES = 1 << 30, 8 << 20
_ANSWER_BYTES = 4096

Guard = Literal["kernel", "hook"]


@dataclass(frozen=True)
class ProgramOutcome:
    """What became of a program. ``reason``: why it did not pass. ``guard``: what kept it in: the kernel, or
    only an audit hook of Python."""

    passed: bool
    reason: str = ""
    guard: Guard = "kernel"


def run(program: str, guard: Guard = "kernel", cpu_s: int = CPU_S, wall_s: float = WALL_S) -> ProgramOutcome:
    """Runs a program; it passes when it ends without an exception. ``guard``: "hook" leaves the kernel out.
    Raises LabError where no process can be started."""
    token = secrets.token_hex(16)
    request = {
        "program": program,
        "token": token,
        "guard": guard,
        "cpu_s": cpu_s,
        "memory_bytes": MEMORY_BYTES,
        "file_bytes": FILE_BYTES,
    }
    with (
        tempfile.TemporaryDirectory(prefix="tui-lab-answer-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as asked,
        tempfile.TemporaryFile() as answer,
    ):
        asked.write(json.dumps(request).encode())
        asked.seek(0)
        ended = _wait(asked.fileno(), answer.fileno(), folder, wall_s)
        answer.seek(0)
        text = answer.read(_ANSWER_BYTES).decode("utf-8", "replace")
    used, _, rest = text.partition(" ")
    found, _, what = rest.partition(" ")
    kept: Guard = "kernel" if used == "kernel" else "hook"
    if found == token and what == "passed":
        return ProgramOutcome(True, guard=kept)
    if found == token:
        return ProgramOutcome(False, sanitize(what), kept)
    return ProgramOutcome(False, ended or "it ended before its tests", kept)


def _wait(asked: int, answer: int, folder: str, wall_s: float) -> str:
    """Runs the child in a folder; why it did not end by itself, "" where it did."""
    environment = {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", str(Path(sandbox_child.__file__))],
            stdin=asked,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise LabError(f"answers cannot be run ({error.strerror or error})") from None
    try:
        code = child.wait(wall_s)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return f"it took longer than {wall_s:g} s"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it used its processor time up"
    return "" if code == 0 else f"it ended with status {code}"


def run_all(programs: Sequence[str]) -> list[ProgramOutcome]:
    """Runs programs, some at a time, as many as there are processors. Raises LabError."""
    with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
        return list(pool.map(run, programs))


@functools.cache
def guard() -> Guard:
    """What keeps programs in on this machine. Raises LabError where none can run."""
    found = run("pass")
    if not found.passed:
        raise LabError(f"answers cannot be run on this machine: {found.reason}")
    return found.guard
