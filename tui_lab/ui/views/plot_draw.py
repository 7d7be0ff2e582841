"""Draws curves as rows of text: a pure function of data, width and height. The axes are made here, so that a
label stands in the row that holds its value; plotext draws the lines. Every span of characters has a role
(``train``, ``axis`` …) instead of a colour, so that a change of theme needs no new drawing. Series also
differ by their markers, which the legend shows next to the names."""

from __future__ import annotations

import math
import textwrap
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tui_lab.core.format import plural
from tui_lab.runs.curves import reduce
from tui_lab.ui.terminal.ascii import to_ascii
from tui_lab.ui.views.plot_canvas import (
    Cell,
    Columns,
    Stroke,
    add_line,
    add_points,
    canvas,
    coarser,
    dots_of,
    joined,
    widened,
)
from tui_lab.ui.views.plot_data import (
    Axis,
    bounded,
    log_axis,
    logarithm,
    place,
    quantity,
    row_axis,
    settled_from,
    steps_axis,
    value_axis,
)
from tui_lab.ui.views.plot_labels import label_points
from tui_lab.ui.views.plot_legend import heading
from tui_lab.ui.views.plot_series import WIDE, PlotMark, PlotOptions, PlotRow, PlotSeries, cut_row
from tui_lab.ui.views.plot_spark import sparkline
from tui_lab.ui.views.spans import cut

#: Drawing order: thresholds and forecasts first, then lines, then points.
LAYERS = {"dashed": 0, "thin": 1, "thick": 1, "points": 2}
_TO_ASCII = str.maketrans("│┤├└─┬┴┼┌┐┘–×·…★○◆", "||++-++++++-x..+o*")
#: A smaller plot is one line of characters with its last, lowest and highest value.
MIN_WIDTH, MIN_HEIGHT = 20, 6
#: Plots of fewer rows have no row of marks and no second line of legend.
ROOMY_HEIGHT = 9
#: A curve that begins within this share of the x range is drawn from zero on.
NEAR_ZERO = 0.1


@dataclass(frozen=True)
class Drawing:
    """A drawn plot. ``note``: what its scale leaves out. ``left``: the first column of the canvas, whose
    columns stand for ``x_axis``; None in a plot without one. ``pointed`` gives the rows with another cursor,
    without drawing the curves again."""

    rows: list[PlotRow]
    note: str = ""
    left: int = 0
    columns: int = 0
    x_axis: Axis | None = None
    pointed: Callable[[float], list[PlotRow]] | None = None

    def x_at(self, column: int) -> float:
        """The x of a column of the plot; NaN where there is none."""
        if self.x_axis is None or not 0 <= column - self.left < self.columns:
            return math.nan
        share = (column - self.left) / max(1, self.columns - 1)
        return self.x_axis.low + share * (self.x_axis.high - self.x_axis.low)


def draw(
    series: Sequence[PlotSeries], width: int, height: int, options: PlotOptions | None = None
) -> list[PlotRow]:
    """The rows of :func:`draw_plot`."""
    return draw_plot(series, width, height, options).rows


def draw_plot(
    series: Sequence[PlotSeries],
    width: int,
    height: int,
    options: PlotOptions | None = None,
    marks: Sequence[PlotMark] = (),
) -> Drawing:
    """Draws ``height`` rows of exactly ``width`` cells: the legend, then the plot; a sparkline where it is
    too small for a plot."""
    options = options or PlotOptions()
    if width < 1 or height < 1:
        return Drawing([])
    ends = x_range(series, options)
    dots = width * dots_of(options.mark("thin"))[0]
    shown = [_finite_part(one, ends, dots, options.log) for one in series]
    if not any(ys for _, ys in shown):
        return Drawing(_empty(heading(series, width, 1, options)[0], width, height, options))
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return Drawing(_spark(series, width, height, options))
    return _figure(series, shown, width, height, options, marks)


