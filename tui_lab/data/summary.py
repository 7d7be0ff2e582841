"""What was made of a data set: counts, the sentences about rows that were left out or changed, and the
refusal where too few rows remain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.format import and_more, plural
from tui_lab.data import masks
from tui_lab.data.source_counts import SourceCounts
from tui_lab.data.split import Split

NAMED_ROWS = 5  # rows that a sentence names; the others are counted


class DataSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over a prepared data set; the run's ``data`` event holds the same fields.

    ``rows_*`` count rows of the source, ``train_rows`` and ``validation_rows`` token rows, ``*_tokens``
    tokens; trained tokens are those that give a loss. ``mask_methods``: rows by how their mask was found;
    ``columns``: what each used column of the source becomes, ``unused_columns``: the others;
    ``prompts_unlike``: of the ``prompts_checked`` rows those that do not begin with their prompt;
    ``thinking``: what prompts without a row ask for; ``sources``: the data sets of a mixture."""

    name: str
    format: str
    reason: str
    scorer: str | None
    rows_read: int
    rows_empty: int
    rows_bad: int
    rows_used: int
    validation_rows_used: int
    train_rows: int
    validation_rows: int
    validation_given: bool
    train_tokens: int
    train_trained_tokens: int
    validation_tokens: int
    validation_trained_tokens: int
    mean_tokens: float
    longest_tokens: int
    max_length: int
    truncated: int
    too_long: int
    windowed: int
    fully_masked: int
    refused_by_template: int
    duplicates: int
    near_duplicates: int
    leaks_removed: int
    system_folded: int
    mask_methods: dict[str, int]
    template_source: str
    end_of_turn: str | None
    end_of_turn_added: bool
    columns: dict[str, str] = {}
    unused_columns: list[str] = []
    prompts_checked: int = 0
    prompts_unlike: int = 0
    thinking_rows: int = 0
    thinking: bool = False
    sources: list[SourceCounts] = []


class TooFewRows(LabError):
    """No row is left for training or validation; ``summary`` has the counts."""

    def __init__(self, text: str, summary: DataSummary) -> None:
        super().__init__(text)
        self.summary = summary


