"""The summary of a recipe as text: what is downloaded, trained parameters, warnings, the equivalent
command, and the reasons for what was resolved. Pure."""

from __future__ import annotations

from typing import Any

from textual.content import Content

from tui_lab.core.format import count
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.views.access import Access
from tui_lab.ui.views.recipe_summary import RecipeSummary
from tui_lab.ui.views.start_check import download_line


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


def summary_content(summary: RecipeSummary, copy_keys: str, access: Access) -> Content:
    """The text below the forecast."""
    parts: list[Any] = []
    if summary.entry is not None and summary.recipe is not None:
        if (line := download_line(summary, access)) is not None:
            parts += [line, "\n"]
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
        parts.append(("\nResolved settings\n", "$text-muted"))
    for field, value, reason in summary.reasons:
        parts += [(f"{field}{f' = {sanitize(value)}' if value else ''}: ", "bold"), f"{sanitize(reason)}\n"]
    return Content.assemble(*parts)
