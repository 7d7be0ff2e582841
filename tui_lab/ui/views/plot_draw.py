"""Draws curves as rows of text with plotext: a pure function of data, width and height. Every span of
characters has a role (``train``, ``axis`` …) instead of a colour, so that a change of theme needs no new
drawing. Series also differ by their markers, which the legend shows next to the names.

plotext has one global figure: it is cleared before and after, and may be used from one thread only. It is
imported at the first drawing, after the lab's first frame."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tui_lab.ui.views.plot_data import (
    Axis,
    Unit,
    bounded,
    linear_axis,
    log_axis,
    logarithm,
    quantity,
    reduce,
    steps_axis,
)
from tui_lab.ui.views.spans import TextSpan, fit

Marker = Literal["braille", "block", "ascii"]
LineStyle = Literal["thin", "thick", "points", "dashed"]
LineWeight = Literal["normal", "thick"]
PlotRow = list[TextSpan]

#: By marker and line style: plotext's marker and the sample in the legend, of normal and of thick lines.
#: Styles differ in shape, so that no meaning depends on colour alone.
STYLES: dict[str, dict[str, tuple[str, str, str, str]]] = {
    "braille": {
        "thin": ("braille", "⠒⠒", "braille", "⠶⠶"),
        "thick": ("hd", "▀▀", "hd", "██"),
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
#: Drawing order: thresholds and forecasts first, then lines, then points.
LAYERS = {"dashed": 0, "thin": 1, "thick": 1, "points": 2}
#: Dots per cell (horizontal, vertical) of the markers with subcell resolution.
DOTS = {"braille": (2, 4), "hd": (2, 2)}
_TO_ASCII = str.maketrans("│┤├└─┬┴┼┌┐┘–×·…", "||++-++++++-x..")
_SPAN = re.compile(r"(?:\x1b\[38;5;(\d+)m)?([^\x1b\n]*)(?:\x1b\[0m)?")
MIN_WIDTH, MIN_HEIGHT = 16, 5
#: A curve that begins within this share of the x range is drawn from zero on.
NEAR_ZERO = 0.1


@dataclass(frozen=True)
class PlotSeries:
    """One curve. ``role``: its colour in the theme. ``xs`` is ascending; NaN in ``ys`` is a gap. ``mark``: a
    character that replaces the marker of ``style``. ``shows_last``: the legend has its newest value.
    ``brief``: a shorter name for a narrow legend. A series without ``name`` is not in the legend."""

    name: str
    role: str
    xs: Sequence[float] = field(repr=False)
    ys: Sequence[float] = field(repr=False)
    style: LineStyle = "thin"
    mark: str = ""
    shows_last: bool = True
    brief: str = ""

    @property
    def last(self) -> float:
        """The newest finite value; NaN when there is none."""
        return next((y for y in reversed(self.ys) if math.isfinite(y)), math.nan)


@dataclass(frozen=True)
class PlotOptions:
    """How a plot is drawn.

    ``empty``: text while there is no data. ``weight``: "thick" makes every line a dot wider, for projectors.
    ``x_high``: the planned end of x, so that progress shows; 0 for the end of the data. ``values``: newest
    values in the legend. ``whole_x``: x counts steps.
    """

    title: str = ""
    empty: str = "nothing to show yet"
    marker: Marker = "braille"
    weight: LineWeight = "normal"
    unit: Unit = "number"
    log: bool = False
    from_zero: bool = False
    x_high: float = 0.0
    values: bool = True
    whole_x: bool = True

    def mark(self, style: LineStyle) -> str:
        """plotext's marker of a line style."""
        return STYLES[self.marker][style][2 if self.weight == "thick" else 0]

    def glyph(self, style: LineStyle) -> str:
        """The legend's sample of a line style."""
        return STYLES[self.marker][style][3 if self.weight == "thick" else 1]


