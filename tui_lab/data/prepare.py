"""From a data set to the rows of the trainer: rendered, masked and cut to length, deduplicated and split.

Rows are read, encoded in batches and stored as a stream; only then are repetitions removed and validation
rows drawn, so that unusable rows are never among them. Everything that is left out or changed is counted
and, where a user may want to check it, named. When too few rows remain, the error names the cause that
removed most of them."""

from __future__ import annotations

import itertools
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.data import examples as limits
from tui_lab.data import masks, row_tokens, templates
from tui_lab.data.duplicates import Indices, RowKeys, hash_row, text_of
from tui_lab.data.encoding import (
    EncodedArrays,
    TokenArray,
    control_tokens,
    encode_batch,
    spells_control_tokens,
)
from tui_lab.data.formats import Example, OpenedData, none_usable
from tui_lab.data.preferences import UNDESIRABLE, check_form
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.data.rows import Tokenizer, TokenRow
from tui_lab.data.split import Split, split
from tui_lab.data.store import Store, StoredExamples, StoreWriter, TokenRows, batches
from tui_lab.data.summary import (
    NAMED_ROWS,
    DataSummary,
    Places,
    Tally,
    check_enough,
    prompt_warnings,
    warnings_of,
)

FEW_TEXTS = 10  # fewer raw texts are cut into passages before the split, so that validation is possible
BATCH_ROWS, BATCH_CHARS = 256, 400_000  # rows, and their characters, that are encoded together
PROGRESS_S = 1.0
PROMPTS_CHECKED = 64  # rows of training and of validation whose beginning is compared with their prompt
CHARS_PER_TOKEN = 4  # an estimate for ordinary text, used only for the length of these passages


OnRows = Callable[[int], None]  # called with the number of rows encoded so far

_TRUNCATED, _WINDOWED, _SPECIAL = 1, 2, 4  # what happened to a row that is used


@dataclass
class PreparedData:
    """Token rows for the trainer, the examples they came from, a summary and warnings.

    ``train_examples`` has one example for each used row of the source; a long raw text gives several token
    rows, a preference pair two: of the chosen answer, then of the rejected one."""

    train: TokenRows
    validation: TokenRows
    train_examples: Sequence[Example]
    validation_examples: Sequence[Example]
    summary: DataSummary
    warnings: list[str]


@dataclass(frozen=True)
class _EncodedSet:
    """All usable rows of a set, before repetitions are removed. The first ``training`` examples are for
    training, the others are the set's own validation rows."""

    store: Store
    training: int
    keys: RowKeys
    flags: np.ndarray

    @property
    def examples(self) -> StoredExamples:
        return self.store.examples.chosen(np.arange(self.training, dtype=np.int64))

    @property
    def validation(self) -> StoredExamples:
        return self.store.examples.chosen(np.arange(self.training, len(self.store.examples), dtype=np.int64))


@dataclass(frozen=True)
class Preparation:
    """How rows are prepared. ``max_length``: tokens of a row at most; ``validation_fraction``: share of the
    rows for validation, 0 to 1, where the source brings none; ``chat_template``: the path of a Jinja file, ""
    for the model's own template; ``thinking``: on, off or by each row, None for the tokenizer's setting;
    ``preference_loss``: that of the recipe."""

    max_length: int
    validation_fraction: float = 0.1
    seed: int = 0
    deduplicate: bool = True
    chat_template: str = ""
    thinking: ThinkingMode | None = "auto"
    preference_loss: str = "none"

    @property
    def pairs(self) -> bool:
        """Whether a row gives two token rows, of its chosen and of its rejected answer."""
        return self.preference_loss not in ("none", "kto")


