"""The reason of a crash as one sentence, from ``worker.log``: the last exception, a fatal signal that Python
reported, or the message of the launcher of several processes; otherwise the process was killed from outside.
"""

from __future__ import annotations

import re

from tui_lab.runs.folder import Run
from tui_lab.runs.state import RunState

#: Number of lines of worker.log that are read.
LINES = 200
_EXCEPTION = re.compile(
    r"^(?:\[process \d+\] )?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)\b.*)$"
)
_FATAL = re.compile(r"^(?:\[process \d+\] )?Fatal Python error: (.+)$")
_SIGNAL = re.compile(r"Signal (\d+) \((SIG\w+)\) received by PID")
_EXIT = re.compile(r"exitcode\s*: (-?\d+)")


def sentence(run: Run, state: RunState) -> str:
    """The reason why a run ended without an end event."""
    if not run.recipe_path.exists():
        return f"its folder {run.path} is gone"
    where = (
        f" at step {state.step}"
        if state.step
        else f" while {state.phase.replace('_', ' ')}"
        if state.phase
        else ""
    )
    if reason := cause(run.log_tail(LINES)):
        return f"it died{where}: {reason}"
    return (
        f"it died{where} without an error message: it was killed from outside (kill -9, out of memory, power "
        "off)"
    )


def cause(lines: list[str]) -> str:
    """The last reason in the lines of a log; "" if there is none."""
    for line in reversed(lines):
        text = line.strip()
        if found := _FATAL.match(text):
            return found[1]
        if found := _SIGNAL.search(text):
            return f"one of its processes was ended by {found[2]}"
        if found := _EXCEPTION.match(text):
            return found[1]
    return ""
