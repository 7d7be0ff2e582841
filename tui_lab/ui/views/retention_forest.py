"""Retention of suites and categories as a forest plot: one row each, with its 95 % interval as a bar on a
common axis, the threshold as a line through all rows, and the figures at the right. Pure functions. Names
are sanitized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tui_lab.core.format import decimal, interval
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.results import SuiteComparison
from tui_lab.runs.verdicts import NOT_MEASURABLE
from tui_lab.ui.views.plot_data import linear_axis
from tui_lab.ui.views.probe import verdict_look
from tui_lab.ui.views.spans import TextSpan, fit, fitting

#: Cells of the axis: fewer are no plot; figures beside retention and n are added while so many remain.
LEAST_AXIS, GOOD_AXIS, MOST_AXIS = 20, 28, 76
#: The axis ends here: an interval that goes on has an arrow. Retention of 1 is all that the base knew.
LOWEST, HIGHEST = -0.5, 2.0
NAME_CELLS = 18
#: Figures at the right, by title: their cells. Those beside retention and n are added in the order of MORE.
FIGURES = {"before": 6, "after": 6, "retention": 9, "95%": 15, "n": 5, "lost": 4, "gained": 6}
ALWAYS = ("retention", "n")
MORE = ("95%", "lost", "gained", "before", "after")
THRESHOLD_LINE, CROSSING = "┊", "┿"
THRESHOLD_STYLE = "$text-warning"


@dataclass(frozen=True)
class ForestRow:
    """A suite (``category`` is "") or one of its categories; ``compared`` is None where only the base was
    measured, on ``n`` items."""

    suite: str
    category: str
    compared: SuiteComparison | None
    n: int = 0

    @property
    def name(self) -> str:
        return sanitize(f"  {self.category}" if self.category else self.suite)

    @property
    def is_drawn(self) -> bool:
        """Whether it has a retention. One of a base at chance has none."""
        return self.compared is not None and math.isfinite(self.compared.headline.value)


@dataclass(frozen=True)
class ForestLayout:
    """Where things are in a row: the axis of ``cells`` cells from ``low`` to ``high`` with its ticks, and the
    figures at the right."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    cells: int
    threshold: float
    figures: tuple[tuple[str, int], ...]

    def place(self, value: float) -> int:
        """The cell of a value; outside the axis a negative number or one of ``cells`` and more."""
        share = (value - self.low) / (self.high - self.low)
        if not math.isfinite(share):
            return -1 if share < 0 else self.cells
        return round(max(-1.0, min(2.0, share)) * (self.cells - 1))