def x_range(series: Sequence[PlotSeries], options: PlotOptions) -> tuple[float, float]:
    """The first and the last x of the plot."""
    if options.view is not None:
        return options.view
    filled = [one for one in series if len(one.xs)]
    # a threshold or a forecast is as long as there is room
    curves = [one for one in filled if one.style != "dashed"] or filled
    ends = [float(x) for one in curves for x in (one.xs[0], one.xs[-1])]
    wanted = [x for x in (options.x_low, options.x_high) if math.isfinite(x)]
    left, right = min([*ends, *wanted], default=0.0), max([*ends, *wanted], default=1.0)
    if options.whole_x and 0 < left <= right * NEAR_ZERO:
        left = 0.0  # so that plots side by side begin alike
    return left, right


def _finite_part(
    one: PlotSeries, x_range: tuple[float, float], dots: int, log: bool
) -> tuple[list[float], list[float]]:
    """The points in view in drawn coordinates, reduced to ``dots`` columns for the whole of x; empty lists
    when none can be drawn."""
    left, right = x_range
    xs, ys = one.points(left, right)
    if one.style != "points" and not one.mark and len(xs) > dots and right > left:
        xs, ys = reduce(xs, ys, max(2, math.ceil(dots * min(1.0, (xs[-1] - xs[0]) / (right - left)))))
    ys = [(logarithm if log else bounded)(y) for y in ys]
    return (xs, ys) if any(map(math.isfinite, ys)) else ([], [])


def _ascii(row: PlotRow) -> PlotRow:
    return [(to_ascii(text.translate(_TO_ASCII)), role) for text, role in row]


def _spark(series: Sequence[PlotSeries], width: int, height: int, options: PlotOptions) -> list[PlotRow]:
    """The most important series in one row, with its last, lowest and highest value where there are rows."""
    drawable = [one for one in series if one.style != "dashed" and any(map(math.isfinite, one.points()[1]))]
    if not drawable:
        drawable = [one for one in series if any(map(math.isfinite, one.points()[1]))]
    one = next((each for each in drawable if each.style == "thick"), drawable[0])
    ys = one.points(*(options.view or (-math.inf, math.inf)))[1]
    finite = [y for y in ys if math.isfinite(y)] or [math.nan]
    value = one.at(options.cursor) if math.isfinite(options.cursor) else one.last
    label = f"{options.title or one.name} {quantity(value, options.unit)}".strip()
    levels = sparkline(ys, width, ascii_only=options.marker == "ascii")
    low, high = (quantity(found, options.unit) for found in (min(finite), max(finite)))
    rows: list[PlotRow] = [[(cut(label, width), "legend")], [(levels, one.role)]]
    rows.append([(cut(f"min {low}  max {high}", width), "axis")])
    if height == 1:
        free = width - len(label) - 1
        rows = [
            [(f"{label} ", "legend"), (sparkline(ys, free, ascii_only=options.marker == "ascii"), one.role)]
        ]
    rows = [cut_row(row, width) for row in rows[:height]]
    rows += [cut_row([], width) for _ in range(height - len(rows))]
    return [_ascii(row) for row in rows] if options.marker == "ascii" else rows