@dataclass
class Places:
    """How many rows, and the places of the first ones."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        self.count += 1
        if len(self.first) < NAMED_ROWS:
            self.first.append(place)

    def __str__(self) -> str:
        return ", ".join(self.first) + and_more(self.count - len(self.first))


@dataclass
class Tally:
    """Rows that were left out while they were encoded, and those that are used but were changed.
    ``refusals``: rows by the reason that the template gave."""

    too_long: Places = field(default_factory=Places)
    refused: Places = field(default_factory=Places)
    masked: Places = field(default_factory=Places)
    truncated: Places = field(default_factory=Places)
    specials: Places = field(default_factory=Places)
    apart: Places = field(default_factory=Places)
    refusals: Counter[str] = field(default_factory=Counter)
    windowed: int = 0


def warnings_of(summary: DataSummary, tally: Tally, parts: Split) -> list[str]:
    """One sentence for each kind of change."""
    found: list[str] = []
    removed = parts.duplicates + parts.near_duplicates
    if removed:
        found.append(
            f"{plural(removed, 'repeated training row')} removed "
            f"({parts.duplicates:,} equal, {parts.near_duplicates:,} nearly equal)."
        )
    if summary.leaks_removed:
        leaks = plural(summary.leaks_removed, "training row")
        found.append(f"{leaks} removed, because the validation rows ask the same.")
    reason = tally.refusals.most_common(1)[0][0] if tally.refusals else ""
    for places, what in (
        (tally.too_long, f"left out: the prompt alone fills max_length = {summary.max_length}"),
        (tally.truncated, f"cut at max_length = {summary.max_length}, so the end of the answer is lost"),
        (tally.masked, "left out: nothing in it would be trained"),
        (tally.specials, "spelling out control tokens of this tokenizer, which will act as such"),
        (tally.refused, f"left out: {reason}"),
    ):
        if places.count:
            found.append(f"{plural(places.count, 'row')} {what} ({places}).")
    if summary.system_folded:
        found.append(
            f"{plural(summary.system_folded, 'row')} had turns joined, because the chat template refuses "
            "system turns or two turns of one role in a row."
        )
    if masks.LAST in summary.mask_methods:
        found.append(
            "In some rows only the last assistant turn is trained: the chat template rewrites earlier ones."
        )
    if summary.end_of_turn_added:
        found.append(
            "The chat template ends no turn; the end token is added after the last answer of each row."
        )
    return found


def prompt_warnings(renderer: masks.Renderer, apart: Places, unlike: Places) -> list[str]:
    """One sentence for each way in which rows differ from the data, so that they are asked as trained."""
    found = []
    if unlike.count:
        found.append(
            f"{plural(unlike.count, 'row')} of the sample begin otherwise than the prompt that is asked "
            f"({unlike}): what the model answers there is not what was trained."
        )
    if apart.count:
        found.append(
            f"{plural(apart.count, 'row')} have a prompt that ends inside a token of the whole text "
            f"({apart}): prompt and answer are split into tokens apart. A prompt that ends with a blank is "
            "better without it, and the answer with it."
        )
    for note, sentence in (
        (
            masks.INLINED,
            "have reasoning that the chat template does not know: it is trained as <think>…</think>.",
        ),
        (
            masks.TOOLS_AS_TEXT,
            "have tools that the chat template does not know: they are written as text, calls as "
            "<tool_call>…</tool_call>.",
        ),
        (
            masks.UNCLOSED,
            "open <think> and never close it, as answers that were cut off do: they teach the model to keep "
            "thinking.",
        ),
        (masks.HIDDEN, "have reasoning that is left out, because thinking is off."),
        (
            masks.DROPPED_EARLIER,
            "have earlier answers that are not trained, because the chat template drops their reasoning.",
        ),
        (
            masks.COMPOSED,
            "are rendered by the chat template otherwise than it asks for an answer: the answer was put "
            "after the prompt that is asked.",
        ),
    ):
        if count := renderer.notes[note]:
            found.append(f"{plural(count, 'row')} {sentence}")
    return found


def check_enough(summary: DataSummary, tally: Tally, *, wants_validation: bool) -> None:
    """Raises TooFewRows, with the causes, where no row is left for training or validation."""
    if summary.train_rows and (summary.validation_rows or not wants_validation):
        return
    refusal = f"The cause: {tally.refusals.most_common(1)[0][0]}." if tally.refusals else ""
    filled = f"with a prompt that alone fills max_length = {summary.max_length}"
    separate = "Give validation rows of their own, or switch deduplicate off."
    causes = [  # how many, what they are, what to do
        (summary.rows_bad, "unusable", ""),
        (summary.rows_empty, "empty", ""),
        (summary.too_long, filled, "Raise max_length."),
        (summary.refused_by_template, "refused by the chat template", refusal),
        (summary.fully_masked, "without anything to train", ""),
        (summary.duplicates + summary.near_duplicates, "repeating another row", ""),
        (summary.leaks_removed, "asking what the validation rows ask", separate),
    ]
    causes.sort(key=lambda cause: -cause[0])
    listed = ", ".join(f"{count:,} {what}" for count, what, _ in causes if count)
    advice = next((advice for count, _, advice in causes if count and advice), "Add rows.")
    read = plural(summary.rows_read, "row")
    if summary.train_rows:
        usable = plural(summary.train_rows, "usable row")
        raise TooFewRows(
            f"{summary.name}: too few rows to use one for validation: {usable} of {read} read"
            f"{f' ({listed})' if listed else ''}. Add rows, or set validation_fraction = 0 to "
            "train without validation.",
            summary,
        )
    if summary.validation_rows:
        raise TooFewRows(
            f"{summary.name}: no training row is left besides the validation rows: "
            f"of {read} read, {listed}. {advice}",
            summary,
        )
    raise TooFewRows(
        f"{summary.name}: nothing is left to train on: of {read} read, "
        f"{listed or 'none is usable'}. {advice}",
        summary,
    )
