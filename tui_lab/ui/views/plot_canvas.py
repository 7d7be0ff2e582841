"""Strokes on a canvas of characters, made by plotext. A stroke is given in dots of its marker, so that what
it covers is decided here and not by plotext's rounding. Pure functions.

The dots of a cell become one character here: plotext's own grouping of dots takes 20 ms for two noisy curves
on 100 columns, which is more than a whole drawing may take.

plotext has one global figure: it is cleared before and after, and may be used from one thread only. It is
imported at the first drawing, after the lab's first frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tui_lab.ui.views.spans import TextSpan

#: Dots per cell (horizontal, vertical) of the markers with subcell resolution; others have one.
DOTS = {"braille": (2, 4), "hd": (2, 2)}
#: The bits of braille patterns for the dots of a cell: those of the left column from below, then those
#: of the right one.
_BRAILLE_BITS = (0x40, 0x04, 0x02, 0x01, 0x80, 0x20, 0x10, 0x08)
#: Characters by the dots of a cell, in that order.
_BRAILLE = {
    mask: chr(0x2800 + sum(bit for at, bit in enumerate(_BRAILLE_BITS) if mask >> at & 1))
    for mask in range(256)
}
_QUARTERS = dict(enumerate(" ▖▘▌▗▄▚▙▝▞▀▛▐▟▜█"))
#: Text and role of one cell.
Cell = TextSpan
_SPAN = re.compile(r"(?:\x1b\[38;5;(\d+)m)?([^\x1b\n]*)(?:\x1b\[0m)?")


#: The dots of a stroke: by column of dots, a bit for each dot from below.
Columns = dict[int, int]


@dataclass(frozen=True)
class Stroke:
    """Dots in a marker of plotext and a colour role."""

    role: str
    marker: str
    columns: Columns


def dots_of(marker: str) -> tuple[int, int]:
    """Dots per cell of a marker, horizontal and vertical."""
    return DOTS.get(marker, (1, 1))


def add_points(columns: Columns, points: Sequence[tuple[int, int]], height: int) -> None:
    """Adds dots, those that lie on rows 0 to ``height`` (excluded)."""
    for x, y in points:
        if 0 <= y < height:
            columns[x] = columns.get(x, 0) | 1 << y


def add_line(columns: Columns, points: Sequence[tuple[int, int]], height: int) -> None:
    """Adds the dots of a line through ``points`` (x ascending), those that lie on rows 0 to ``height``
    (excluded). Neighbouring dots touch."""
    get = columns.get
    for (x, y), (next_x, next_y) in zip(points, points[1:] or points, strict=False):
        across, up = next_x - x, next_y - y
        for at in range(across + 1):
            if abs(up) <= across:  # one dot a column
                low = high = y + round(up * at / max(1, across))
            else:
                begin = y + up * max(0.0, at - 0.5) / across if across else y
                end = y + up * min(across, at + 0.5) / across if across else next_y
                low, high = sorted((round(begin), round(end)))
            low, high = max(low, 0), min(high, height - 1)
            if low <= high:
                columns[x + at] = get(x + at, 0) | ((1 << high - low + 1) - 1) << low


def widened(columns: Columns, wide: int) -> Columns:
    """The same line ``wide`` dots wide: below one another, and from 3 on also beside one another."""
    found = {x: bits | bits >> 1 for x, bits in columns.items()} if wide > 1 else dict(columns)
    if wide > 2:
        for x, bits in list(found.items()):
            found[x + 1] = found.get(x + 1, 0) | bits
    return found


def coarser(columns: Columns, fine: tuple[int, int], coarse: tuple[int, int]) -> Columns:
    """The same dots at fewer dots a cell (horizontal, vertical)."""
    found: Columns = {}
    for x, bits in columns.items():
        at, shifted = x * coarse[0] // fine[0], found.get(x * coarse[0] // fine[0], 0)
        for y in range(bits.bit_length()):
            if bits >> y & 1:
                shifted |= 1 << y * coarse[1] // fine[1]
        found[at] = shifted
    return found


def _characters(stroke: Stroke, width: int, height: int) -> dict[tuple[int, int], str]:
    """The character of every cell that a stroke covers, by column and row from below."""
    across, down = dots_of(stroke.marker)
    found: dict[tuple[int, int], str] = {}
    whole = (1 << down) - 1
    if (across, down) == (1, 1):
        shapes = {1: stroke.marker}
    else:
        shapes = _BRAILLE if stroke.marker == "braille" else _QUARTERS
    for column in range(width):
        left = stroke.columns.get(column * across, 0)
        right = stroke.columns.get(column * across + 1, 0) if across > 1 else 0
        rows = min(height, -(-(left | right).bit_length() // down))
        for row in range(rows):
            mask = (left >> row * down & whole) | (right >> row * down & whole) << down
            if mask:
                found[column, row] = shapes[mask]
    return found


def canvas(strokes: Sequence[Stroke], width: int, height: int) -> list[list[Cell]]:
    """The cells of ``height`` rows, from above; a later stroke covers the cells of an earlier one."""
    import plotext

    plotext.clear_figure()
    try:
        plotext.limit_size(False, False)
        plotext.plot_size(width, height)
        plotext.theme("clear")
        plotext.frame(False)
        plotext.xfrequency(0)
        plotext.yfrequency(0)
        plotext.xlim(0, 1)
        plotext.ylim(0, 1)
        right, top = max(1, width - 1), max(1, height - 1)
        for number, stroke in enumerate(strokes, start=1):
            cells = _characters(stroke, width, height)
            if cells:
                xs, ys = [x / right for x, _ in cells], [y / top for _, y in cells]
                plotext.scatter(xs, ys, marker=list(cells.values()), color=number)
        text = plotext.build() if strokes else ""
    finally:
        plotext.clear_figure()
    roles = {str(number): stroke.role for number, stroke in enumerate(strokes, start=1)}
    rows = [_cells(text_line, roles, width) for text_line in text.split("\n")[:height]]
    return rows + [_cells("", roles, width) for _ in range(height - len(rows))]


def _cells(text_line: str, roles: dict[str, str], width: int) -> list[Cell]:
    """One line of plotext's output as ``width`` cells."""
    found = [
        (character, roles.get(match[1] or "", "axis"))
        for match in _SPAN.finditer(text_line)
        for character in match[2]
    ]
    return found[:width] + [(" ", "axis")] * (width - len(found))


def joined(cells: Sequence[Cell]) -> list[TextSpan]:
    """Cells as spans: neighbours of one role together."""
    row: list[TextSpan] = []
    for text, role in cells:
        if row and (row[-1][1] == role or not text.strip()):
            row[-1] = (row[-1][0] + text, row[-1][1])
        else:
            row.append((text, role))
    return row
