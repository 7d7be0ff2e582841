"""A curve in one row of characters, for places that are too small for a plot. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-~=+*#"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """The values in at most ``width`` characters, lowest to highest. A character stands for equally many
    values and shows the one that is farthest from their middle, so that no spike is lost; a blank where none
    is finite."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    levels = ASCII_LEVELS if ascii_only else LEVELS
    low, high = min(finite), max(finite)
    middle, span = (low + high) / 2, high - low
    columns = min(width, len(values))
    text = ""
    for column in range(columns):
        part = values[column * len(values) // columns : (column + 1) * len(values) // columns]
        shown = [value for value in part if math.isfinite(value)]
        if not shown:
            text += " "
            continue
        value = max(shown, key=lambda each: abs(each - middle))
        share = (value - low) / span if 0 < span < math.inf else 0.5
        text += levels[min(len(levels) - 1, int(share * len(levels)))]
    return text
