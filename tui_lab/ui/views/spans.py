"""Parts of a text with the role of their colour, and texts fitted to a number of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

#: Text and the semantic name that colours it ("" for plain).
TextSpan = tuple[str, str]


class InspectorSpan(NamedTuple):
    """A piece of a row: text, role of its colour, and whether it is highlighted."""

    text: str
    role: str = ""
    highlighted: bool = False


def labelled(label: str, text: str, role: str = "") -> list[TextSpan]:
    """A line of the About tab; empty without text. A label that is a sign needs no colon."""
    return [(f"{label}{':' if label[0].isalpha() else ''} ", "title"), (f"{text}\n", role)] if text else []


def fit(text: str, width: int, right: bool = False) -> str:
    """``text`` in exactly ``width`` cells, aligned left or ``right``; a text that is cut ends with …"""
    if width <= 0:
        return ""
    cells = cell_len(text)
    if cells > width:
        text = set_cell_size(text, width - 1) + "…"
    elif right:
        return " " * (width - cells) + text
    return set_cell_size(text, width)


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells; one that is cut ends with …"""
    return fit(text, width).rstrip() if cell_len(text) > width else text


def fitting(pieces: Sequence[str], width: int, separator: str = "   ") -> list[str]:
    """The first pieces that fit in ``width`` cells together, at least one. Empty ones are left out."""
    shown = [piece for piece in pieces if piece]
    while len(shown) > 1 and cell_len(separator.join(shown)) > width:
        shown.pop()
    return shown
