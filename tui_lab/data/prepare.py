"""From a data set as read to the rows of the trainer: split, deduplicated, rendered, masked and cut to
length.

Everything that is left out or changed is counted and, where a user may want to check it, named. When too
little is left, the error names the cause that removed most rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.data import masks, templates
from tui_lab.data.formats import DataSource, Example, name_some
from tui_lab.data.rows import Tokenizer, TokenRow
from tui_lab.data.split import split

FEW_TEXTS = 10  # fewer raw texts are cut into passages before the split, so that validation is possible
CHARS_PER_TOKEN = 4  # an estimate for ordinary text, used only for the length of these passages
PROGRESS_ROWS = 500

Progress = Callable[..., None]


@dataclass
class PreparedData:
    """Token rows for the trainer ({"input_ids", "labels"}, and "task" where the data names one), the examples
    they came from, facts and warnings.

    ``train_examples`` has one example for each used row of the source; a long raw text gives several token
    rows."""

    train: list[TokenRow]
    validation: list[TokenRow]
    train_examples: list[Example]
    validation_examples: list[Example]
    facts: dict[str, Any]
    warnings: list[str]


@dataclass
class _Tally:
    """Places of rows of one split, by what happened while they were encoded."""

    truncated: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    windowed: int = 0
    specials: list[str] = field(default_factory=list)


def prepare(
    source: DataSource,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    validation_fraction: float = 0.1,
    seed: int = 0,
    deduplicate: bool = True,
    chat_template: str = "",
    progress: Progress | None = None,
) -> PreparedData:
    """The rows for the trainer from the examples of a data set.

    ``tokenizer`` gets its chat template here. ``max_length`` is in tokens. Raises LabError where
    ``max_length`` is below 8, the template cannot be used, or too few rows are left."""
    if max_length < 8:
        raise LabError(
            f"max_length is {max_length}: with fewer than 8 tokens a row there is nothing to learn."
        )
    template_source = templates.set_template(tokenizer, chat_template)
    templates.renderer_of(tokenizer).forget_counts()
    warnings = list(source.warnings)
    rows = source.rows
    if source.format == "text" and len(rows) < FEW_TEXTS and source.validation is None:
        rows = [part for row in rows for part in passages(row, max_length * CHARS_PER_TOKEN)]
        if len(rows) > len(source.rows):
            warnings.append(
                f"{plural(len(source.rows), 'text')} cut into {len(rows)} passages, so that some can be "
                "held back for validation; separate texts by blank lines to choose the borders yourself."
            )
    parts = split(
        rows,
        source.validation,
        validation_fraction=validation_fraction,
        seed=seed,
        deduplicate_rows=deduplicate,
    )
    warnings += parts.notes or []
    total = len(parts.train) + len(parts.validation)
    train, train_examples, tally = _encode_all(tokenizer, parts.train, max_length, progress, 0, total)
    held, held_examples, held_tally = _encode_all(
        tokenizer, parts.validation, max_length, progress, len(parts.train), total
    )
    facts = _facts(source, tokenizer, train, held, tally, held_tally)
    facts.update(
        template_source=template_source,
        max_length=max_length,
        duplicates=parts.duplicates,
        near_duplicates=parts.near_duplicates,
        leaks_removed=parts.leaks + parts.near_leaks,
        validation_given=source.validation is not None,
        rows_used=len(train_examples),
        validation_rows_used=len(held_examples),
    )
    warnings += _warnings(facts, tally, held_tally, max_length)
    _refuse_if_too_little(source, facts, train, held, validation_fraction, max_length, tally, held_tally)
    return PreparedData(train, held, train_examples, held_examples, facts, warnings)


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
            meta = {**example.meta, "place": f"{example.place}, passage {len(parts) + 1}"}
            parts.append(Example(text=piece, meta=meta))
        at = end
    return parts


def _encode_all(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    max_length: int,
    progress: Progress | None,
    done: int,
    total: int,
) -> tuple[list[TokenRow], list[Example], _Tally]:
    tally = _Tally()
    rows: list[TokenRow] = []
    kept: list[Example] = []
    for number, example in enumerate(examples):
        if progress is not None and number % PROGRESS_ROWS == 0:
            progress("encoding rows", done + number, total)
        encoded = _encode_one(tokenizer, example, max_length, tally)
        if encoded:
            for piece in encoded:
                row: TokenRow = {"input_ids": piece.input_ids, "labels": piece.labels}
                if "task" in example.meta:
                    row["task"] = str(example.meta["task"])
                rows.append(row)
            kept.append(example)
    return rows, kept, tally


def _encode_one(
    tokenizer: Tokenizer, example: Example, max_length: int, tally: _Tally
) -> list[templates.Encoded]:
    """The token rows of one example, none if it is left out; ``tally`` records what happened."""
    if holds_specials(tokenizer, example):
        tally.specials.append(example.place)
    try:
        if example.text is not None:
            pieces = templates.windows(templates.encode_whole(tokenizer, example), max_length)
            tally.windowed += len(pieces) > 1
            pieces = [piece for piece in pieces if piece.trained]
            if not pieces:
                tally.masked.append(example.place)
            return pieces
        whole = templates.encode_whole(tokenizer, example)
    except masks.Unrenderable as error:
        tally.refused.append(example.place)
        tally.refusals[str(error)] = tally.refusals.get(str(error), 0) + 1
        return []
    if not whole.trained:
        tally.masked.append(example.place)
        return []
    encoded = templates.cut(whole, max_length)
    if not encoded.trained:
        tally.too_long.append(example.place)
        return []
    if encoded.truncated:
        tally.truncated.append(example.place)
    return [encoded]


def holds_specials(tokenizer: Tokenizer, example: Example) -> bool:
    """Does the text of the row spell out one of the tokenizer's control tokens, such as <|im_end|>?"""
    texts = [str(m["content"]) for m in example.messages or ()]
    texts += [part for part in (example.text, example.prompt, example.completion) if part]
    # Only tokens in brackets: some tokenizers call ordinary words special.
    marks = [token for token in tokenizer.all_special_tokens if len(token) > 2 and token[0] in "<[|"]
    return any(mark in text for text in texts for mark in marks)