def draw(
    series: Sequence[PlotSeries], width: int, height: int, options: PlotOptions | None = None
) -> list[PlotRow]:
    """Draws ``height`` rows of exactly ``width`` cells: a heading with the legend, then the plot."""
    options = options or PlotOptions()
    if width < 1 or height < 1:
        return []
    heading = _heading(series, width, options)
    shown = [_finite_part(one, options.log) for one in series]
    if not any(ys for _, ys in shown):
        return _empty(heading, width, height, options)
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        rows = [heading] + [[(" " * width, "axis")] for _ in range(height - 1)]
    else:
        rows = [heading, *_figure(series, shown, width, height - 1, options)]
    return [_ascii(row) for row in rows] if options.marker == "ascii" else rows


def plain(rows: Sequence[PlotRow]) -> str:
    """The rows as text without roles."""
    return "\n".join("".join(text for text, _ in row) for row in rows)


def _finite_part(one: PlotSeries, log: bool) -> tuple[list[float], list[float]]:
    """The points in drawn coordinates; empty lists when none can be drawn."""
    ys = [(logarithm if log else bounded)(y) for y in one.ys]
    if not any(map(math.isfinite, ys)):
        return [], []
    return list(one.xs), list(ys)


def _ascii(row: PlotRow) -> PlotRow:
    return [(text.translate(_TO_ASCII).encode("ascii", "replace").decode(), role) for text, role in row]


def _cut(row: PlotRow, width: int) -> PlotRow:
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


def _heading(series: Sequence[PlotSeries], width: int, options: PlotOptions) -> PlotRow:
    """Title, then sample, name and newest value of each series. A narrow heading has no values, then brief
    names, then an ellipsis in place of the last series."""
    named = [one for one in series if one.name]
    for values, brief in ((options.values, False), (False, False), (False, True)):
        row = _legend(named, options, values, brief)
        if len(plain([row]).rstrip()) <= width:
            return _cut(row, width)
    while len(row) > 1 and len(plain([row]).rstrip()) >= width:
        del row[-2:]
    text, role = row[-1]
    return _cut([*row[:-1], (fit(f"{text.rstrip()}…", min(width, len(text) + 1)), role)], width)


def _legend(named: Sequence[PlotSeries], options: PlotOptions, values: bool, brief: bool) -> PlotRow:
    row: PlotRow = [(f"{options.title} " if options.title else "", "title")]
    for one in named:
        shown = values and one.shows_last and math.isfinite(one.last)
        value = f" {quantity(one.last, options.unit)}" if shown else ""
        gap = " " if not brief and (options.title or len(row) > 1) else ""
        row.append((f"{gap}{one.mark or options.glyph(one.style)} ", one.role))
        row.append((f"{(brief and one.brief) or one.name}{value} ", "legend"))
    return row


