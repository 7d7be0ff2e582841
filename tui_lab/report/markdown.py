"""A report as Markdown that any renderer of CommonMark with tables shows. Texts of models and data are
escaped, so that none of it is a heading, a link, a table's bar or HTML; longer ones stand in fenced blocks
whose fence no line of theirs can close. A chart is a line of bars and a table: HTML has the picture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from tui_lab.core.sanitize import sanitize
from tui_lab.report.blocks import Block, Code, Document, Figure, Folded, Items, Quote, Table, Text
from tui_lab.report.charts import Chart, Line, thinned

#: What could begin or end any markup; bare addresses become links at "://", "www." and "@".
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$@])")
_LINKS = re.compile(r"(?i)(?<=\w)(:)(?=//)|(?<=www)(\.)")
#: At the beginning of a line: a list, a rule or a heading's underline.
_LEADING = re.compile(r"^(\d*)([-+=.)])(?=[-=+\s]|$)")
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 60
#: Text of one sample or cell that is shown.
MOST_CHARACTERS = 4_000


def escape(text: str) -> str:
    """``text`` on one line, meaning nothing but itself."""
    plain = " ".join(sanitize(shortened(text)).split())
    plain = _LINKS.sub(lambda m: "\\" + m.group(0), _SPECIAL.sub(r"\\\1", plain))
    return _LEADING.sub(r"\1\\\2", plain)


def shortened(text: str) -> str:
    """What of a text is shown."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} … ({len(text):,} characters)"


def markdown(document: Document) -> str:
    """The whole document."""
    parts = [f"# {escape(document.title)}", escape(document.subtitle)]
    for section in document.sections:
        parts.append(f"## {escape(section.title)}")
        for block in section.blocks:
            parts += _block(block)
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        yield escape(block.text)
    elif isinstance(block, Items):
        yield "\n".join(f"- {escape(text)}" for text in block.texts)
    elif isinstance(block, Table):
        yield f"**{escape(block.caption)}**"
        yield _table(block.headers, block.rows, block.right)
    elif isinstance(block, Quote):
        yield f"*{escape(block.label)}:*"
        yield fenced(block.text)
    elif isinstance(block, Code):
        yield fenced(block.text, "sh")
    elif isinstance(block, Figure):
        yield from _chart(block.chart, block.table)
    elif isinstance(block, Folded):
        yield f"### {escape(block.title)}"
        for inner in block.blocks:
            yield from _block(inner)


def fenced(text: str, language: str = "") -> str:
    """A block of text whose fence is longer than any run of backticks in it."""
    shown = sanitize(shortened(text), keep_newlines=True)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    marks = ["---:" if column in right else "---" for column in range(len(headers))]
    shown = [line([escape(cell) for cell in row]) for row in rows]
    return "\n".join([line([escape(header) for header in headers]), line(marks), *shown])


def _chart(chart: Chart, table: bool) -> Iterator[str]:
    yield f"### {escape(f'{chart.title} ({chart.y_name})')}"
    yield escape(chart.words())
    sparks = [(line.name, sparkline(line)) for line in chart.lines if line.told]
    shown = [f"{spark}  {name}" for name, spark in sparks if spark]
    if shown:
        yield fenced("\n".join(shown))
    headers, rows = chart.table()
    if rows and table:
        yield _table(headers, rows, range(len(headers)))


def sparkline(line: Line) -> str:
    """A series as a row of bars between its lowest and its highest; "" for fewer than two figures."""
    points = thinned(line.xs, line.ys, SPARK_COLUMNS)
    known = [y for _, y in points if math.isfinite(y)]
    if len(known) < 2:
        return ""
    low, span = min(known), max(known) - min(known)
    if not math.isfinite(span):
        return ""
    return "".join(
        SPARKS[round((y - low) / span * (len(SPARKS) - 1)) if span else 0] if math.isfinite(y) else " "
        for _, y in points
    )
