"""The document model of a report: sections of blocks of plain text, without any markup. The templates of
:mod:`tui_lab.report.render` turn it into Markdown and HTML and escape its texts; ``kind`` selects the
template's branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from tui_lab.core.format import UNKNOWN, finite
from tui_lab.report.charts import Chart, Table
from tui_lab.report.forest import ForestBlock


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


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to one prompt, each with whether it was right (None: not scored)."""

    prompt: str
    expected: str
    before: str
    after: str
    before_ok: bool | None = None
    after_ok: bool | None = None


@dataclass(frozen=True)
class AnswersBlock:
    """Answers before and after side by side; a table in Markdown."""

    kind: ClassVar[str] = "answers"
    caption: str
    names: tuple[str, str]
    pairs: tuple[AnswerPair, ...]

    @property
    def table(self) -> Table:
        """The same as rows, with ✓ and ✗ before scored answers."""
        rows = [
            (
                pair.prompt,
                pair.expected,
                marked(pair.before, pair.before_ok),
                marked(pair.after, pair.after_ok),
            )
            for pair in self.pairs
        ]
        return Table(self.caption, ("prompt", "expected", *self.names), tuple(rows))


def marked(text: str, is_right: bool | None) -> str:
    """An answer with its mark."""
    return text if is_right is None else f"{'✓' if is_right else '✗'} {text}"


Block: TypeAlias = (
    Paragraph
    | Bullets
    | Table
    | Quote
    | CommandsBlock
    | FigureBlock
    | DetailsBlock
    | AnswersBlock
    | ForestBlock
)


@dataclass(frozen=True)
class Section:
    """``id`` is the target of links."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Tile:
    """A figure of the head. ``tone``: good, mild, bad or none."""

    name: str
    value: str
    note: str
    tone: str = "none"


@dataclass(frozen=True)
class Headline:
    """What the run came to: a word, sentences, and the figures that decide."""

    tone: str
    word: str
    text: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    sections: tuple[Section, ...]
    headline: Headline | None = None


def integer(value: object) -> str:
    """A whole number with separators; a dash where there is none."""
    found = finite(value)
    return UNKNOWN if found is None else f"{found:,.0f}"
