"""Names beside the points of a plot. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from tui_lab.ui.views.plot_canvas import Cell
from tui_lab.ui.views.spans import cut

#: The least of a name that is still one, with its ellipsis.
SHORTEST = 6
#: What a name may cover: nothing, and the line of a threshold.
_FREE = " ╌╍-="


def label_points(
    cells: Sequence[list[Cell]], points: Sequence[tuple[int, int]], labels: Sequence[str], role: str
) -> None:
    """Writes names into the cells of a canvas, each beside its point (column, row) at the right or the left,
    else above or below it, where nothing is drawn yet. A name that has no place there is left out, and so is
    one with characters of more than a cell."""
    for (column, row), label in zip(points, labels, strict=False):
        if not label or cell_len(label) != len(label) or not 0 <= row < len(cells):
            continue
        for text, line, start in _places(label, column, row, len(cells[row])):
            if 0 <= line < len(cells) and _is_free(cells[line], start, len(text)):
                cells[line][start : start + len(text)] = [(char, role) for char in text]
                break


def _places(label: str, column: int, row: int, width: int) -> list[tuple[str, int, int]]:
    """(text, row, first column) of the places of a name, the best first."""
    found = [(label, row, column + 2), (label, row, column - 1 - len(label))]
    middle = max(0, min(width - len(label), column - len(label) // 2))
    found += [(label, line, middle) for line in (row - 1, row + 1)]
    for start, room in ((column + 2, width - column - 2), (max(0, column - 13), min(12, column - 1))):
        if room >= SHORTEST:
            short = cut(label, room)
            found.append((short, row, start if start > column else column - 1 - len(short)))
    return found


def _is_free(cells: Sequence[Cell], start: int, length: int) -> bool:
    """Whether a text fits, with a blank before and after it."""
    if start < 0 or start + length > len(cells):
        return False
    return all(char in _FREE for char, _ in cells[max(0, start - 1) : start + length + 1])
