"""Draws a chart as inline SVG: axes with round ticks, series with gaps where nothing was measured,
intervals as upright bars, bands and dashed reference lines, and a legend. Colours are classes of the
page's style sheet, which has a light and a dark palette; series also differ by their mark. Title and
description are the text alternative."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape

from tui_lab.core.sanitize import sanitize
from tui_lab.report.charts import Chart, ChartSeries, thinned

WIDTH, HEIGHT = 460.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 68.0, 12.0, 40.0, 42.0
TICKS = 5
#: The width of a legend entry: a mark and about this much per character.
MARK_PX, CHARACTER_PX = 36.0, 7.4
POINT_PX = 3.2

Point = tuple[float, float]
#: Larger values are not drawn: their differences would be infinite.
MAX_DRAWN = 1e300


def drawable(*values: float) -> bool:
    """Whether all values can be drawn."""
    return all(math.isfinite(value) and abs(value) < MAX_DRAWN for value in values)


def clean(text: str) -> str:
    """Text escaped for an element or a quoted attribute, with control characters made visible."""
    return escape(sanitize(text), quote=True)


def round_steps(low: float, high: float, about: int = TICKS, binary: bool = False) -> list[float]:
    """Ticks from at most ``low`` to at least ``high``, in steps of 1, 2 or 5 times a power of ten, or of a
    power of two."""
    span = max(high - low, 1e-300)
    if binary:
        step = 2.0 ** math.ceil(math.log2(span / about))
    else:
        power = 10.0 ** math.floor(math.log10(span / about))
        step = next(f * power for f in (1, 2, 5, 10) if f * power * about >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def svg(chart: Chart) -> str:
    """The chart as one ``svg`` element."""
    description = chart.description
    chart = replace(chart, series=tuple(map(_thinned, chart.series)))
    xs, ys = _extent(chart)
    scale = _Scale(chart, xs, ys)
    name = f"chart-{chart.id}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-labelledby="{name}-title {name}-description">',
        f'<title id="{name}-title">{clean(chart.title)}</title>',
        f'<desc id="{name}-description">{clean(description)}</desc>',
        *_axes(chart, scale),
        *(element for line in chart.series for element in _series(line, scale)),
        *_legend(chart.series),
        "</svg>",
    ]
    return "\n".join(parts)


def _thinned(line: ChartSeries) -> ChartSeries:
    """The series with no more points than are visible."""
    if line.lows or line.highs:
        return line
    points = thinned(line.xs, line.ys)
    return replace(line, xs=[x for x, _ in points], ys=[y for _, y in points])


def _extent(chart: Chart) -> tuple[list[float], list[float]]:
    """All drawable x, and all drawable y with their intervals."""
    xs = [x for line in chart.series for x in line.xs if drawable(x)]
    ys = [y for line in chart.series for point in line.intervals() for y in point if drawable(y)]
    return xs or [0.0, 1.0], ys or [0.0, 1.0]


class _Scale:
    """Maps values to pixels."""

    def __init__(self, chart: Chart, xs: Sequence[float], ys: Sequence[float]) -> None:
        low, high = min(ys), max(ys)
        if chart.from_zero:
            low, high = min(low, 0.0), max(high, 0.0)
        if not high > low:
            low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
        self.y_ticks = round_steps(low, high, binary=chart.unit == "bytes")
        self.low, self.high = self.y_ticks[0], self.y_ticks[-1]
        if not self.high > self.low:  # too close for floats to separate the ticks
            self.low, self.high = self.low - abs(self.low), self.low + (abs(self.low) or 1.0)
        first, last = min(xs), max(xs)
        self.first, self.last = (first, last) if last - first >= 1e-9 else (first - 0.5, first + 0.5)
        self.x_ticks = [x for x in round_steps(self.first, self.last) if self.first <= x <= self.last]

    def x(self, value: float) -> float:
        return LEFT + (value - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def _axes(chart: Chart, scale: _Scale) -> Iterator[str]:
    for tick in scale.y_ticks:
        y = scale.y(tick)
        yield f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        shown = chart.show(tick) if tick else "0"
        yield f'<text class="tick" x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{clean(shown)}</text>'
    for tick in scale.x_ticks:
        x, y = scale.x(tick), HEIGHT - BOTTOM
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:g}" y2="{y + 4:g}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{y + 17:g}" text-anchor="middle">{tick:g}</text>'
    y, x = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    yield f'<line class="axis" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:g}" y2="{y:g}"/>'
    yield f'<text class="name" x="{x:g}" y="{HEIGHT - 8:g}" text-anchor="middle">{clean(chart.x_name)}</text>'
    if chart.unit == "bytes":
        return  # the ticks have the unit
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield (
        f'<text class="name" x="14" y="{middle:g}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle:g})">{clean(chart.y_name)}</text>'
    )


def _series(line: ChartSeries, scale: _Scale) -> Iterator[str]:
    colour = f"c{line.colour}"
    if line.style == "band":
        top = scale.y(max(line.highs))
        height = scale.y(min(line.lows)) - top
        yield (
            f'<rect class="band {colour}" x="{scale.x(line.xs[0]):.1f}" y="{top:.1f}" '
            f'width="{scale.x(line.xs[-1]) - scale.x(line.xs[0]):.1f}" height="{height:.1f}"/>'
        )
        return
    for x, (_, low, high) in zip(line.xs, line.intervals(), strict=True):
        if drawable(x, low, high):
            at, top, bottom = scale.x(x), scale.y(high), scale.y(low)
            yield (
                f'<path class="bar {colour}" d="M{at:.1f} {top:.1f}V{bottom:.1f}'
                f'M{at - 4:.1f} {top:.1f}h8M{at - 4:.1f} {bottom:.1f}h8"/>'
            )
    runs = list(_unbroken(list(zip(line.xs, line.ys, strict=True)), scale))
    path = "".join(
        f"M{x:.1f} {y:.1f}" + "".join(f"L{a:.1f} {b:.1f}" for a, b in rest) for (x, y), *rest in runs
    )
    if path:
        yield f'<path class="{line.style} {colour}" d="{path}"/>'
    alone = [run[0] for run in runs if len(run) == 1]
    marked = [point for run in runs for point in run] if line.style == "points" else alone
    for x, y in marked:
        yield f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="{POINT_PX:g}"/>'


def _unbroken(points: Sequence[Point], scale: _Scale) -> Iterator[list[Point]]:
    """The stretches between gaps, in pixels."""
    stretch: list[Point] = []
    for x, y in points:
        if drawable(x, y):
            stretch.append((scale.x(x), scale.y(y)))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _legend(lines: Sequence[ChartSeries]) -> Iterator[str]:
    x, y = LEFT, 14.0
    for line in lines:
        width = MARK_PX + CHARACTER_PX * len(line.name)
        if x > LEFT and x + width > WIDTH - RIGHT:
            x, y = LEFT, y + 16
        colour = f"c{line.colour}"
        if line.style == "band":
            yield f'<rect class="band {colour}" x="{x:g}" y="{y - 9:g}" width="20" height="10"/>'
        else:
            yield f'<path class="{line.style} {colour}" d="M{x:g} {y - 4:g}h20"/>'
        if line.style == "points":
            yield f'<circle class="{colour}" cx="{x + 10:g}" cy="{y - 4:g}" r="{POINT_PX:g}"/>'
        yield f'<text class="legend" x="{x + 26:g}" y="{y:g}">{clean(line.name)}</text>'
        x += width