def _facts(
    source: DataSource,
    tokenizer: Tokenizer,
    train: list[TokenRow],
    held: list[TokenRow],
    tally: _Tally,
    held_tally: _Tally,
) -> dict[str, Any]:
    lengths = [len(row["input_ids"]) for row in train]
    renderer = templates.renderer_of(tokenizer)
    used_chat = bool(renderer.methods)
    return {
        "name": source.name,
        "format": source.format,
        "reason": source.reason,
        "scorer": source.scorer,
        "rows_read": source.facts.get("rows_read", len(source.rows)),
        "rows_empty": source.facts.get("rows_empty", 0),
        "rows_bad": source.facts.get("rows_bad", 0),
        "train_rows": len(train),
        "validation_rows": len(held),
        "train_tokens": sum(lengths),
        "train_trained_tokens": sum(map(trained_tokens, train)),
        "validation_tokens": sum(len(row["input_ids"]) for row in held),
        "validation_trained_tokens": sum(map(trained_tokens, held)),
        "mean_tokens": round(sum(lengths) / len(lengths), 1) if lengths else 0.0,
        "longest_tokens": max(lengths, default=0),
        "truncated": len(tally.truncated) + len(held_tally.truncated),
        "too_long": len(tally.too_long) + len(held_tally.too_long),
        "windowed": tally.windowed + held_tally.windowed,
        "fully_masked": len(tally.masked) + len(held_tally.masked),
        "refused_by_template": len(tally.refused) + len(held_tally.refused),
        "system_folded": renderer.folded,
        "mask_methods": dict(renderer.methods),
        "end_of_turn": (renderer.end_of_turn or tokenizer.eos_token) if used_chat else tokenizer.eos_token,
        "end_of_turn_added": used_chat and not renderer.end_of_turn,
    }


