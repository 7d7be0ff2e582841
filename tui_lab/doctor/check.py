"""What a check of the doctor says, and the child process in which whatever may crash is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tui_lab.core.sanitize import sanitize

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One finding. ``advice`` is what to do; empty when there is nothing to do."""

    name: str
    state: State
    found: str
    advice: str = ""


def gb(size: float) -> str:
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB"


def child(code: str, timeout_s: float, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a Python child prints as JSON on its last line; ``{"error": sentence}`` otherwise."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:g} s"}
    except OSError as error:
        return {"error": f"cannot start Python ({error.strerror})"}
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        if done.returncode == 0:
            answer = json.loads(lines[-1])
            if isinstance(answer, dict):
                return answer
    except (IndexError, ValueError):
        pass
    if done.returncode < 0:
        return {"error": f"it crashed (signal {-done.returncode})"}
    words = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return {"error": sanitize(words[-1])[:300] if words else "it ended without a word"}
