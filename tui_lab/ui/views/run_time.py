"""The time in a run's id."""

from __future__ import annotations

from tui_lab.core.sanitize import sanitize


def run_time(run_id: str) -> str:
    """Month, day and time at which a run was created, from its id: 11-21 12:59."""
    digits = run_id[:8] + run_id[9:13]
    if len(digits) == 12 and digits.isdigit():
        return f"{digits[4:6]}-{digits[6:8]} {digits[8:10]}:{digits[10:12]}"
    return sanitize(run_id)
