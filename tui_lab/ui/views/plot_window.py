"""The part of the x axis that a plot shows, and its cursor. Pure functions of what keys and clicks ask for.
The plots of Train share one window, so that they stay comparable; plots with different axes have one each."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: Fewer units of x, such as steps, are not worth a whole plot.
NARROWEST = 4.0
#: Share of the window by which one key pans, and parts of it that the cursor passes.
PAN, CURSOR_PARTS = 0.25, 60


@dataclass(frozen=True)
class PlotWindow:
    """``width``: of the part in view; infinite for all. ``end``: its right end; infinite for the newest step,
    so that a zoomed plot follows a run. ``cursor``: NaN where there is none. ``unit``: of x, which the cursor
    counts."""

    width: float = math.inf
    end: float = math.inf
    cursor: float = math.nan
    unit: float = 1.0

    def view(self, low: float, high: float) -> tuple[float, float] | None:
        """The part of low..high in view; None for all of it."""
        if self.width >= high - low:
            return None
        end = max(low + self.width, min(self.end, high))
        return end - self.width, end

    def _ends(self, low: float, high: float) -> tuple[float, float]:
        return self.view(low, high) or (low, high)

    def zoomed(self, inward: bool, low: float, high: float) -> PlotWindow:
        """Half or twice as much in view: around the cursor if that is in view, else up to the same end."""
        left, right = self._ends(low, high)
        width = (right - left) / 2 if inward else (right - left) * 2
        if width >= high - low:
            return replace(self, width=math.inf, end=math.inf)
        width = max(width, min(NARROWEST * self.unit, high - low))
        if left <= self.cursor <= right:
            right = max(low + width, self.cursor + width / 2)
        return replace(self, width=width, end=math.inf if right >= high else right)

    def panned(self, by: int, low: float, high: float) -> PlotWindow:
        """A quarter of the window to the left or right."""
        if (view := self.view(low, high)) is None:
            return self
        right = max(low + self.width, view[1] + by * PAN * self.width)
        return replace(self, end=math.inf if right >= high else right)

    def pointed(self, by: int, low: float, high: float, newest: float = math.inf) -> PlotWindow:
        """The cursor some steps further; it begins at the newest step, or at the first when it goes right,
        and does not go beyond ``newest``. The window follows it."""
        left, right = self._ends(low, high)
        if not left <= self.cursor <= right:
            return replace(
                self, cursor=self.unit * round((min(right, newest) if by < 0 else left) / self.unit)
            )
        moved = round((self.cursor + by * max(self.unit, (right - left) / CURSOR_PARTS)) / self.unit)
        first, last = math.ceil(low / self.unit), math.floor(min(high, newest) / self.unit)
        return self.at(self.unit * min(max(moved, first), last), low, high)

    def on_points(self, by: int, xs: Sequence[float], low: float, high: float) -> PlotWindow:
        """The cursor on the next of a few points, which are ascending; it begins at the last, or at the
        first when it goes right."""
        if not xs:
            return self
        if math.isnan(self.cursor):
            return self.at(xs[-1] if by < 0 else xs[0], low, high)
        place = bisect_right(xs, self.cursor) if by > 0 else bisect_left(xs, self.cursor) - 1
        return self.at(xs[min(max(place, 0), len(xs) - 1)], low, high)

    def at(self, cursor: float, low: float, high: float) -> PlotWindow:
        """The cursor at a place, which the window follows."""
        window = replace(self, cursor=float(cursor))
        left, right = self._ends(low, high)
        if left <= cursor <= right:
            return window
        end = cursor if cursor > right else cursor + self.width
        return replace(window, end=math.inf if end >= high else end)