def prepare(
    source: OpenedData,
    tokenizer: Tokenizer,
    how: Preparation,
    *,
    folder: Path | None = None,
    on_rows: OnRows | None = None,
) -> PreparedData:
    """The rows for the trainer from the examples of a data set.

    Args:
        tokenizer: gets its chat template here.
        folder: where the encoded rows are written; None keeps them in memory.
        on_rows: called about once a second.

    Raises:
        LabError: the data cannot be read, ``max_length`` is below 8, the template cannot be used, or too few
            rows remain.
    """
    max_length = how.max_length
    if max_length < 8:
        raise LabError(
            f"max_length is {max_length}: with fewer than 8 tokens a row there is nothing to learn."
        )
    template_source = templates.set_template(tokenizer, how.chat_template)
    if how.thinking is not None:
        settings = templates.settings_of(tokenizer)
        settings = msgspec.structs.replace(settings, mode=how.thinking, thinking=how.thinking == "on")
        templates.use_settings(tokenizer, settings)
    templates.renderer_of(tokenizer).reset_counts()
    check_form(source.plan.format, source.name, how.preference_loss)
    notes = _unused_answers(source, how.preference_loss)
    tally = Tally()
    encoded = _encode_set(source, tokenizer, how, tally, notes, _Clock(on_rows), folder)
    if not source.train.read - source.train.left_out:
        raise none_usable(source)
    parts = split(
        encoded.examples,
        encoded.validation if source.validation is not None and len(encoded.validation) else None,
        validation_fraction=how.validation_fraction,
        seed=how.seed,
        deduplicate_rows=how.deduplicate,
        keys=encoded.keys,
    )
    own = source.validation is not None and len(encoded.validation) > 0
    held_out = parts.validation + encoded.training if own else parts.validation
    _count_changes(encoded, np.concatenate([parts.train, held_out]), tally)
    if how.thinking is not None:
        templates.settle_thinking(tokenizer)
    store = encoded.store
    asked = unlike_prompts(tokenizer, [store.examples.chosen(each) for each in (parts.train, held_out)])
    train, validation = store.rows_of(parts.train), store.rows_of(held_out)
    summary = _summary(source, tokenizer, tally, parts, (train, validation), max_length, template_source)
    summary = msgspec.structs.replace(summary, prompts_checked=asked[0], prompts_unlike=asked[1].count)
    if how.pairs:
        halves = {name: getattr(summary, name) // 2 for name in ("train_rows", "validation_rows")}
        summary = msgspec.structs.replace(summary, **halves)
    renderings = prompt_warnings(templates.renderer_of(tokenizer), tally.apart, asked[1])
    check_enough(summary, tally, wants_validation=how.validation_fraction > 0)
    return PreparedData(
        train,
        validation,
        store.examples.chosen(parts.train),
        store.examples.chosen(held_out),
        summary,
        [*source.warnings(), *notes, *parts.notes, *warnings_of(summary, tally, parts), *renderings],
    )


class _Clock:
    """Reports progress about once a second."""

    def __init__(self, on_rows: OnRows | None) -> None:
        self._on_rows, self._next = on_rows, time.monotonic() + PROGRESS_S

    def rows(self, done: int) -> None:
        if self._on_rows is not None and time.monotonic() >= self._next:
            self._on_rows(done)
            self._next = time.monotonic() + PROGRESS_S


def _encode_set(
    source: OpenedData,
    tokenizer: Tokenizer,
    how: Preparation,
    tally: Tally,
    notes: list[str],
    clock: _Clock,
    folder: Path | None,
) -> _EncodedSet:
    max_length = how.max_length
    writer = StoreWriter(folder)
    hashes, flags = array("Q"), array("B")
    marks, done = control_tokens(tokenizer), 0
    unwanted = Counter[str]()
    try:
        for part in source.parts:
            if part is source.validation:
                training = writer.examples
            examples = _first_texts(source, max_length, notes) if part is source.train else iter(part)
            if source.plan.format == "feedback" and how.preference_loss == "none":
                examples = _desirable(examples, unwanted)
            for batch in batches(bounded_texts(examples), BATCH_ROWS, BATCH_CHARS):
                rejected = _encode_rejected(tokenizer, batch) if how.pairs else itertools.repeat(None)
                encoded_batch = encode_batch(tokenizer, batch)
                for example, encoded, worse in zip(batch, encoded_batch, rejected, strict=False):
                    pieces, flag = _pieces(example, encoded, max_length, tally)
                    if worse is not None and pieces:
                        pieces, flag = _with_rejected(example, (pieces, flag), worse, max_length, tally)
                    if pieces:
                        flag |= _SPECIAL if spells_control_tokens(example, marks) else 0
                        writer.add(example, pieces)
                        flags.append(flag)
                        if part is source.train:
                            hashes.extend(hash_row(text_of(example)))
                done += len(batch)
                clock.rows(done)
        if source.validation is None:
            training = writer.examples
        store = writer.close()
    except BaseException:
        writer.discard()
        raise
    if unwanted:
        notes.append(f"{plural(unwanted.total(), 'answer')} left out, because their label is false.")
    return _EncodedSet(store, training, RowKeys.of(hashes), np.frombuffer(flags, dtype=np.uint8))


def _desirable(examples: Iterable[Example], unwanted: Counter[str]) -> Iterator[Example]:
    """The examples whose answer is not undesirable; counts the others."""
    for example in examples:
        if example.task == UNDESIRABLE:
            unwanted[UNDESIRABLE] += 1
        else:
            yield example


def _unused_answers(source: OpenedData, loss: str) -> list[str]:
    """A sentence about rejected answers that training without a preference loss does not use."""
    form = source.plan.format
    if loss != "none" or form not in ("preference", "feedback"):
        return []
    what = "rejected answers" if form == "preference" else "answers whose label is false"
    presets = "dpo, orpo or simpo" if form == "preference" else "kto"
    return [f"the {what} are not used: the preset {presets} trains with them."]


def _encode_rejected(
    tokenizer: Tokenizer, batch: Sequence[Example]
) -> list[EncodedArrays | masks.Unrenderable]:
    return encode_batch(tokenizer, [example.with_rejected or example for example in batch])


def _with_rejected(
    example: Example,
    chosen: tuple[list[tuple[TokenArray, TokenArray]], int],
    encoded: EncodedArrays | masks.Unrenderable,
    max_length: int,
    tally: Tally,
) -> tuple[list[tuple[TokenArray, TokenArray]], int]:
    """The token rows of both sides of a pair, none if they cannot be compared: where the length cuts away an
    answer, or what differs."""
    pieces, flag = chosen
    other, other_flag = _pieces(example, encoded, max_length, tally)
    if other and np.array_equal(other[0][0], pieces[0][0]):
        tally.too_long.add(example.place)
        return [], 0
    return (pieces + other, flag | other_flag) if other else ([], 0)


def bounded_texts(examples: Iterable[Example]) -> Iterator[Example]:
    """The examples; raw texts that are too long for the tokenizer are split."""
    for example in examples:
        if example.text is not None and len(example.text) > limits.MAX_ROW_CHARS:
            yield from passages(example, limits.PIECE_CHARS)
        else:
            yield example


def _first_texts(source: OpenedData, max_length: int, notes: list[str]) -> Iterator[Example]:
    """The training examples; a few raw texts are cut into passages, so that some can be used for
    validation."""
    examples = iter(source.train)
    if source.plan.format != "text" or source.validation is not None:
        yield from examples
        return
    first = list(itertools.islice(examples, FEW_TEXTS))
    if len(first) < FEW_TEXTS:
        parts = [part for example in first for part in passages(example, max_length * CHARS_PER_TOKEN)]
        if len(parts) > len(first):
            notes.append(
                f"{plural(len(first), 'text')} cut into {len(parts)} passages, so that some can be "
                "used for validation; separate texts by blank lines to choose the borders yourself."
            )
        first = parts
    yield from first
    yield from examples


def _pieces(
    example: Example, encoded: EncodedArrays | masks.Unrenderable, max_length: int, tally: Tally
) -> tuple[list[tuple[TokenArray, TokenArray]], int]:
    """The token rows of one example, none if it is left out, and what was changed; ``tally`` counts those
    that are left out."""
    if isinstance(encoded, masks.Unrenderable):
        tally.refused.add(example.place)
        tally.refusals[str(encoded)] += 1
        return [], 0
    if encoded.apart and example.completion is not None:
        tally.apart.add(example.place)
    flag = 0
    if not encoded.trained:
        tally.masked.add(example.place)
        return [], flag
    if example.text is not None:
        rows = encoded.windows(max_length)
        flag = _WINDOWED if len(rows) > 1 else 0
        rows = [piece for piece in rows if piece.trained]
    else:
        rows = [encoded.cut(max_length)]
        flag = _TRUNCATED if len(rows[0].ids) < len(encoded.ids) else 0
        if not rows[0].trained:
            tally.too_long.add(example.place)
            return [], flag
    return [(row.ids, row.labels) for row in rows], flag


def _count_changes(encoded: _EncodedSet, used: Indices, tally: Tally) -> None:
    """Counts the used rows that were cut, windowed, or spell out control tokens."""
    flags = encoded.flags[used]
    tally.windowed = int(np.count_nonzero(flags & _WINDOWED))
    for flag, places in ((_TRUNCATED, tally.truncated), (_SPECIAL, tally.specials)):
        rows = np.sort(used[flags & flag > 0])
        places.count = len(rows)
        places.first = [encoded.store.examples[int(row)].place for row in rows[:NAMED_ROWS]]


def _summary(
    source: OpenedData,
    tokenizer: Tokenizer,
    tally: Tally,
    parts: Split,
    rows: tuple[TokenRows, TokenRows],
    max_length: int,
    template_source: str,
) -> DataSummary:
    train, validation = rows
    renderer = templates.renderer_of(tokenizer)
    lengths = train.lengths
    return DataSummary(
        name=source.name,
        format=source.plan.format,
        reason=source.reason,
        scorer=source.scorer,
        rows_read=source.rows_read,
        rows_empty=source.rows_empty,
        rows_bad=source.rows_bad,
        rows_used=len(parts.train),
        validation_rows_used=len(parts.validation),
        train_rows=len(train),
        validation_rows=len(validation),
        validation_given=source.validation is not None,
        train_tokens=int(lengths.sum()),
        train_trained_tokens=int(train.trained.sum()),
        validation_tokens=int(validation.lengths.sum()),
        validation_trained_tokens=int(validation.trained.sum()),
        mean_tokens=round(float(lengths.mean()), 1) if len(lengths) else 0.0,
        longest_tokens=int(lengths.max()) if len(lengths) else 0,
        max_length=max_length,
        truncated=tally.truncated.count,
        too_long=tally.too_long.count,
        windowed=tally.windowed,
        fully_masked=tally.masked.count,
        refused_by_template=tally.refused.count,
        duplicates=parts.duplicates,
        near_duplicates=parts.near_duplicates,
        leaks_removed=parts.leaks + parts.near_leaks,
        system_folded=renderer.folded,
        mask_methods=dict(renderer.methods),
        template_source=template_source,
        end_of_turn=(renderer.closing if renderer.methods else "") or tokenizer.eos_token,
        end_of_turn_added=bool(renderer.methods) and not renderer.end_of_turn,
        columns=dict(source.plan.uses),
        unused_columns=list(source.plan.unused),
        thinking_rows=renderer.notes[masks.THINKING],
        thinking=templates.settings_of(tokenizer).thinking,
    )


def unlike_prompts(tokenizer: Tokenizer, parts: Sequence[Sequence[Example]]) -> tuple[int, Places]:
    """Compares rows, a sample spread over all, with the prompts that are asked for them: how many were
    compared, and those that do not begin with the tokens of their prompt."""
    renderer, found, checked = templates.renderer_of(tokenizer), Places(), 0
    counts = dict(renderer.methods), renderer.notes.copy()
    for examples in parts:
        step = max(1, -(-len(examples) // PROMPTS_CHECKED))
        for at in range(0, len(examples), step):
            example = examples[at]
            if example.text is not None:
                continue
            checked += 1
            try:
                asked = row_tokens.prompt_ids(tokenizer, example)
                alike = row_tokens.encode(tokenizer, example).input_ids[: len(asked)] == asked
            except (LabError, masks.Unrenderable):
                alike = False
            if not alike:
                found.add(example.place)
    renderer.methods, renderer.notes = counts
    return checked, found


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


def trained_tokens(row: TokenRow) -> int:
    """How many labels of a row give a loss (the first one never does)."""
    return sum(label != row_tokens.IGNORED for label in row["labels"][1:])
