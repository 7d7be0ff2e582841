"""From a data set as read to the rows of the trainer: split, deduplicated, rendered, masked and cut to
length.

Everything that is left out or changed is counted and, where a user may want to check it, named. When too few
rows remain, the error names the cause that removed most of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.data import formats, masks, templates
from tui_lab.data.formats import DataSource, Example, name_some
from tui_lab.data.rows import Tokenizer, TokenRow
from tui_lab.data.split import Split, split
from tui_lab.recipes.recipe import Recipe

FEW_TEXTS = 10  # fewer raw texts are cut into passages before the split, so that validation is possible
CHARS_PER_TOKEN = 4  # an estimate for ordinary text, used only for the length of these passages


class DataSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over a prepared data set; the run's ``data`` event holds the same fields.

    ``rows_*`` count rows of the source, ``train_rows`` and ``validation_rows`` token rows, ``*_tokens``
    tokens; trained tokens are those that give a loss. ``mask_methods``: rows by how their mask was found."""

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


@dataclass
class PreparedData:
    """Token rows for the trainer ({"input_ids", "labels"}, and "task" where the data names one), the examples
    they came from, a summary and warnings.

    ``train_examples`` has one example for each used row of the source; a long raw text gives several token
    rows."""

    train: list[TokenRow]
    validation: list[TokenRow]
    train_examples: list[Example]
    validation_examples: list[Example]
    summary: DataSummary
    warnings: list[str]


@dataclass
class _Tally:
    """Places of rows, by what happened while they were encoded. ``refusals``: rows by the reason that the
    template gave."""

    truncated: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)
    specials: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    windowed: int = 0


def prepare_recipe(recipe: Recipe, tokenizer: Tokenizer, max_length: int) -> PreparedData:
    """Reads and prepares the data of a recipe; ``max_length``, in tokens, is the resolved one. Raises
    LabError, see :func:`prepare`."""
    return prepare(
        formats.read(recipe.data, recipe.data_format, recipe.max_rows, recipe.columns),
        tokenizer,
        max_length=max_length,
        validation_fraction=recipe.validation_fraction,
        seed=recipe.seed,
        deduplicate=recipe.deduplicate,
        chat_template=recipe.chat_template,
    )


def prepare(
    source: DataSource,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    validation_fraction: float = 0.1,
    seed: int = 0,
    deduplicate: bool = True,
    chat_template: str = "",
) -> PreparedData:
    """The rows for the trainer from the examples of a data set.

    Args:
        tokenizer: gets its chat template here.
        max_length: tokens of a row at most.
        validation_fraction: share of the rows for validation, 0 to 1, where the source brings none.
        chat_template: the path of a Jinja file; "" for the model's own template.

    Raises:
        LabError: ``max_length`` is below 8, the template cannot be used, or too few rows remain.
    """
    if max_length < 8:
        raise LabError(
            f"max_length is {max_length}: with fewer than 8 tokens a row there is nothing to learn."
        )
    template_source = templates.set_template(tokenizer, chat_template)
    renderer = templates.renderer_of(tokenizer)
    renderer.reset_counts()
    warnings = list(source.warnings)
    rows = source.rows
    if source.format == "text" and len(rows) < FEW_TEXTS and source.validation is None:
        rows = [part for row in rows for part in passages(row, max_length * CHARS_PER_TOKEN)]
        if len(rows) > len(source.rows):
            warnings.append(
                f"{plural(len(source.rows), 'text')} cut into {len(rows)} passages, so that some can be "
                "used for validation; separate texts by blank lines to choose the borders yourself."
            )
    parts = split(
        rows,
        source.validation,
        validation_fraction=validation_fraction,
        seed=seed,
        deduplicate_rows=deduplicate,
    )
    warnings += parts.notes
    tally = _Tally()
    train, train_examples = _encode_all(tokenizer, parts.train, max_length, tally)
    validation, validation_examples = _encode_all(tokenizer, parts.validation, max_length, tally)
    lengths = [len(row["input_ids"]) for row in train]
    summary = DataSummary(
        name=source.name,
        format=source.format,
        reason=source.reason,
        scorer=source.scorer,
        rows_read=source.rows_read,
        rows_empty=source.rows_empty,
        rows_bad=source.rows_bad,
        rows_used=len(train_examples),
        validation_rows_used=len(validation_examples),
        train_rows=len(train),
        validation_rows=len(validation),
        validation_given=source.validation is not None,
        train_tokens=sum(lengths),
        train_trained_tokens=sum(map(trained_tokens, train)),
        validation_tokens=sum(len(row["input_ids"]) for row in validation),
        validation_trained_tokens=sum(map(trained_tokens, validation)),
        mean_tokens=round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
        longest_tokens=max(lengths, default=0),
        max_length=max_length,
        truncated=len(tally.truncated),
        too_long=len(tally.too_long),
        windowed=tally.windowed,
        fully_masked=len(tally.masked),
        refused_by_template=len(tally.refused),
        duplicates=parts.duplicates,
        near_duplicates=parts.near_duplicates,
        leaks_removed=parts.leaks + parts.near_leaks,
        system_folded=renderer.folded,
        mask_methods=dict(renderer.methods),
        template_source=template_source,
        end_of_turn=(renderer.end_of_turn if renderer.methods else "") or tokenizer.eos_token,
        end_of_turn_added=bool(renderer.methods) and not renderer.end_of_turn,
    )
    _check_enough(summary, tally, wants_validation=validation_fraction > 0)
    return PreparedData(
        train,
        validation,
        train_examples,
        validation_examples,
        summary,
        warnings + _warnings(summary, tally, parts),
    )


