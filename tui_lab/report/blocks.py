"""What a report is made of: sections and blocks of plain text, and how figures are written in it. No markup:
Markdown and HTML are made of these by modules of their own, which escape whatever a text holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tui_lab.core.format import UNKNOWN, finite
from tui_lab.report.charts import Chart


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells under a caption; the first column names the row. ``right``: columns of figures."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True)
class Quote:
    """Text of a model, of data or of a log, line by line as it came."""

    label: str
    text: str


@dataclass(frozen=True)
class Code:
    """Commands."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A chart with its words and, unless a table beside it has them, some of its figures."""

    chart: Chart
    table: bool = True


@dataclass(frozen=True)
class Folded:
    """What few read, below a line that opens it."""

    title: str
    blocks: tuple[Table, ...]


Block = Text | Items | Table | Quote | Code | Figure | Folded


@dataclass(frozen=True)
class Section:
    """``id`` names it in links."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def number(value: Any, digits: int = 4) -> str:
    """A figure with so many digits that count; a dash where there is none, and infinities as such."""
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "−∞"
    found = finite(value)
    if found is None:
        return UNKNOWN
    return f"{found:.{digits}f}" if digits < 4 else f"{found:.{digits}g}"


def whole(value: Any) -> str:
    """A whole number; a dash where there is none."""
    found = finite(value)
    return UNKNOWN if found is None else f"{found:,.0f}"
