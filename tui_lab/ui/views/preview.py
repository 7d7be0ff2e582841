"""The answer of the preview job as text: rows of data with the trained tokens marked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.content import Content

from tui_lab.core.sanitize import sanitize

#: Pieces shown of one row, which may be as long as the model's context.
PIECES_SHOWN = 1_200


def preview_content(answer: Mapping[str, Any]) -> Content:
    """The answer of a preview job: format and how it was detected, counts, warnings, rows."""
    facts: Mapping[str, Any] = answer.get("facts") or {}
    parts: list[Any] = [
        ("format ", "$text-muted"),
        (sanitize(str(answer.get("format", "?"))), "bold"),
        (f": {sanitize(str(answer.get('reason', '')))}\n", "$text-muted"),
        _counts(facts),
        "\n",
    ]
    if template := facts.get("template_source"):
        parts += [("template ", "$text-muted"), sanitize(str(template)), "\n"]
    for warning in answer.get("warnings") or []:
        parts.append((f"! {sanitize(str(warning))}\n", "$text-warning"))
    parts += [
        ("The model learns the ", "$text-muted"),
        ("marked", "underline $trained-token"),
        (" tokens; the rest is context.\n", "$text-muted"),
    ]
    for row in answer.get("rows") or []:
        parts.append(_row(row))
    return Content.assemble(*parts)


def _counts(facts: Mapping[str, Any]) -> str:
    words = [f"{facts.get('rows', 0):,} rows"]
    if facts.get("validation_rows") is not None:
        words.append(f"{facts['validation_rows']:,} held out by the set itself")
    for key, name in (
        ("rows_bad", "unreadable"),
        ("rows_empty", "empty"),
        ("longer_than_max_length", "too long"),
    ):
        if facts.get(key):
            words.append(f"{facts[key]:,} {name}")
    if facts.get("mean_tokens"):
        words.append(f"{facts['mean_tokens']:g} tokens a row, {facts.get('longest_tokens', 0):,} the longest")
    if facts.get("trained_share"):
        words.append(f"{100 * float(facts['trained_share']):.0f}% of them trained")
    return ", ".join(words)


def _row(row: Mapping[str, Any]) -> Content:
    place = sanitize(str(row.get("place") or row.get("index", "")))
    if row.get("error"):
        return Content.assemble(
            (f"\n── {place}\n", "bold"), (f"✗ {sanitize(str(row['error']))}\n", "$text-error")
        )
    cut = ", cut to the maximum length" if row.get("truncated") else ""
    head = f"\n── {place}: {row.get('tokens', 0)} tokens, {row.get('trained', 0)} trained{cut}\n"
    parts: list[Any] = [(head, "bold")]
    pieces = row.get("pieces") or []
    for text, trained in pieces[:PIECES_SHOWN]:
        shown = sanitize(str(text), keep_newlines=True)
        parts.append((shown, "underline $trained-token") if trained else shown)
    if len(pieces) > PIECES_SHOWN:
        parts.append((f" … {len(pieces) - PIECES_SHOWN} more tokens", "$text-muted"))
    parts.append("\n")
    return Content.assemble(*parts)