def _empty(heading: PlotRow, width: int, height: int, options: PlotOptions) -> list[PlotRow]:
    rows = [heading] + [[(" " * width, "axis")] for _ in range(height - 1)]
    lines = textwrap.wrap(options.empty, max(1, width - 4))
    top = max(min(1, height - 1), (height - len(lines)) // 2)
    for number, text in enumerate(lines):
        if top + number < height:
            rows[top + number] = cut_row([(text.center(width), "legend")], width)
    return [_ascii(row) for row in rows] if options.marker == "ascii" else rows


def _y_axis(
    series: Sequence[PlotSeries],
    shown: Sequence[tuple[list[float], list[float]]],
    rows: int,
    options: PlotOptions,
) -> tuple[Axis, str]:
    """The y axis, and what it leaves out."""
    note = ""
    start = -math.inf
    if options.settle and options.view is None:
        curves = [data for one, data in zip(series, shown, strict=True) if one.style != "dashed"]
        if (found := settled_from(curves)) is not None:
            start = found
            note = f"scale without the first {plural(_left_out(series, start), 'step')}"
    low_x, high_x = options.view or (-math.inf, math.inf)
    values = [
        y
        for one, (xs, ys) in zip(series, shown, strict=True)
        for x, y in zip(xs, ys, strict=True)
        if math.isfinite(y) and (one.style == "dashed" or max(start, low_x) <= x <= high_x)
    ]
    if not values:  # a view between two points
        values = [y for _, ys in shown for y in ys if math.isfinite(y)]
    low, high = min(values), max(values)
    if options.log:
        return log_axis(10**low, 10**high, max(1, min(6, (rows - 1) // 2))), note
    dots = dots_of(options.mark("thin"))[1]
    return row_axis(low, high, rows, dots, from_zero=options.from_zero, unit=options.unit), note


def _left_out(series: Sequence[PlotSeries], start: float) -> int:
    """Steps before ``start`` in the longest series."""
    return max(bisect_left(one.xs, start) for one in series)


def _segments(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The parts of a curve between its gaps."""
    out: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            out[-1].append((x, y))
        elif out[-1]:
            out.append([])
    return [part for part in out if part]


def _figure(
    series: Sequence[PlotSeries],
    shown: Sequence[tuple[list[float], list[float]]],
    width: int,
    height: int,
    options: PlotOptions,
    marks: Sequence[PlotMark],
) -> Drawing:
    roomy = height >= ROOMY_HEIGHT
    named = [one for one in series if one.style != "dashed"]
    legend_rows = len(heading(named, width, 2 if roomy else 1, replace(options, cursor=math.nan)))
    marked = roomy and bool(marks)
    rows = height - legend_rows - 2 - marked
    y_axis, note = _y_axis(series, shown, rows, options)
    label_width = max(len(label) for label in (*y_axis.labels, y_axis.unit))
    columns = max(1, width - label_width - 1)
    left, right = x_range(series, options)
    x_axis = (
        steps_axis(left, right, max(1, columns // 10))
        if options.whole_x
        else value_axis(left, right, max(1, columns // 10))
    )
    strokes: list[Stroke] = []
    down = dots_of(options.mark("thin"))[1]
    numbered = zip(series, shown, strict=True)
    for one, data in sorted(numbered, key=lambda each: LAYERS[each[0].style]):
        strokes += _strokes(one, data, (x_axis, columns), (y_axis, rows), options)
    cells = canvas(strokes, columns, rows)
    if options.note_inside and note:
        said = cut(note, columns)  # above a settled curve nothing is drawn at the right
        cells[0][columns - len(said) :] = [(character, "axis") for character in said]
    for one in series:
        if one.style == "dashed" and one.name and len(one.ys):
            value = one.last if not options.log else logarithm(one.last)
            row = rows - 1 - place(value, y_axis, rows * down) // down if math.isfinite(value) else -1
            if 0 <= row < rows:
                _label_line(cells[row], f" {one.name} {quantity(one.last, options.unit)} ", one.role)
    for one, (xs, ys) in zip(series, shown, strict=True):
        if one.labels:
            places = [
                (place(x, x_axis, columns), rows - 1 - place(y, y_axis, rows * down) // down)
                if math.isfinite(y)
                else (-1, -1)
                for x, y in zip(xs, ys, strict=True)
            ]
            label_points(cells, places, one.labels, one.role)
    ticks = zip(y_axis.ticks, y_axis.labels, strict=True)
    labels = {rows - 1 - place(tick, y_axis, rows * down) // down: label for tick, label in ticks}
    foot = [_marks_row(marks, x_axis, columns, label_width)] if marked else []
    foot += _x_rows(x_axis, columns, label_width, y_axis.unit)

    def pointed(cursor: float) -> list[PlotRow]:
        at = place(cursor, x_axis, columns) if math.isfinite(cursor) else -1
        here = dict.fromkeys(
            PlotSeries(mark.name, mark.role, (), (), mark=mark.glyph)
            for mark in marks
            if at >= 0 and place(mark.x, x_axis, columns) == at
        )
        found = heading([*named, *here], width, legend_rows, replace(options, cursor=cursor))
        found += [cut_row([], width) for _ in range(legend_rows - len(found))]
        for number, row_cells in enumerate(cells):
            label = labels.get(number, "")
            start = (label.rjust(label_width) + ("┤" if label else "│"), "axis")
            found.append(cut_row(joined([start, *_with_cursor(row_cells, at)]), width))
        found += [cut_row(row, width) for row in foot]
        return [_ascii(row) for row in found] if options.marker == "ascii" else found

    return Drawing(pointed(options.cursor), note, label_width + 1, columns, x_axis, pointed)


def _with_cursor(cells: Sequence[Cell], at: int) -> Sequence[Cell]:
    """A row with the cursor's line where nothing else is drawn."""
    if not 0 <= at < len(cells) or cells[at][0] != " ":
        return cells
    return [*cells[:at], ("│", "title"), *cells[at + 1 :]]


def _strokes(
    one: PlotSeries,
    data: tuple[list[float], list[float]],
    x_columns: tuple[Axis, int],
    y_rows: tuple[Axis, int],
    options: PlotOptions,
) -> list[Stroke]:
    """A series in dots of its marker."""
    (x_axis, columns), (y_axis, rows) = x_columns, y_rows
    xs, ys = data
    if not ys or x_axis.high <= x_axis.low:
        return []
    base_across, base_down = dots_of(options.mark("thin"))
    mark = one.mark or options.mark(one.style)
    mark_across, mark_down = dots_of(mark)
    wide, tall = columns * base_across, rows * base_down
    points = list(zip(xs, ys, strict=True))

    def cell(x: int, y: int) -> tuple[int, int]:
        return x * mark_across // base_across, y * mark_down // base_down

    def dot(x: float, y: float) -> tuple[int, int]:
        # what leaves the plot goes one height beyond it, which is steep enough to look the same
        across, up = place(x, x_axis, wide), place(y, y_axis, tall)
        return max(-wide, min(2 * wide, across)), max(-tall, min(2 * tall, up))

    found: Columns = {}
    dashed, points_only = one.style == "dashed", bool(one.mark) or one.style == "points"
    for part in _segments(points):
        placed = list(dict.fromkeys(dot(x, y) for x, y in part))
        if dashed:
            add_line(found, [cell(*each) for each in placed], rows * mark_down)
        elif points_only:
            add_points(found, placed, tall)
        else:
            add_line(found, placed, tall)
    if not dashed and not points_only and base_down > 1:
        found = widened(found, WIDE[one.style, options.weight])
    if not dashed and (mark_across, mark_down) != (base_across, base_down):
        found = coarser(found, (base_across, base_down), (mark_across, mark_down))
    return [Stroke(one.role, mark, found)]


def _label_line(cells: list[Cell], label: str, role: str) -> None:
    """Writes the label of a horizontal line on it, at the end where it covers less."""
    if len(label) + 4 > len(cells):
        return
    right = len(cells) - len(label) - 1

    def covered(start: int) -> int:
        return sum(text != " " and found != role for text, found in cells[start : start + len(label)])

    start = min((right, 1), key=covered)
    cells[start : start + len(label)] = [(character, role) for character in label]


def _marks_row(marks: Sequence[PlotMark], x_axis: Axis, columns: int, label_width: int) -> PlotRow:
    cells: list[Cell] = [(" ", "axis")] * columns
    for mark in marks:
        if 0 <= (at := place(mark.x, x_axis, columns)) < columns:
            cells[at] = (mark.glyph, mark.role)
    return joined([(" " * label_width + "│", "axis"), *cells])


def _x_rows(x_axis: Axis, columns: int, label_width: int, unit: str) -> list[PlotRow]:
    """The x axis and its labels; the unit of the y axis in the corner."""
    rule, labels = ["─"] * columns, [" "] * (columns + label_width + 1)
    labels[label_width - len(unit) : label_width] = list(unit)
    free = label_width + (1 if unit else 0)
    for tick, label in zip(x_axis.ticks, x_axis.labels, strict=True):
        at = place(tick, x_axis, columns)
        if not 0 <= at < columns:
            continue
        start = min(label_width + 1 + at - (len(label) - 1) // 2, len(labels) - len(label))
        if start < free:
            start = free if at == 0 and free + len(label) <= len(labels) else -1
        if start >= 0:
            rule[at] = "┬"
            labels[start : start + len(label)] = list(label)
            free = start + len(label) + 1
    return [[(" " * label_width + "└" + "".join(rule), "axis")], [("".join(labels), "axis")]]
