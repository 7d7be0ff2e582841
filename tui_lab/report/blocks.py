"""The document model of a report: sections of blocks of plain text, without any markup. The templates of
:mod:`tui_lab.report.render` turn it into Markdown and HTML and escape its texts; ``kind`` selects the
template's branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from tui_lab.core.format import UNKNOWN, finite
from tui_lab.report.charts import Chart, Table


@dataclass(frozen=True)
class Paragraph:
    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    kind: ClassVar[str] = "bullets"
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Quote:
    """Text of a model, of data or of a log, with its own line ends."""

    kind: ClassVar[str] = "quote"
    label: str
    text: str


@dataclass(frozen=True)
class CommandsBlock:
    """Shell commands."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class FigureBlock:
    """A chart with its description and, if ``with_table``, some of its values."""

    kind: ClassVar[str] = "figure"
    chart: Chart
    with_table: bool = True


@dataclass(frozen=True)
class DetailsBlock:
    """Tables that are folded away in HTML."""

    kind: ClassVar[str] = "details"
    title: str
    tables: tuple[Table, ...]


Block: TypeAlias = Paragraph | Bullets | Table | Quote | CommandsBlock | FigureBlock | DetailsBlock


@dataclass(frozen=True)
class Section:
    """``id`` is the target of links."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    sections: tuple[Section, ...]


def integer(value: object) -> str:
    """A whole number with separators; a dash where there is none."""
    found = finite(value)
    return UNKNOWN if found is None else f"{found:,.0f}"
