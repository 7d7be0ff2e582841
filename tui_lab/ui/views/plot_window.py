"""The part of the x axis that the plots of a pane show, and their cursor. Pure functions of what keys and
clicks ask for; all plots of a pane share one window, so that they stay comparable."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

#: Fewer steps than this are not worth a whole plot.
NARROWEST = 4.0
#: Share of the window by which one key pans, and parts of it that the cursor passes.
PAN, CURSOR_PARTS = 0.25, 60


@dataclass(frozen=True)
class PlotWindow:
    """``width``: of the part in view; infinite for all. ``end``: its right end; infinite for the newest step,
    so that a zoomed plot follows a run. ``cursor``: NaN where there is none."""

    width: float = math.inf
    end: float = math.inf
    cursor: float = math.nan

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
        width = max(width, min(NARROWEST, high - low))
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
            return replace(self, cursor=float(round(min(right, newest) if by < 0 else left)))
        moved = round(self.cursor + by * max(1.0, (right - left) / CURSOR_PARTS))
        window = replace(self, cursor=float(min(max(moved, math.ceil(low)), math.floor(min(high, newest)))))
        if left <= window.cursor <= right:
            return window
        end = window.cursor if by > 0 else window.cursor + self.width
        return replace(window, end=math.inf if end >= high else end)