def passages(example: Example, size: int) -> list[Example]:
    """A raw text cut at white space into passages of about ``size`` characters."""
    text = example.text or ""
    parts: list[Example] = []
    at = 0
    while at < len(text):
        end = at + size
        if end < len(text):
            border = max(text.rfind("\n", at + size // 2, end), text.rfind(" ", at + size // 2, end))
            end = border + 1 if border > 0 else end
        piece = text[at:end]
        if piece.strip():
            place = f"{example.place}, passage {len(parts) + 1}"
            parts.append(Example(text=piece, place=place, task=example.task))
        at = end
    return parts


def _encode_all(
    tokenizer: Tokenizer, examples: Sequence[Example], max_length: int, tally: _Tally
) -> tuple[list[TokenRow], list[Example]]:
    """The token rows, and the examples that gave any."""
    rows: list[TokenRow] = []
    used: list[Example] = []
    for example in examples:
        encoded = _encode_one(tokenizer, example, max_length, tally)
        for piece in encoded:
            row: TokenRow = {"input_ids": piece.input_ids, "labels": piece.labels}
            if example.task:
                row["task"] = example.task
            rows.append(row)
        if encoded:
            used.append(example)
    return rows, used


def _encode_one(
    tokenizer: Tokenizer, example: Example, max_length: int, tally: _Tally
) -> list[templates.Encoded]:
    """The token rows of one example, none if it is left out; ``tally`` records what happened."""
    if has_special_tokens(tokenizer, example):
        tally.specials.append(example.place)
    try:
        encoded = templates.encode(tokenizer, example)
    except masks.Unrenderable as error:
        tally.refused.append(example.place)
        tally.refusals[str(error)] += 1
        return []
    pieces = [encoded]
    if example.text is not None:
        pieces = templates.windows(encoded, max_length)
        tally.windowed += len(pieces) > 1
    pieces = [piece for piece in pieces if piece.trained]
    if not pieces:
        tally.masked.append(example.place)
    if not pieces or example.text is not None:
        return pieces
    row = templates.cut(encoded, max_length)
    if not row.trained:
        tally.too_long.append(example.place)
        return []
    if row.truncated:
        tally.truncated.append(example.place)
    return [row]


def has_special_tokens(tokenizer: Tokenizer, example: Example) -> bool:
    """Whether the text of a row spells out one of the tokenizer's control tokens, such as <|im_end|>."""
    texts = [message["content"] for message in example.messages or ()]
    texts += [part for part in (example.text, example.prompt, example.completion) if part]
    # Only tokens in brackets: some tokenizers call ordinary words special.
    marks = [token for token in tokenizer.all_special_tokens if len(token) > 2 and token[0] in "<[|"]
    return any(mark in text for text in texts for mark in marks)


def trained_tokens(row: TokenRow) -> int:
    """How many labels of a row give a loss (the first one never does)."""
    return sum(label != templates.IGNORED for label in row["labels"][1:])


def _warnings(summary: DataSummary, tally: _Tally, parts: Split) -> list[str]:
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
        if places:
            found.append(f"{plural(len(places), 'row')} {what} ({name_some(places)}).")
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


def _check_enough(summary: DataSummary, tally: _Tally, *, wants_validation: bool) -> None:
    """Raises LabError, with the causes, where no row is left for training or validation."""
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
        raise LabError(
            f"{summary.name}: too few rows to use one for validation: {usable} of {read} read"
            f"{f' ({listed})' if listed else ''}. Add rows, or set validation_fraction = 0 to "
            "train without validation."
        )
    if summary.validation_rows:
        raise LabError(
            f"{summary.name}: no training row is left besides the validation rows: "
            f"of {read} read, {listed}. {advice}"
        )
    raise LabError(
        f"{summary.name}: nothing is left to train on: of {read} read, {listed or 'none is usable'}. {advice}"
    )
