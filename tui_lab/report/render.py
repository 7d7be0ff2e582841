"""Renders a report document as Markdown and as one HTML page, each by a Jinja2 template.

Text of models, data and logs is hostile. Every value that a template prints passes through the environment's
``finalize`` function, so a template cannot forget it: in HTML the value is sanitised and autoescaped, in
Markdown every character that could begin or end markup is escaped. Longer text stands in fenced blocks whose
fence no line of the text can close. The HTML page loads nothing and runs no script.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tui_lab.core.sanitize import sanitize
from tui_lab.report.blocks import Block, Document
from tui_lab.report.charts import Chart, ChartSeries, thinned
from tui_lab.report.svg import drawable, svg

TEMPLATES = Path(__file__).parent / "templates"
#: Colours 0 to 7 of the charts on a light and on a dark background; each has a contrast over 3 to 1.
LIGHT = ("#6b8fb5", "#1f5fa8", "#b3460b", "#11734b", "#7a4fb0", "#0f7280", "#a3365f", "#6b6b6b")
DARK = ("#6f9bc8", "#8fc1ff", "#ffa15c", "#5fd39a", "#c3a0f5", "#5cc7d6", "#f591b2", "#a5a5a5")
#: The longest text of one sample or cell that is shown, in characters.
MAX_CHARACTERS = 4_000
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 60

#: Characters of Markdown's markup; bare addresses become links at "://", "www." and "@".
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$@])")
_LINKS = re.compile(r"(?i)(?<=\w)(:)(?=//)|(?<=www)(\.)")
#: At the beginning of a line: a list, a rule or a heading's underline.
_LEADING = re.compile(r"^(\d*)([-+=.)])(?=[-=+\s]|$)")


def markdown(document: Document) -> str:
    """The document as CommonMark with tables."""
    return _environment("md").get_template("report.md.jinja").render(document=document)


def html(document: Document) -> str:
    """The document as one HTML page."""
    return _environment("html").get_template("report.html.jinja").render(document=document)


@functools.cache
def _environment(format: str) -> Environment:
    finalize: Callable[[object], object] = _finalize_html if format == "html" else _finalize_markdown
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=format == "html",
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        fenced=fenced,
        multiline=_multiline,
        sparklines=_sparklines,
        svg=_svg,
        is_drawable=drawable,
        runs_of_figures=_runs_of_figures,
    )
    environment.globals.update(LIGHT=LIGHT, DARK=DARK)
    return environment


def shortened(text: str) -> str:
    """The part of a text that is shown."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} … ({len(text):,} characters)"


# --- HTML ---------------------------------------------------------------------------------------------


def _finalize_html(value: object) -> object:
    """Sanitises a printed value; Jinja2 escapes it afterwards unless it is Markup."""
    return sanitize(shortened(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def _multiline(text: str) -> Markup:
    """Text that keeps its line ends."""
    return Markup("\n").join(map(sanitize, shortened(text).split("\n")))


def _runs_of_figures(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """The blocks in groups: charts that follow each other stand side by side."""
    groups = itertools.groupby(blocks, lambda block: "figure" if block.kind == "figure" else "")
    return [(kind, list(group)) for kind, group in groups]


def _svg(chart: Chart) -> Markup:
    return Markup(svg(chart))  # svg escapes the chart's texts itself


# --- Markdown -----------------------------------------------------------------------------------------


def _finalize_markdown(value: object) -> object:
    return escape(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def escape(text: str) -> str:
    """``text`` on one line of Markdown, without any markup."""
    plain = " ".join(sanitize(shortened(text)).split())
    plain = _LINKS.sub(lambda m: "\\" + m.group(0), _SPECIAL.sub(r"\\\1", plain))
    return _LEADING.sub(r"\1\\\2", plain)


def fenced(text: str, language: str = "") -> Markup:
    """A fenced block whose fence is longer than any run of backticks in the text."""
    shown = sanitize(shortened(text), keep_newlines=True)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{shown}\n{fence}")


def _sparklines(chart: Chart) -> str:
    """A row of bars with its name for every described series."""
    sparks = [(one.name, sparkline(one)) for one in chart.series if one.described]
    return "\n".join(f"{spark}  {name}" for name, spark in sparks if spark)


def sparkline(series: ChartSeries) -> str:
    """A series as a row of bars between its lowest and its highest value; "" for fewer than two values."""
    points = thinned(series.xs, series.ys, SPARK_COLUMNS)
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
