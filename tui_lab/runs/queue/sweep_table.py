"""A run's figures as short words, the same in the table of runs, in a sweep's and on the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui_lab.core.format import UNKNOWN, duration, size
from tui_lab.runs.index import Summary
from tui_lab.runs.queue.sweep import value_words

#: Columns of a sweep's table behind its values; RIGHT counts from here.
HEADERS = ("run", "state", "loss", "validation", "score", "retention", "peak memory", "time")
RIGHT = (2, 3, 5, 6, 7)
BEST = "★"


def figure(value: float, digits: int = 3) -> str:
    """A loss or a share: 0.229; a dash while unknown."""
    if not math.isfinite(value):
        return UNKNOWN if math.isnan(value) else str(value)
    if value and (abs(value) < 10**-digits or abs(value) >= 1e4):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.{digits}f}"


def score(run: Summary, digits: int = 2) -> str:
    """Acquisition: the new task's own score before and after."""
    if math.isnan(run.score_start) and math.isnan(run.score_end):
        return UNKNOWN
    return f"{figure(run.score_start, digits)}→{figure(run.score_end, digits)}"


def retention(run: Summary, interval: bool = True) -> str:
    """What is kept of what the base knew, with its 95% interval."""
    if math.isnan(run.retention):
        return UNKNOWN
    ends = f" ({run.retention_low:.2f}–{run.retention_high:.2f})" if interval else ""
    return f"{run.retention:.2f}{ends}"


def cells(run: Summary, keys: Sequence[str], is_best: bool) -> list[str]:
    """A row of a sweep's table."""
    return [
        BEST if is_best else "",
        *(value_words(run.sweep_values.get(key, UNKNOWN)) for key in keys),
        run.name or run.id,
        run.state,
        figure(run.loss),
        figure(run.validation),
        score(run),
        retention(run),
        size(run.peak_bytes),
        duration(run.seconds),
    ]
