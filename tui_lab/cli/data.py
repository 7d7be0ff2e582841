"""``tui-lab data preview``: rows as the model sees them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from msgspec.structs import asdict

from tui_lab.cli import jobs
from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import as_json, has_colours, print_text
from tui_lab.core.sanitize import sanitize
from tui_lab.data.preview_records import PreviewAnswer, PreviewFacts, PreviewRequest, PreviewRow
from tui_lab.data.source_counts import source_line


class DataPreviewAnswer(PreviewAnswer, tag_field="kind", tag="data_preview", kw_only=True, frozen=True):
    """What each column is used for, what the run will do with the rows, and some rows in pieces, each with
    whether it is trained."""

    v: int = 1


def preview(args: argparse.Namespace) -> int:
    """``tui-lab data preview``: the answer of the preview job as text or JSON."""
    request = PreviewRequest(
        data=args.data,
        model=args.model,
        data_format=args.format,
        columns=args.columns,
        rows=args.rows,
        max_length=args.max_length,
        chat_template=args.chat_template,
        thinking=args.thinking,
        mixture_by=args.by,
        mixture_sampling=args.sampling,
    )
    answer = jobs.run_job("tui_lab.data.preview", request, answer=PreviewAnswer)
    if args.json:
        as_json(DataPreviewAnswer(**asdict(answer)))
        return EXIT_OK
    facts = answer.facts
    print_text(f"{sanitize(answer.data)}: {sanitize(answer.reason)}")
    print_text(f"  {_counts(facts)}")
    for source in answer.sources:
        print_text(f"  {sanitize(Path(source.name).name)}: {source_line(source, answer.sources)}")
    if facts.mean_tokens:
        lengths = f"{facts.mean_tokens} tokens a row, the longest {facts.longest_tokens}"
        print_text(f"  {lengths}; {facts.trained_tokens:,} of {facts.train_tokens:,} tokens are trained")
    for column, use in answer.columns.items():
        print_text(f"  column {sanitize(column)}: {use}")
    for column in answer.unused:
        print_text(f"  column {sanitize(column)}: not used")
    template = sanitize(facts.template_source)
    print_text(f"  {facts.trained_share:.0%} of the tokens are trained; template: {template}")
    for warning in answer.warnings:
        print_text(f"  warning: {sanitize(warning)}")
    for row in answer.rows:
        _show_row(row)
    return EXIT_OK


def _counts(facts: PreviewFacts) -> str:
    """What the run does with the rows."""
    read = f"{facts.rows_read:,} rows read"
    if facts.estimated:
        read = f"about {read}, estimated from the first {facts.sampled_rows:,}"
    counts = {
        "to train on": facts.train_rows,
        "held out": facts.held_out_rows,
        "unusable": facts.rows_bad,
        "empty": facts.rows_empty,
        "removed as repeated or leaked": facts.removed,
        "cut": facts.cut,
        "trained in windows": facts.windowed,
        "left out as too long": facts.too_long,
        "refused by the template": facts.refused_by_template,
        "without anything to train": facts.fully_masked,
    }
    return f"{read}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _show_row(row: PreviewRow) -> None:
    """Prints a row with the trained tokens in colour, or between ⟦ and ⟧ where colours are not available."""
    print(f"\n{sanitize(row.place)}: ", end="")
    if row.error:
        print(f"left out: {sanitize(row.error)}")
        return
    cut = ", cut to the length" if row.truncated else ""
    print(f"{row.tokens} tokens, {row.trained} trained{cut}")
    opening, closing = ("\033[32m", "\033[0m") if has_colours(sys.stdout) else ("⟦", "⟧")
    text, was = "", False
    for piece, trained in row.pieces:
        if trained != was:
            text, was = text + (opening if trained else closing), trained
        text += sanitize(piece, keep_newlines=True)
    print(text + (closing if was else ""))
