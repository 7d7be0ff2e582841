"""A flag, and the medians over windows that rules compare, so that a single batch raises nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Literal

from tui_lab.runs.curves import Curve

Severity = Literal["red", "amber"]
#: Steps in a window: a tenth of the logged steps, within these bounds.
WINDOW_LEAST, WINDOW_MOST = 5, 50


@dataclass(frozen=True)
class Flag:
    """``name`` is stable (dismissed flags are stored by it); ``sentence``: the observation."""

    name: str
    severity: Severity
    step: int
    sentence: str
    remedy: str


def window_of(curve: Curve) -> int:
    return max(WINDOW_LEAST, min(WINDOW_MOST, len(curve.values) // 10))


def median_of(values: list[float]) -> float:
    """The median of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan
