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
#: The bit of every dot of a cell, from below, left and right.
_BRAILLE_BITS = ((0x40, 0x80), (0x04, 0x20), (0x02, 0x10), (0x01, 0x08))
_QUARTER_BITS = ((1, 2), (4, 8))
_QUARTERS = " ▖▗▄▘▌▚▙▝▞▐▟▀▛▜█"
#: Text and role of one cell.
Cell = TextSpan
_SPAN = re.compile(r"(?:\x1b\[38;5;(\d+)m)?([^\x1b\n]*)(?:\x1b\[0m)?")


@dataclass(frozen=True)
class Stroke:
    """Dots (x from the left, y from below) in a marker of plotext and a colour role."""

    role: str
    marker: str
    dots: Sequence[tuple[int, int]]


def dots_of(marker: str) -> tuple[int, int]:
    """Dots per cell of a marker, horizontal and vertical."""
    return DOTS.get(marker, (1, 1))


def line(points: Sequence[tuple[int, int]], height: int, wide: int = 1) -> list[tuple[int, int]]:
    """The dots of a line through ``points`` (x ascending), those that lie on rows 0 to ``height`` (excluded).
    ``wide``: dots below one another, and from 3 on also beside one another."""
    found: dict[tuple[int, int], None] = {}
    for (x, y), (next_x, next_y) in zip(points, points[1:] or points, strict=False):
        across, up = next_x - x, next_y - y
        if across == 0:
            first, last = max(0, min(y, next_y)), min(height - 1, max(y, next_y))
            found |= dict.fromkeys((x, at) for at in range(first, last + 1))
            continue
        most = max(abs(across), abs(up), 1)
        # of a line that leaves the canvas only what is on it
        for part in range(most + 1):
            at = y + round(up * part / most)
            if 0 <= at < height:
                found[x + round(across * part / most), at] = None
    if wide > 1:
        found |= {(x, y - 1): None for x, y in found if y > 0}
    if wide > 2:
        found |= {(x + 1, y): None for x, y in found}
    return list(found)


def _characters(stroke: Stroke, width: int, height: int) -> dict[tuple[int, int], str]:
    """The character of every cell that a stroke covers, by column and row from below."""
    across, down = dots_of(stroke.marker)
    inside = [(x, y) for x, y in stroke.dots if 0 <= x < width * across and 0 <= y < height * down]
    if (across, down) == (1, 1):
        return dict.fromkeys(inside, stroke.marker)
    bits = _BRAILLE_BITS if stroke.marker == "braille" else _QUARTER_BITS
    found: dict[tuple[int, int], int] = {}
    for x, y in inside:
        cell = (x // across, y // down)
        found[cell] = found.get(cell, 0) | bits[y % down][x % across]
    if stroke.marker == "braille":
        return {cell: chr(0x2800 + mask) for cell, mask in found.items()}
    return {cell: _QUARTERS[mask] for cell, mask in found.items()}


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
