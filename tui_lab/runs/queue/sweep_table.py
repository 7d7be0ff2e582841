"""A run's values as short text, for the tables of runs and sweeps and the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui_lab.core.format import UNKNOWN, compact, duration, size
from tui_lab.retention.verdict import CANNOT_TELL
from tui_lab.runs.index import RunSummary
from tui_lab.runs.queue.sweep import format_value
from tui_lab.runs.verdicts import BASELINE, NOT_MEASURABLE

#: Columns of a sweep's table after the swept fields, and which of them are right-aligned.
HEADERS = ("run", "state", "loss", "validation", "acquisition", "retention", "peak memory", "time")
RIGHT = (2, 3, 5, 6, 7)
BEST = "★"


def score(run: RunSummary, digits: int = 2) -> str:
    """Acquisition before and after."""
    if math.isnan(run.score_start) and math.isnan(run.score_end):
        return UNKNOWN
    return f"{compact(run.score_start, digits)}→{compact(run.score_end, digits)}"


def retention(run: RunSummary, interval: bool = True) -> str:
    """Retention, with its 95% interval."""
    if run.verdict == CANNOT_TELL:
        return NOT_MEASURABLE if interval else "n/a"
    if math.isnan(run.retention) or run.verdict == BASELINE:
        return UNKNOWN
    ends = f" ({run.retention_low:.2f}–{run.retention_high:.2f})" if interval else ""
    return f"{run.retention:.2f}{ends}"


def cells(run: RunSummary, keys: Sequence[str], is_best: bool) -> list[str]:
    """A row of a sweep's table."""
    return [
        BEST if is_best else "",
        *(format_value(run.sweep_values.get(key, UNKNOWN)) for key in keys),
        run.name or run.id,
        run.state,
        compact(run.loss),
        compact(run.validation),
        score(run),
        retention(run),
        size(run.peak_bytes),
        duration(run.seconds),
    ]
