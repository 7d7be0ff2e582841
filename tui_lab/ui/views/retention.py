"""The texts of the Retention pane: the verdict, the table of suites and categories, the items whose
correctness changed, one item with its choices before and after. Pure. Texts of suites and models are
sanitized."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content

from tui_lab.core.format import UNKNOWN, bar, decimal, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.advice import Advice
from tui_lab.retention.results import AnswerScore, SuiteComparison, SuiteResult
from tui_lab.retention.stored import JudgeResult, StrengthPoint
from tui_lab.runs.stage_matrix import StageTable
from tui_lab.runs.state import RunState
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.views import retention_forest
from tui_lab.ui.views.probe import verdict_look
from tui_lab.ui.views.retention_data import RetentionReport
from tui_lab.ui.views.retention_data import label as run_label
from tui_lab.ui.views.retention_forest import ForestRow
from tui_lab.ui.views.spans import fit

COLUMNS = ("", "suite / category", "n", "before", "after", "retention", "95%", "lost", "gained")
WIDTHS = (1, 18, 5, 6, 6, 9, 13, 4, 6)
#: What a narrow table leaves out: the interval says how sure the retention is, and stays.
DISPENSABLE = ("n", "before", "after")
#: The categories that replay excludes, so that they measure retention without rehearsal.
NOT_REHEARSED = "not rehearsed"


def verdict_label(verdict: str) -> tuple[str, str]:
    """(glyph and word, colour) of a verdict."""
    if not verdict:
        return "· not measured", "$text-muted"
    glyph, word, role = verdict_look(verdict)
    return f"{glyph} {word}", f"${role}" if role else ""


def heading(report: RetentionReport, suite: str, comparison: SuiteComparison | None, width: int) -> Content:
    """The verdict on a suite, the run, and what it acquired; the suite where there are cells for it."""
    label, colour = verdict_label(comparison.verdict if comparison else "")
    start, end = report.acquisition
    name = run_label(report.recipe, report.run.id)
    is_scored = math.isfinite(start) or math.isfinite(end)  # own data may have no score
    acquired = f"acquisition {decimal(start, 2)} → {decimal(end, 2)}" if is_scored else ""
    if len(f"{label}  {name}   {suite}   {acquired}") <= width:
        name += f"   {suite}"
    return Content.assemble(
        (f"{label}  ", f"bold {colour}"), sanitize(name), (f"   {acquired}", "$text-muted")
    )


def probed(state: RunState) -> str:
    """What the last probe of the run found, for a run of which no suite was measured; "" without one."""
    newest = state.item_probes[-1] if state.item_probes else None
    if newest is None or state.retention is None:
        return ""
    found, items = state.retention, f"{newest.n} items of " if newest.n else ""
    figures = f"{decimal(found.value, 2)} ({decimal(found.low, 2)} to {decimal(found.high, 2)})"
    return f"The last probe, at step {newest.step}: retention {figures} on {items}{sanitize(newest.suite)}."


def judged(found: JudgeResult) -> Content:
    """What a judge prefers, as a line; empty where none was asked."""
    if not found.pairs:
        return Content("")
    role = {"better": "$text-success", "worse": "$text-error"}.get(found.verdict, "$text-warning")
    return Content.assemble(("Judge: ", "$text-muted"), (sanitize(found.sentence), role))


def decision(comparison: SuiteComparison | None, threshold: float) -> Content:
    """The verdict in one sentence, with the figure that decides in bold: the end of the interval that is
    nearest to the threshold that the recipe set before the run."""
    if comparison is None:
        return Content("")
    found = comparison.headline
    limit = f"the {threshold:.0%} threshold"
    what = "of what it knew above chance" if comparison.above_chance else "of its score"
    flips = f"; {comparison.b} lost, {comparison.c} gained of {comparison.n:,} items."
    match comparison.verdict:
        case "green":
            figure, words = f"{found.low:.1%}", ("At least", f"above {limit}")
        case "red":
            figure, words = f"{found.high:.1%}", ("At most", f"below {limit}")
        case "amber":
            figure, words = f"{found.low:.1%} to {found.high:.1%}", ("From", f"which includes {limit}")
        case _:
            return Content(sanitize(comparison.sentence))
    return Content.assemble(f"{words[0]} ", (figure, "bold"), f" {what} is kept, {words[1]}{flips}")


def cells(name: str, comparison: SuiteComparison | None, n: int) -> tuple[str, ...]:
    """One row of the table."""
    if not comparison:
        return ("·", name, str(n), "–", "–", "–", "–", "", "")
    headline = comparison.headline
    if not math.isfinite(headline.value):
        unknown = ("n/a", "at chance")
        return (*_sides(comparison, name), *unknown, str(comparison.b), str(comparison.c))
    return (
        *_sides(comparison, name),
        decimal(headline.value) + ("" if comparison.above_chance is None else "*"),
        f"{decimal(headline.low)} – {decimal(headline.high)}",
        str(comparison.b),
        str(comparison.c),
    )


def _sides(comparison: SuiteComparison, name: str) -> tuple[str, ...]:
    glyph = verdict_look(comparison.verdict)[0]
    return glyph, sanitize(name), str(comparison.n), decimal(comparison.pre), decimal(comparison.post)


def line(row: Sequence[str], width: int = 0) -> str:
    """A row of the table as text. A table of less than its full width leaves out the dispensable columns."""
    narrow = 0 < width < sum(WIDTHS) + len(WIDTHS) - 1
    shown = [place for place, title in enumerate(COLUMNS) if not (narrow and title in DISPENSABLE)]
    return " ".join(fit(row[place], WIDTHS[place], right=place > 1) for place in shown)


def rows(report: RetentionReport) -> list[ForestRow]:
    """The suites, each before its categories."""
    found = []
    for suite, result in report.results.items():
        found.append(ForestRow(suite, "", result.comparison, result.n))
        parts: dict[str, SuiteComparison | None] = dict(result.categories)
        if result.held_back is not None:
            parts = {NOT_REHEARSED: result.held_back.comparison, **parts}
        found += [ForestRow(suite, name, each) for name, each in parts.items()]
    return found


def lines(shown: Sequence[ForestRow], threshold: float, width: int) -> list[Content]:
    """The head and the rows: a forest plot, or columns of numbers where the width has no place for it."""
    form = retention_forest.layout(shown, threshold, width)
    if form is not None:
        drawn = [retention_forest.head(form), *(retention_forest.row(each, form) for each in shown)]
        return [Content.assemble(*spans) for spans in drawn]
    numbers = [Content(line(COLUMNS, width))]
    for each in shown:
        _, colour = verdict_label(each.compared.verdict if each.compared else "")
        numbers.append(Content.styled(line(cells(each.name, each.compared, each.n), width), colour))
    return numbers


def flips(result: SuiteResult | None, category: str = "") -> list[tuple[int, str, str]]:
    """The items whose correctness changed, as (index, line, colour): lost ones first."""
    lost, gained = [], []
    for index, item in enumerate(result.items if result else ()):
        if category and item.category != category:
            continue
        question = " ".join(sanitize(item.question or item.id).split())
        if item.is_lost:
            lost.append((index, f"✗ lost    {question}", "$forgotten"))
        elif item.is_gained:
            gained.append((index, f"✓ gained  {question}", "$retained"))
    return lost + gained


def shares(loglikelihoods: Sequence[float]) -> list[float]:
    """Softmax over the log-likelihoods of the choices; not finite ones get 0."""
    finite = [value for value in loglikelihoods if math.isfinite(value)]
    if not finite:
        return [math.nan] * len(loglikelihoods)
    top = max(finite)
    weights = [math.exp(value - top) if math.isfinite(value) else 0.0 for value in loglikelihoods]
    return [weight / sum(weights) for weight in weights]


def item(result: SuiteResult, index: int, width: int) -> Content:
    """One item: the question and its choices with their probabilities before and after."""
    each = result.items[index]
    base, tuned = each.base.loglikelihoods, each.tuned.loglikelihoods if each.tuned else []
    count = max(len(each.choices), len(base), len(tuned))
    # a dilemma is answered twice: its two options in prose, then the same two as a decision
    group = 2 if result.kind == "agreement" else max(1, count)
    before, after = (_shares_of_groups(values or [math.nan] * count, group) for values in (base, tuned))
    sides = [("before", each.base), *([("after", each.tuned)] if each.tuned else [])]
    bar_width = max(6, (width - 24) // 2)
    parts: list[Any] = [
        (sanitize(each.question or each.id, keep_newlines=True), "bold"),
        "\n",
    ]
    if each.category:
        parts.append((f"{sanitize(each.category)}\n", "$text-muted"))
    for place in range(count):
        right = place in each.answer
        text = sanitize(each.choices[place]) if place < len(each.choices) else f"choice {place + 1}"
        chosen = [
            name for name, scores in sides if _likeliest(scores, place // group * group, group) == place
        ]
        taken = f"  ← taken {' and '.join(chosen)}" if chosen else ""
        mark = ("✓ ", "bold $retained") if right else ("  ", "")
        parts += ["\n", mark, (text, "bold" if right else ""), (taken, "$text-muted"), "\n"]
        parts += ["    before ", (bar(before[place], bar_width), "$base-model"), f" {before[place]:6.1%}\n"]
        parts += ["    after  ", (bar(after[place], bar_width), "$tuned-model"), f" {after[place]:6.1%}\n"]
    for name, scores in sides:
        if scores.text:
            parts += ["\n", (f"{name}: ", "bold"), sanitize(scores.text, keep_newlines=True), "\n"]
    return Content.assemble(*parts)


def _shares_of_groups(loglikelihoods: Sequence[float], group: int) -> list[float]:
    """The probabilities within each group of continuations that were compared with each other."""
    return [
        share
        for start in range(0, len(loglikelihoods), group)
        for share in shares(loglikelihoods[start : start + group])
    ]


def _likeliest(scores: AnswerScore, start: int, group: int) -> int:
    """The continuation that was taken of a group."""
    if group >= len(scores.loglikelihoods):
        return scores.predicted
    values = scores.loglikelihoods[start : start + group]
    return start + values.index(max(values))


def _suggested(advice: Advice, keymap: Mapping[str, str]) -> str:
    """The action, with the key that does it."""
    return f"{advice.action} ({first_key(advice.command, keymap)})" if advice.command else advice.action


def first_advice(found: Sequence[Advice], keymap: Mapping[str, str]) -> str:
    """The first suggestion, in one line."""
    return f"Next: {_suggested(found[0], keymap)}: {found[0].reason}" if found else ""


def advice_lines(found: Sequence[Advice], keymap: Mapping[str, str]) -> Content:
    """All suggestions, in order."""
    parts: list[Any] = []
    for place, each in enumerate(found, 1):
        parts += [(f"{place}. {_suggested(each, keymap)}", "bold"), f": {each.reason}.\n"]
    return Content.assemble(*parts)


def strength_text(point: StrengthPoint, digits: int = 3) -> str:
    """What a strength gave, for a list to pick from."""
    acquired, kept = decimal(point.acquisition, digits), decimal(point.headline.value, digits)
    return f"acquisition {acquired}, retention {kept}"


def stage_lines(found: StageTable, keymap: Mapping[str, str]) -> Content:
    """The scores after each stage on the task of each, backward transfer and forgetting."""
    rows = [["after", *(f"task {n}" for n in range(1, len(found.tasks) + 1))]]
    rows += [[row[0], *row[2:]] for row in found.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        row[0].ljust(widths[0])
        + "".join(f"  {cell:>{wide}}" for cell, wide in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    parts: list[Any] = [(f"{table[0]}\n", "$text-muted"), *(f"{line}\n" for line in table[1:])]
    parts += [(f"{sanitize(text)}\n", "$text-muted") for text in found.sentences]
    if found.missing:
        key = first_key("retention.measure", keymap)
        parts.append(f"{plural(found.missing, 'score')} not measured ({UNKNOWN}): {key}, then stages.")
    return Content.assemble(*parts)
