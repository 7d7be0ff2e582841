"""The words of Keep: the verdict, the table of suites and categories, the items that flipped, one item with
its choices before and after. Pure; text of suites and models is shown as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content

from tui_lab.core.format import bar, decimal
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.advice import Advice
from tui_lab.ui.views.probe import verdict_look
from tui_lab.ui.views.retention_data import RetentionReport, figure

COLUMNS = ("", "suite / category", "n", "before", "after", "kept", "95%", "lost", "gained")
WIDTHS = (1, 20, 5, 6, 6, 6, 14, 4, 6)
#: What a narrow table leaves out: the interval says how sure the retention is, and stays.
DISPENSABLE = ("n", "before", "after")
#: The categories that replay leaves out, so that keeping them is not rehearsing them.
NOT_REHEARSED = "not rehearsed"


def verdict_words(verdict: str) -> tuple[str, str]:
    """Glyph and word, and the colour."""
    if not verdict:
        return "· not measured", "$text-muted"
    glyph, word, role = verdict_look(verdict)
    return f"{glyph} {word}", f"${role}" if role else ""


def decision(verdict: str, threshold: float) -> str:
    """What the threshold that was set before the run says of it."""
    said = {
        "green": "accept: retention is surely over it",
        "red": "reject: retention is surely under it",
        "amber": "undecided: it lies inside the interval",
        "cannot_tell": "no decision: the base does not know this suite",
    }.get(verdict, "no decision yet")
    return f"threshold {threshold:g}, set before the run: {said}"


def cells(name: str, comparison: Mapping[str, Any] | None, n: int) -> tuple[str, ...]:
    """One row of the table."""
    if not comparison:
        return ("·", name, str(n), "–", "–", "–", "–", "", "")
    found = figure(comparison)
    assert found is not None
    return (
        verdict_look(str(comparison["verdict"]))[0],
        sanitize(name),
        str(comparison["n"]),
        decimal(comparison["pre"]),
        decimal(comparison["post"]),
        decimal(found["value"]) + ("" if comparison.get("above_chance") is None else "*"),
        f"{decimal(found['low'])} – {decimal(found['high'])}",
        str(comparison["b"]),
        str(comparison["c"]),
    )


def line(row: Sequence[str], room: int = 0) -> str:
    """A row of the table as text; for a narrow ``room`` (in cells) without what can be done without."""
    parts = []
    narrow = 0 < room < sum(WIDTHS) + len(WIDTHS) - 1
    for place, (cell, width) in enumerate(zip(row, WIDTHS, strict=True)):
        if narrow and COLUMNS[place] in DISPENSABLE:
            continue
        text = cell if len(cell) <= width else cell[: width - 1] + "…"
        parts.append(text.ljust(width) if place < 2 else text.rjust(width))
    return " ".join(parts)


def rows(kept: RetentionReport, room: int = 0) -> list[tuple[str, str, str, str]]:
    """The table: (suite, category or "", the line, the colour)."""
    found = []
    for suite, result in kept.results.items():
        comparison = result.get("comparison")
        _, colour = verdict_words(str((comparison or {}).get("verdict") or ""))
        found.append((suite, "", line(cells(suite, comparison, int(result.get("n") or 0)), room), colour))
        parts = dict(result.get("categories") or {})
        if held := result.get("held_back"):
            parts = {NOT_REHEARSED: held.get("comparison"), **parts}
        for name, each in parts.items():
            _, colour = verdict_words(str((each or {}).get("verdict") or ""))
            found.append((suite, name, line(cells(f"  {name}", each, 0), room), colour))
    return found


def flips(result: Mapping[str, Any], category: str = "") -> list[tuple[int, str, str]]:
    """The items that flipped: (index, line, colour), lost ones first."""
    lost, gained = [], []
    for index, item in enumerate(result.get("items") or ()):
        base, tuned = item.get("base"), item.get("tuned")
        if not base or not tuned or base.get("correct") == tuned.get("correct"):
            continue
        if category and item.get("category") != category:
            continue
        question = " ".join(sanitize(str(item.get("question") or item.get("id"))).split())
        if base.get("correct"):
            lost.append((index, f"✗ lost    {question}", "$forgotten"))
        else:
            gained.append((index, f"✓ gained  {question}", "$retained"))
    return lost + gained


def shares(loglikelihoods: Sequence[float]) -> list[float]:
    """Each choice's share of the probability of all choices."""
    finite = [value for value in loglikelihoods if math.isfinite(value)]
    if not finite:
        return [math.nan] * len(loglikelihoods)
    top = max(finite)
    weights = [math.exp(value - top) if math.isfinite(value) else 0.0 for value in loglikelihoods]
    return [weight / sum(weights) for weight in weights]


def item(result: Mapping[str, Any], index: int, width: int) -> Content:
    """One item: the question, its choices, and how probable each was before and after."""
    each = result["items"][index]
    base, tuned = each.get("base") or {}, each.get("tuned") or {}
    choices = [str(choice) for choice in each.get("choices") or ()]
    count = max(len(choices), len(base.get("loglikelihoods") or ()), len(tuned.get("loglikelihoods") or ()))
    before = shares(base.get("loglikelihoods") or [math.nan] * count)
    after = shares(tuned.get("loglikelihoods") or [math.nan] * count)
    room = max(6, (width - 24) // 2)
    parts: list[Any] = [
        (sanitize(str(each.get("question") or each.get("id")), keep_newlines=True), "bold"),
        "\n",
    ]
    if each.get("category"):
        parts.append((f"{sanitize(str(each['category']))}\n", "$text-muted"))
    for place in range(count):
        right = place in (each.get("answer") or ())
        text = sanitize(choices[place]) if place < len(choices) else f"choice {place + 1}"
        said = [
            name for name, scores in (("before", base), ("after", tuned)) if scores.get("predicted") == place
        ]
        taken = f"  ← taken {' and '.join(said)}" if said else ""
        mark = ("✓ ", "bold $retained") if right else ("  ", "")
        parts += ["\n", mark, (text, "bold" if right else ""), (taken, "$text-muted"), "\n"]
        parts += ["    before ", (bar(before[place], room), "$base-model"), f" {before[place]:6.1%}\n"]
        parts += ["    after  ", (bar(after[place], room), "$tuned-model"), f" {after[place]:6.1%}\n"]
    for name, scores in (("before", base), ("after", tuned)):
        if scores.get("text"):
            parts += ["\n", (f"{name}: ", "bold"), sanitize(str(scores["text"]), keep_newlines=True), "\n"]
    return Content.assemble(*parts)


def first_advice(found: Sequence[Advice]) -> str:
    """The first thing to try, in a line."""
    return f"next: {found[0].action}: {found[0].reason}" if found else ""


def advice_lines(found: Sequence[Advice]) -> Content:
    """What to try next, in order."""
    parts: list[Any] = []
    for place, each in enumerate(found, 1):
        parts += [(f"{place}. {each.action}", "bold"), f": {each.reason}.\n"]
    return Content.assemble(*parts)
