"""What a mixture took of each of its data sets. No torch, no tokenizer: events have these records, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec


class SourceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One data set of a mixture. ``weight``: its share as asked, 0 to 1; ``rows_usable``: its training rows
    after the split; ``train_rows`` and ``train_trained_tokens``: those in the mixture, repeated ones counted
    each time; a pair of answers is one row."""

    name: str
    weight: float
    format: str = ""
    rows_read: int = 0
    rows_usable: int = 0
    train_rows: int = 0
    train_trained_tokens: int = 0
    validation_rows: int = 0
    validation_trained_tokens: int = 0


def source_names(sources: Sequence[SourceCounts]) -> list[str]:
    """The names of the data sets without their folders, where those differ."""
    short = [Path(each.name).name for each in sources]
    return short if len(set(short)) == len(short) else [each.name for each in sources]


def source_line(source: SourceCounts, sources: list[SourceCounts], by: str = "") -> str:
    """A source in words: what of it is trained, and its shares of rows and trained tokens. ``by``: what the
    weights are shares of, "" to leave it out."""
    rows = sum(each.train_rows for each in sources) or 1
    tokens = sum(each.train_trained_tokens for each in sources) or 1
    asked = f"weight {source.weight:.0%}" + (f" of the {by}" if by else "")
    times = source.train_rows / source.rows_usable if source.rows_usable else 0.0
    repeated = f", {times:.1f} times each" if times > 1 else ""
    return (
        f"{asked}: {source.train_rows:,} of {source.rows_usable:,} rows{repeated} "
        f"({source.train_rows / rows:.0%} of the rows, {source.train_trained_tokens / tokens:.0%} of the "
        f"trained tokens), {source.validation_rows:,} held out"
    )
