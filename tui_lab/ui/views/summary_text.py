"""The summary of a recipe as text: whether it can start, trained parameters, warnings, the equivalent
command, and the reasons for what was resolved. Pure."""

from __future__ import annotations

from typing import Any

from textual.content import Content

from tui_lab.core.format import count
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.views.recipe_summary import RecipeSummary


def numbers_content(summary: RecipeSummary) -> Content:
    """The number of trained parameters, in one line."""
    if summary.entry is None:
        return Content("")
    parts: list[Any] = [("trains ", "$text-muted")]
    if summary.trainable is not None:
        parts += [(count(summary.trainable), "bold"), f" of {count(summary.parameters)} parameters"]
        if summary.share is not None:
            parts += [f" = {100 * summary.share:.3g}%"]
    else:
        parts += ["known when the model is loaded"]
    return Content.assemble(*parts)


def method_content(summary: RecipeSummary) -> Content:
    """The method and the target modules."""
    parts: list[Any] = [("method ", "$text-muted"), sanitize(summary.description)]
    if summary.targets:
        parts += [", on ", sanitize(", ".join(summary.targets))]
    return Content.assemble(*parts)


def head_content(summary: RecipeSummary, start_keys: str) -> Content:
    """Whether the run can start, and if not, why."""
    if not summary.refusals:
        return Content.styled(f"▶ {start_keys} starts the run", "bold $text-success")
    refusals = (Content.styled(f"✗ {sanitize(refusal)}", "$text-error") for refusal in summary.refusals)
    return Content("\n").join(refusals)


def summary_content(summary: RecipeSummary, copy_keys: str) -> Content:
    """The text below the forecast."""
    parts: list[Any] = []
    if summary.entry is not None and summary.recipe is not None:
        parts += [numbers_content(summary), "\n"]
    for warning in summary.warnings:
        parts.append((f"! {sanitize(warning)}\n", "$text-warning"))
    parts += [
        ("$ ", "$text-muted"),
        (sanitize(summary.command), "$accent"),
        (f"   {copy_keys} copies\n", "$text-muted"),
    ]
    if summary.entry is not None and summary.recipe is not None:
        parts += [method_content(summary), "\n"]
    if summary.reasons:
        parts.append(("\nresolved for this machine\n", "$text-muted"))
    for field, value, reason in summary.reasons:
        parts += [(f"{field}{f' = {sanitize(value)}' if value else ''}: ", "bold"), f"{sanitize(reason)}\n"]
    return Content.assemble(*parts)
