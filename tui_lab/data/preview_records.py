"""What the preview of data is asked and answers. No tokenizer, so that the lab can import it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.data.source_counts import SourceCounts

MAX_ROWS = 50  # rows in an answer
MOST_LENGTHS = 2_000  # lengths in an answer


class PreviewRequest(msgspec.Struct, frozen=True):
    """Which rows of which data to show, and for which model."""

    data: str = ""
    model: str = "pocket"
    data_format: str = "auto"
    columns: str = ""
    max_length: Annotated[int, Meta(ge=8, le=1_000_000)] = 1024
    chat_template: str = ""
    rows: Annotated[int, Meta(ge=0, le=MAX_ROWS)] = 3
    start: Annotated[int, Meta(ge=0)] = 0
    max_rows: Annotated[int, Meta(ge=0)] = 0
    revision: str = ""
    validation_fraction: Annotated[float, Meta(ge=0, le=0.5)] = 0.1
    deduplicate: bool = True
    seed: Annotated[int, Meta(ge=0)] = 42
    thinking: ThinkingMode = "auto"
    preference_loss: str = "none"
    mixture_by: Literal["rows", "tokens"] = "rows"
    mixture_sampling: Literal["down", "up"] = "down"


class PreviewRow(msgspec.Struct, frozen=True):
    """One row: its text in pieces, each with whether it is trained, and its lengths in tokens.

    ``error`` says why a row is left out. A long raw text is trained in several ``windows``, of which the
    first is shown; any other long row is ``truncated``."""

    index: int
    place: str
    pieces: list[tuple[str, bool]]
    tokens: int
    trained: int
    truncated: bool = False
    windows: int = 1
    error: str = ""


class PreviewFacts(msgspec.Struct, frozen=True):
    """What the run will do with the whole data set. ``estimated``: only the first ``sampled_rows`` were
    prepared, and the counts of the whole set follow from them; lengths, in tokens, are those of the prepared
    rows."""

    rows: int
    validation_rows: int | None
    rows_read: int
    rows_bad: int
    rows_empty: int
    sampled_rows: int
    mean_tokens: float
    longest_tokens: int
    lengths: list[int]
    longer_than_max_length: int
    trained_share: float
    refused_by_template: int
    system_folded: int
    mask_methods: list[str]
    template_source: str
    end_of_turn: str | None
    scorer: str | None
    description: str
    estimated: bool = False
    train_rows: int = 0
    held_out_rows: int = 0
    removed: int = 0
    cut: int = 0
    windowed: int = 0
    too_long: int = 0
    fully_masked: int = 0
    train_tokens: int = 0
    trained_tokens: int = 0
    suggested_length: int = 0

    @property
    def too_long_share(self) -> float:
        """The share of the rows of which something is lost at the maximum length."""
        rows = self.train_rows + self.held_out_rows + self.too_long
        return min(1.0, (self.cut + self.too_long) / rows) if rows else 0.0


class PreviewAnswer(msgspec.Struct, frozen=True):
    """The answer of the job. ``columns``: what each used column becomes; ``unused``: the other columns;
    ``sources``: the data sets of a mixture."""

    data: str
    format: str
    reason: str
    facts: PreviewFacts
    warnings: list[str]
    start: int
    rows: list[PreviewRow]
    columns: dict[str, str] = {}
    unused: list[str] = []
    sources: list[SourceCounts] = []