def trained_tokens(row: TokenRow) -> int:
    """How many labels of a row give a loss (the first one never does)."""
    return sum(label != templates.IGNORED for label in row["labels"][1:])


def _warnings(facts: dict[str, Any], tally: _Tally, held: _Tally, max_length: int) -> list[str]:
    found: list[str] = []
    removed = facts["duplicates"] + facts["near_duplicates"]
    if removed:
        found.append(
            f"{plural(removed, 'repeated training row')} removed "
            f"({facts['duplicates']:,} equal, {facts['near_duplicates']:,} nearly equal)."
        )
    if facts["leaks_removed"]:
        found.append(
            f"{plural(facts['leaks_removed'], 'training row')} removed, "
            "because the validation rows ask the same."
        )
    for places, what in (
        (tally.too_long + held.too_long, f"left out: the prompt alone fills max_length = {max_length}"),
        (
            tally.truncated + held.truncated,
            f"cut at max_length = {max_length}, so the end of the answer is lost",
        ),
        (tally.masked + held.masked, "left out: nothing in it would be trained"),
        (
            tally.specials + held.specials,
            "spelling out control tokens of this tokenizer, which will act as such",
        ),
    ):
        if places:
            found.append(f"{plural(len(places), 'row')} {what} ({name_some(places)}).")
    if tally.refused or held.refused:
        reasons = {**held.refusals, **tally.refusals}
        worst = max(reasons, key=lambda reason: reasons[reason])
        places = tally.refused + held.refused
        found.append(f"{plural(len(places), 'row')} left out: {worst} ({name_some(places)}).")
    if facts["system_folded"]:
        found.append(
            f"{plural(facts['system_folded'], 'row')} had turns joined, because the chat template refuses "
            "system turns or two turns of one role in a row."
        )
    if masks.LAST in facts["mask_methods"]:
        found.append(
            "In some rows only the last assistant turn is trained: the chat template rewrites earlier ones."
        )
    if facts["end_of_turn_added"]:
        found.append(
            "The chat template ends no turn; the end token is added after the last answer of each row."
        )
    return found


def _refuse_if_too_little(
    source: DataSource,
    facts: dict[str, Any],
    train: list[TokenRow],
    held: list[TokenRow],
    validation_fraction: float,
    max_length: int,
    tally: _Tally,
    held_tally: _Tally,
) -> None:
    wants_validation = validation_fraction > 0
    if train and (held or not wants_validation):
        return
    causes = [
        (facts["rows_bad"], "unusable"),
        (facts["rows_empty"], "empty"),
        (facts["too_long"], f"with a prompt that alone fills max_length = {max_length}"),
        (facts["refused_by_template"], "refused by the chat template"),
        (facts["fully_masked"], "without anything to train"),
        (facts["duplicates"] + facts["near_duplicates"], "repeating another row"),
        (facts["leaks_removed"], "asking what the validation rows ask"),
    ]
    listed = ", ".join(f"{count:,} {what}" for count, what in sorted(causes, reverse=True) if count)
    read = plural(facts["rows_read"], "row")
    refusals = {**held_tally.refusals, **tally.refusals}
    advice = {
        "too_long": "Raise max_length.",
        "refused_by_template": f"The cause: {next(iter(refusals), '')}.",
        "leaks_removed": "Give validation rows of their own, or switch deduplicate off.",
    }
    worst = max(advice, key=lambda name: facts[name])
    hint = f" {advice[worst]}" if facts[worst] else " Add rows."
    if not train and not held:
        raise LabError(
            f"{source.name}: nothing is left to train on: of {read} read, {listed or 'none is usable'}.{hint}"
        )
    if not train:
        raise LabError(
            f"{source.name}: no training row is left beside the validation rows: "
            f"of {read} read, {listed}.{hint}"
        )
    raise LabError(
        f"{source.name}: too few rows to hold one back for validation: {plural(len(train), 'usable row')} "
        f"of {read} read{f' ({listed})' if listed else ''}. Add rows, or set validation_fraction = 0 to "
        "train without validation."
    )
