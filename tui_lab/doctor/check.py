"""The finding of a check, and the child process for code that may crash or hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json
from tui_lab.core.sanitize import sanitize

CheckState = Literal["ok", "warn", "fail"]
AnswerT = TypeVar("AnswerT")


class DoctorCheck(msgspec.Struct, frozen=True):
    """One finding. ``advice`` says what to do; it is empty when there is nothing to do."""

    name: str
    state: CheckState
    found: str
    advice: str = ""


class ChildFailed(Exception):
    """The child gave no answer; the message is the reason, safe to print."""


def run_child(
    code: str, answer: type[AnswerT], timeout_s: float, environment: Mapping[str, str] | None = None
) -> AnswerT:
    """Runs Python code in a child process and decodes the last line of its stdout from JSON. Raises
    ChildFailed."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise ChildFailed(f"cannot start Python ({error.strerror})") from None
    if done.returncode < 0:
        raise ChildFailed(f"it crashed (signal {-done.returncode})")
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode == 0 and lines:
        try:
            return from_json(lines[-1], answer, "its answer")
        except LabError as error:
            raise ChildFailed(sanitize(str(error))) from None
    errors = done.stderr.decode("utf-8", "replace").strip().splitlines()
    raise ChildFailed(sanitize(errors[-1])[:300] if errors else "it ended without output")
