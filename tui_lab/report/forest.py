"""The forest plot of a report: one row for each suite, category and probe, its retention as a point with its
interval on one axis, beside the threshold and 1 (as the base). Positions are percentages of the axis, so
that the page draws it at any width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tui_lab.core.format import UNKNOWN, decimal
from tui_lab.report.svg import drawable, round_steps
from tui_lab.retention.statistics import Interval
from tui_lab.runs.verdicts import verdict_label

#: Ends of the axis: bounds beyond them are drawn as open ends.
MOST_LOW, MOST_HIGH = -0.5, 1.75
TONES = {"green": "good", "amber": "mild", "red": "bad"}


def tone_of(verdict: str) -> str:
    """good, mild, bad, or none for a verdict that judges nothing."""
    return TONES.get(verdict, "none")


@dataclass(frozen=True)
class ForestLine:
    """One estimate. ``part``: a part of the row above; ``note``: the number of items."""

    name: str
    note: str
    estimate: Interval
    verdict: str
    part: bool = False

    @property
    def figures(self) -> str:
        """The estimate with its interval."""
        found = self.estimate
        if not math.isfinite(found.value):
            return UNKNOWN
        return f"{decimal(found.value, 2)} ({decimal(found.low, 2)} – {decimal(found.high, 2)})"

    @property
    def label(self) -> str:
        return verdict_label(self.verdict)

    @property
    def tone(self) -> str:
        return tone_of(self.verdict)


@dataclass(frozen=True)
class ForestBlock:
    """Rows on one axis."""

    kind: ClassVar[str] = "forest"
    title: str
    rows: tuple[ForestLine, ...]
    threshold: float | None

    @property
    def ticks(self) -> list[float]:
        """Round values from end to end of the axis."""
        low, high = self._needed
        return round_steps(low, high, 4)

    @property
    def _needed(self) -> tuple[float, float]:
        bounds = [
            value
            for row in self.rows
            for value in (row.estimate.low, row.estimate.value, row.estimate.high)
            if drawable(value)
        ]
        known = [1.0, *bounds, *([self.threshold] if self.threshold is not None else [])]
        return max(MOST_LOW, min(known)), min(MOST_HIGH, max(known) + 0.02)

    def at(self, value: float) -> float:
        """Where a value is, in percent of the axis; values beyond it are at its ends."""
        ticks = self.ticks
        if math.isnan(value):
            value = ticks[0]
        share = (min(max(value, ticks[0]), ticks[-1]) - ticks[0]) / (ticks[-1] - ticks[0])
        return round(100 * share, 2)

    @property
    def description(self) -> str:
        """The plot in words."""
        return " ".join(f"{row.name}: {row.figures}, {row.label}." for row in self.rows)


def forest(title: str, rows: Sequence[ForestLine], threshold: float | None) -> ForestBlock | None:
    """The plot; None where no row has an estimate."""
    if not any(drawable(row.estimate.value) for row in rows):
        return None
    return ForestBlock(title, tuple(rows), threshold)
