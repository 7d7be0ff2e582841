"""The answer of the preview job as text: rows of data with the trained tokens marked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.content import Content

from tui_lab.core.format import plural
from tui_lab.core.sanitize import sanitize
from tui_lab.data.source_counts import source_line
from tui_lab.recipes.mixture import short_name

if TYPE_CHECKING:
    from tui_lab.data.preview_records import PreviewAnswer, PreviewFacts, PreviewRow

#: Pieces shown of one row, which may be as long as the model's context.
PIECES_SHOWN = 1_200


def preview_content(answer: PreviewAnswer) -> Content:
    """The answer of a preview job: format and how it was detected, counts, warnings, rows."""
    parts: list[Any] = [
        ("format ", "$text-muted"),
        (sanitize(answer.format), "bold"),
        (f": {sanitize(answer.reason)}\n", "$text-muted"),
        _counts(answer.facts),
        "\n",
        *(
            (f"{sanitize(short_name(source.name))}: {source_line(source, answer.sources)}\n", "")
            for source in answer.sources
        ),
        *_too_long(answer.facts),
    ]
    if answer.columns or answer.unused:
        used = [f"{sanitize(column)}: {use}" for column, use in answer.columns.items()]
        parts += [("columns ", "$text-muted"), "; ".join(used)]
        if answer.unused:
            parts.append((f"; not used: {', '.join(map(sanitize, answer.unused))}", "$text-warning"))
        parts.append("\n")
    if answer.facts.template_source:
        parts += [("template ", "$text-muted"), sanitize(answer.facts.template_source), "\n"]
    parts += [(f"! {sanitize(warning)}\n", "$text-warning") for warning in answer.warnings]
    parts += [
        ("The model learns the ", "$text-muted"),
        ("marked", "underline $trained-token"),
        (" tokens; the rest is context.\n", "$text-muted"),
        *map(_row, answer.rows),
    ]
    return Content.assemble(*parts)


def too_long_text(facts: PreviewFacts) -> str:
    """How many rows lose something at the maximum length, and a length that holds nearly all; "" for none."""
    if not (share := facts.too_long_share):
        return ""
    rows = facts.cut + facts.too_long
    sampled = f", in {facts.sampled_rows:,} sampled" if facts.estimated else ""
    advice = f"; max_length = {facts.suggested_length} holds 95% of them" if facts.suggested_length else ""
    return f"max_length cuts {max(0.01, share):.0%} of the rows ({rows:,}{sampled}){advice}"


def _too_long(facts: PreviewFacts) -> list[Any]:
    text = too_long_text(facts)
    return [(f"✗ {text}\n", "$text-error")] if text else []


def _counts(facts: PreviewFacts) -> str:
    counts = [f"{facts.rows:,} usable rows"]
    if facts.train_rows:
        counts = [f"{plural(facts.train_rows, 'row')} to train on", f"{facts.held_out_rows:,} held out"]
    elif facts.validation_rows is not None:
        counts.append(f"{facts.validation_rows:,} held out by the set itself")
    if facts.estimated:
        counts[0] = f"estimated from the first {facts.sampled_rows:,} rows: about {counts[0]}"
    rejected = {
        "unreadable": facts.rows_bad,
        "empty": facts.rows_empty,
        "repeated or leaked": facts.removed,
        "cut": facts.cut,
        "in several windows": facts.windowed,
        "left out as too long": facts.too_long,
        "refused by the template": facts.refused_by_template,
        "without anything to train": facts.fully_masked,
    }
    counts += [f"{rows:,} {name}" for name, rows in rejected.items() if rows]
    if facts.mean_tokens:
        counts.append(f"{facts.mean_tokens:g} tokens a row, {facts.longest_tokens:,} the longest")
    if facts.trained_share:
        counts.append(f"{100 * facts.trained_share:.0f}% of them trained")
    if facts.trained_tokens:
        counts.append(f"{facts.trained_tokens:,} trained tokens a pass")
    return ", ".join(counts)


def _row(row: PreviewRow) -> Content:
    place = sanitize(row.place or str(row.index))
    if row.error:
        return Content.assemble((f"\n── {place}\n", "bold"), (f"✗ {sanitize(row.error)}\n", "$text-error"))
    cut = ", cut to the maximum length" if row.truncated else ""
    parts: list[Any] = [
        (f"\n── {place}: {plural(row.tokens, 'token')}, {row.trained} trained{cut}\n", "bold")
    ]
    for text, trained in row.pieces[:PIECES_SHOWN]:
        shown = sanitize(text, keep_newlines=True)
        parts.append((shown, "underline $trained-token") if trained else shown)
    if len(row.pieces) > PIECES_SHOWN:
        parts.append((f" … {len(row.pieces) - PIECES_SHOWN} more tokens", "$text-muted"))
    return Content.assemble(*parts, "\n")
