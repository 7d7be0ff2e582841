"""What a plot is made of: curves, marks above the axis, and the options of its drawing. Series differ by
their markers too, so that no meaning depends on colour alone."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tui_lab.ui.views.plot_data import Unit
from tui_lab.ui.views.spans import TextSpan

Marker = Literal["braille", "block", "ascii"]
LineStyle = Literal["thin", "thick", "points", "dashed"]
LineWeight = Literal["normal", "thick"]
PlotRow = list[TextSpan]

#: By marker and line style: plotext's marker and the sample in the legend, of normal and of thick lines.
#: Styles differ in shape, so that no meaning depends on colour alone.
STYLES: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "braille": {
        "thin": ("braille", "⠒⠒", "braille", "⠶⠶"),
        "thick": ("braille", "⠶⠶", "braille", "⣿⣿"),
        "points": ("●", "●", "◆", "◆"),
        "dashed": ("╌", "╌╌", "╍", "╍╍"),
    },
    "block": {
        "thin": ("hd", "▚▞", "hd", "▀▄"),
        "thick": ("█", "██", "█", "██"),
        "points": ("●", "●", "◆", "◆"),
        "dashed": ("╌", "╌╌", "╍", "╍╍"),
    },
    "ascii": {
        "thin": (".", "..", "*", "**"),
        "thick": ("#", "##", "#", "##"),
        "points": ("o", "o", "@", "@"),
        "dashed": ("-", "--", "=", "=="),
    },
}
#: Dots below one another in a line, by style and weight.
WIDE = {("thin", "normal"): 1, ("thick", "normal"): 2, ("thin", "thick"): 2, ("thick", "thick"): 3}
#: Points of a curve in view that are drawn from the curve itself; of more from its outline.
MOST_RAW_POINTS = 8_000


@dataclass(frozen=True)
class PlotSeries:
    """One curve. ``role``: its colour in the theme. ``xs`` is ascending; NaN in ``ys`` is a gap. ``mark``: a
    character that replaces the marker of ``style``. ``shows_last``: the legend has its newest value.
    ``brief``: a shorter name for a narrow legend. A series without ``name`` is not in the legend.
    ``labels``: a name beside each point. ``outline`` gives the curve in fewer points, see
    :meth:`tui_lab.runs.curves.Curve.outline`."""

    name: str
    role: str
    xs: Sequence[float] = field(repr=False)
    ys: Sequence[float] = field(repr=False)
    style: LineStyle = "thin"
    mark: str = ""
    shows_last: bool = True
    brief: str = ""
    labels: Sequence[str] = ()
    outline: Callable[[], tuple[Sequence[float], Sequence[float]]] | None = field(default=None, repr=False)

    def points(self, low: float = -math.inf, high: float = math.inf) -> tuple[list[float], list[float]]:
        """The points with x in low..high and one beside each end; of a long curve those of its outline."""
        xs, ys = self.xs, self.ys
        start, end = self._between(xs, low, high)
        if end - start > MOST_RAW_POINTS and self.outline is not None:
            xs, ys = self.outline()
            start, end = self._between(xs, low, high)
        return list(xs[start:end]), list(ys[start:end])

    @staticmethod
    def _between(xs: Sequence[float], low: float, high: float) -> tuple[int, int]:
        return max(0, bisect_left(xs, low) - 1), min(len(xs), bisect_right(xs, high) + 1)

    def at(self, x: float) -> float:
        """The value at the last point at or before x, else at the first; NaN without points."""
        if not len(self.xs):
            return math.nan
        return float(self.ys[max(0, bisect_right(self.xs, x) - 1)])

    @property
    def last(self) -> float:
        """The newest finite value; NaN when there is none."""
        return next((y for y in reversed(self.ys) if math.isfinite(y)), math.nan)


@dataclass(frozen=True)
class PlotOptions:
    """How a plot is drawn.

    ``empty``: text while there is no data. ``weight``: "thick" makes every line a dot wider, for projectors.
    ``settle``: the y axis leaves out a steep start; ``note_inside``: the plot says so itself. ``x_low`` and
    ``x_high``: x that the axis has at least; NaN for the data's. ``view``: the part of x that is shown, (low,
    high). ``values``: newest values in the legend. ``whole_x``: x counts steps. ``cursor``: the x whose
    values the legend shows.
    """

    title: str = ""
    empty: str = "nothing to show yet"
    marker: Marker = "braille"
    weight: LineWeight = "normal"
    unit: Unit = "number"
    log: bool = False
    from_zero: bool = False
    settle: bool = False
    x_low: float = math.nan
    x_high: float = math.nan
    view: tuple[float, float] | None = None
    values: bool = True
    note_inside: bool = False
    whole_x: bool = True
    cursor: float = math.nan

    def mark(self, style: LineStyle) -> str:
        """plotext's marker of a line style."""
        return STYLES[self.marker][style][2 if self.weight == "thick" else 0]

    def glyph(self, style: LineStyle) -> str:
        """The legend's sample of a line style."""
        return STYLES[self.marker][style][3 if self.weight == "thick" else 1]


@dataclass(frozen=True)
class PlotMark:
    """A glyph above the x axis: a checkpoint, a probe, a red flag. A later mark covers an earlier one."""

    x: float
    glyph: str
    role: str
    name: str


def plain(rows: Sequence[PlotRow]) -> str:
    """The rows as text without roles."""
    return "\n".join("".join(text for text, _ in row) for row in rows)


def cut_row(row: PlotRow, width: int) -> PlotRow:
    """The row in exactly ``width`` cells. All characters drawn here are one cell wide."""
    out: PlotRow = []
    free = width
    for text, role in row:
        if free <= 0:
            break
        out.append((text[:free], role))
        free -= len(text)
    if free > 0:
        out.append((" " * free, "axis"))
    return out