def _empty(heading: PlotRow, width: int, height: int, options: PlotOptions) -> list[PlotRow]:
    rows = [heading] + [[(" " * width, "axis")] for _ in range(height - 1)]
    lines = textwrap.wrap(options.empty, max(1, width - 4))
    top = max(min(1, height - 1), (height - len(lines)) // 2)
    for number, line in enumerate(lines):
        if top + number < height:
            rows[top + number] = _cut([(line.center(width), "legend")], width)
    return [_ascii(row) for row in rows] if options.marker == "ascii" else rows


def _axes(
    shown: Sequence[tuple[list[float], list[float]]], width: int, height: int, options: PlotOptions
) -> tuple[Axis, Axis]:
    values = [y for _, ys in shown for y in ys if math.isfinite(y)]
    low, high = min(values), max(values)
    most_y = max(1, min(6, (height - 2) // 2))
    if options.log:
        y_axis = log_axis(10**low, 10**high, most_y)
    else:
        y_axis = linear_axis(low, high, most_y, from_zero=options.from_zero, unit=options.unit)
    ends = [x for xs, _ in shown for x in (xs[:1] + xs[-1:])]
    right = max(*ends, options.x_high)
    if options.whole_x:
        left = min(ends)
        if 0 < left <= right * NEAR_ZERO:
            left = 0.0  # so that plots side by side begin alike
        x_axis = steps_axis(left, right, max(1, width // 10))
    else:
        x_axis = linear_axis(min(ends), right, max(1, width // 12))
    return x_axis, y_axis


def _segments(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[list[float], list[float]]]:
    """The parts of a curve between its gaps."""
    out: list[tuple[list[float], list[float]]] = []
    open_ = False
    for x, y in zip(xs, ys, strict=True):
        if not math.isfinite(y):
            open_ = False
            continue
        if not open_:
            out.append(([], []))
            open_ = True
        out[-1][0].append(x)
        out[-1][1].append(y)
    return out


def _figure(
    series: Sequence[PlotSeries],
    shown: Sequence[tuple[list[float], list[float]]],
    width: int,
    height: int,
    options: PlotOptions,
) -> list[PlotRow]:
    import plotext

    x_axis, y_axis = _axes([data for data in shown if data[1]], width, height, options)
    label_width = max((len(label) for label in y_axis.labels), default=0)
    if y_axis.unit:
        label_width = max(label_width, len(y_axis.unit))
    canvas_width = max(1, width - label_width - 1)
    x_step = (x_axis.high - x_axis.low) / canvas_width
    y_step = (y_axis.high - y_axis.low) / max(1, height - 2)
    plotext.clear_figure()
    try:
        plotext.limit_size(False, False)
        plotext.plot_size(width, height)
        plotext.theme("clear")
        plotext.xaxes(True, False)
        plotext.yaxes(True, False)
        plotext.xlim(x_axis.low, x_axis.high)
        plotext.ylim(y_axis.low, y_axis.high)
        plotext.xticks(x_axis.ticks, x_axis.labels)
        plotext.yticks(y_axis.ticks, [label.rjust(label_width) for label in y_axis.labels])
        numbered = enumerate(zip(series, shown, strict=True), start=1)
        for number, (one, (xs, ys)) in sorted(numbered, key=lambda each: LAYERS[each[1][0].style]):
            mark = one.mark or options.mark(one.style)
            for part_x, part_y in _segments(*reduce(xs, ys, canvas_width)):
                if one.mark or one.style == "points" or len(part_x) == 1:
                    plotext.scatter(part_x, part_y, marker=mark, color=number)
                    continue
                if options.weight == "thick" and mark in DOTS:
                    across, down = DOTS[mark]
                    shifted = [min(x + x_step / across, x_axis.high) for x in part_x]
                    below = [max(y - y_step / down, y_axis.low) for y in part_y]
                    # forth, back a dot lower, and forth again: as two curves one would erase the other's dots
                    part_x, part_y = part_x + part_x[::-1] + shifted, part_y + below[::-1] + part_y
                plotext.plot(part_x, part_y, marker=mark, color=number)
        text = plotext.build()
    finally:
        plotext.clear_figure()
    roles = {str(number): one.role for number, one in enumerate(series, start=1)}
    rows = [_cut(_spans(line, roles), width) for line in text.split("\n")[:height]]
    rows += [_cut([], width) for _ in range(height - len(rows))]
    if y_axis.unit:
        corner = y_axis.unit.rjust(label_width)
        rows[-1] = _cut([(corner, "axis"), *_without_first(rows[-1], len(corner))], width)
    return rows


def _without_first(row: PlotRow, count: int) -> PlotRow:
    """The row without its first ``count`` cells."""
    out: PlotRow = []
    for text, role in row:
        if count >= len(text):
            count -= len(text)
            continue
        out.append((text[count:], role))
        count = 0
    return out


def _spans(line: str, roles: dict[str, str]) -> PlotRow:
    """One line of plotext's output as spans."""
    return [(match[2], roles.get(match[1] or "", "axis")) for match in _SPAN.finditer(line) if match[2]]