def layout(rows: Sequence[ForestRow], threshold: float, width: int) -> ForestLayout | None:
    """The layout of the rows; None where ``width`` is too small for a plot, or there is nothing to draw."""
    shown = [row.compared.headline for row in rows if row.compared is not None and row.is_drawn]
    titles = {*ALWAYS}
    cells = width - 2 - NAME_CELLS - 1 - sum(FIGURES[title] + 1 for title in titles)
    if cells < LEAST_AXIS or not shown:
        return None
    for title in MORE:
        if cells - FIGURES[title] - 1 < GOOD_AXIS:
            break
        titles.add(title)
        cells -= FIGURES[title] + 1
    figures = tuple((title, size) for title, size in FIGURES.items() if title in titles)
    cells = min(cells, MOST_AXIS)
    ends = [end for one in shown for end in (one.low, one.value, one.high) if math.isfinite(end)]
    low, high = max(LOWEST, min(*ends, threshold)), min(HIGHEST, max(*ends, 1.0))
    axis = linear_axis(low, high, max(3, cells // 7))
    ticks = tuple(zip(axis.ticks, axis.labels, strict=True))
    return ForestLayout(axis.low, axis.high, ticks, cells, threshold, figures)


def head(form: ForestLayout) -> list[TextSpan]:
    """The first line: the ticks of the axis, the threshold's in its colour, and the titles of the figures."""
    label = f"{form.threshold:g}"
    start = max(0, min(form.cells - len(label), form.place(form.threshold) - len(label) // 2))
    axis = [" "] * form.cells
    axis[start : start + len(label)] = label
    for value, text in form.ticks:
        # centred on its value, but for the ends; a tick that would touch another text is left out
        left = max(0, min(form.cells - len(text), form.place(value) - len(text) // 2))
        around = axis[max(0, left - 1) : left + len(text) + 1]
        if all(char == " " for char in around):
            axis[left : left + len(text)] = text
    titles = " ".join(fit(title, size, right=True) for title, size in form.figures)
    line = "".join(axis)
    return [
        ("  " + fit("suite / category", NAME_CELLS) + " ", ""),
        (line[:start], ""),
        (label, f"bold {THRESHOLD_STYLE}"),
        (line[start + len(label) :] + " " + titles, ""),
    ]


def row(one: ForestRow, form: ForestLayout) -> list[TextSpan]:
    """A row as (text, style) pieces."""
    compared = one.compared
    glyph, word, role = verdict_look(compared.verdict) if compared else ("·", "not measured", "")
    style = f"${role}" if role else ""
    name = [(f"{glyph} ", style), (fit(one.name, NAME_CELLS) + " ", "" if one.category else "bold")]
    if compared is None or not one.is_drawn:
        text = word if compared is None else NOT_MEASURABLE
        numbers = _figures(one, form)
        return [*name, (fit(text, form.cells), "$text-muted"), *numbers]
    return [*name, *_bar(compared, form, style), *_figures(one, form)]


def _bar(compared: SuiteComparison, form: ForestLayout, style: str) -> list[TextSpan]:
    """The interval as a bar with its point, over the line of the threshold."""
    found = compared.headline
    cells = [" "] * form.cells
    styles = [""] * form.cells
    line = form.place(form.threshold)
    cells[line], styles[line] = THRESHOLD_LINE, THRESHOLD_STYLE
    end = form.cells - 1
    first, last = form.place(found.low), form.place(found.high)
    for at in range(max(0, first), min(end, last) + 1):
        mark = "┣" if at == first < last else "┫" if at == last > first else "━"
        cells[at], styles[at] = CROSSING if at == line else mark, style
    if first < 0:
        cells[0], styles[0] = "◂", style
    if last > end:
        cells[end], styles[end] = "▸", style
    at = form.place(found.value)
    if 0 <= at <= end:
        cells[at], styles[at] = "●", f"bold {style}".strip()
    spans: list[TextSpan] = []
    for char, each in zip(cells, styles, strict=True):
        if spans and spans[-1][1] == each:
            spans[-1] = (spans[-1][0] + char, each)
        else:
            spans.append((char, each))
    return spans


def _figures(one: ForestRow, form: ForestLayout) -> list[TextSpan]:
    texts = figures(one)
    return [
        (" " + fit(texts[title], size, right=True), "bold" if title == "retention" else "$text-muted")
        for title, size in form.figures
    ]


def figures(one: ForestRow) -> dict[str, str]:
    """The figures of a row by their titles; "–" for one that is unknown. An asterisk: above chance."""
    compared = one.compared
    if compared is None:
        return {"retention": "–", "n": f"{one.n:,}" if one.n else "–", **dict.fromkeys(MORE, "–")}
    found = compared.headline
    is_known = math.isfinite(found.value)
    star = "*" if is_known and compared.above_chance is not None else " " if is_known else ""
    return {
        "retention": f"{decimal(found.value)}{star}" if is_known else "n/a",
        "n": f"{compared.n:,}",
        "95%": f"{decimal(found.low)} – {decimal(found.high)}" if is_known else "–",
        "lost": str(compared.b),
        "gained": str(compared.c),
        "before": decimal(compared.pre),
        "after": decimal(compared.post),
    }


def detail(one: ForestRow, width: int) -> str:
    """Every figure of one row in a line of at most ``width`` cells."""
    compared = one.compared
    where = sanitize(one.category or one.suite)
    if compared is None:
        return where
    pieces = [f"{where}: {decimal(compared.pre)} → {decimal(compared.post)}"]
    if one.is_drawn:
        found = compared.headline
        pieces.append(f"retention {interval(found.value, found.low, found.high, 3)}")
    else:
        pieces.append(NOT_MEASURABLE)
    pieces.append(f"{compared.b} lost, {compared.c} gained of {compared.n:,}")
    return "   ".join(fitting(pieces, width))
