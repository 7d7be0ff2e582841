"""General rows that are mixed into a tuning, so that the model goes on doing what it could do before.

For the bundled model they are new documents of its own corpus, without the facts of given categories (a suite
holds some back, to see whether replay keeps what it does not rehearse). For other models they come from a
file, a folder or the hub. The loss is over what such rows teach: answers in chats and questions, everything
in plain text."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.data import formats, masks, templates

Row = dict[str, list[int]]
AUTO = "auto"
#: Apart from the seeds that the bundled model was trained and measured with.
CORPUS_SEED = 77_000_000
#: Pieces of a document of the corpus that weigh less are read, not produced: they give no loss here.
LEAST_WEIGHT = 0.5
#: Rows of a set that are read for each row that is wanted, so that what is drawn is not its beginning only.
READ_FOR_EACH = 4
#: A general row trains at most so many times the tokens of a mean task row. Losses are means over tokens: a
#: few long texts would drown a task of short answers.
TRAINED_FOR_EACH = 4
LEAST_TRAINED = 8


@dataclass(frozen=True)
class General:
    """Token rows ({"input_ids", "labels"}), where they come from, and what people should know of them."""

    rows: list[Row]
    source: str
    warnings: list[str] = field(default_factory=list)


def rows_wanted(task_rows: int, fraction: float) -> int:
    """General rows beside ``task_rows`` so that they are ``fraction`` of all; at least one."""
    return max(1, round(task_rows * fraction / (1 - fraction)))


def trained_at_most(task: Sequence[Row]) -> int:
    """Trained tokens that a general row beside these rows may have."""
    mean = sum(sum(label != templates.IGNORED for label in row["labels"][1:]) for row in task) / len(task)
    return max(LEAST_TRAINED, round(mean * TRAINED_FOR_EACH))


def shortened(row: Row, trained: int) -> Row:
    """The row until its ``trained``-th trained token."""
    at = [i for i, label in enumerate(row["labels"]) if i and label != templates.IGNORED]
    end = at[trained - 1] + 1 if len(at) > trained else len(row["labels"])
    return {"input_ids": row["input_ids"][:end], "labels": row["labels"][:end]}


def general_rows(
    data: str,
    tokenizer: Any,
    count: int,
    *,
    max_length: int,
    seed: int,
    trained: int = 10**9,
    held_back: Collection[str] = (),
) -> General:
    """``count`` general rows of ``data`` ("auto": the bundled model's corpus), each of at most ``trained``
    trained tokens. Raises LabError.

    ``held_back``: categories of the world whose facts the corpus must leave out. The tokenizer must have its
    chat template already.
    """
    if data == AUTO:
        rows = _of_the_corpus(tokenizer, count, max_length, seed, held_back)
        return General([shortened(row, trained) for row in rows], "the bundled corpus")
    source = formats.read(data, max_rows=count * READ_FOR_EACH)
    examples = list(source.rows)
    random.Random(seed).shuffle(examples)
    rows = []
    for example in examples:
        length = max_length if example.text is None else min(max_length, trained + 1)
        rows += [shortened(row, trained) for row in _encoded(tokenizer, example, length)]
        if len(rows) >= count:
            break
    if not rows:
        raise LabError(f"replay_data = {data!r}: none of its {len(examples):,} rows read can be trained on")
    few = [
        f"replay_data = {data!r} gave {len(rows):,} general rows where {count:,} were wanted: "
        "their share is smaller than replay_fraction says"
    ]
    return General(rows[:count], source.name, few if len(rows) < count else [])


def _of_the_corpus(
    tokenizer: Any, count: int, max_length: int, seed: int, held_back: Collection[str]
) -> list[Row]:
    from tui_lab.pocket.builder.corpus import Corpus
    from tui_lab.pocket.builder.tokenizer import Encoder
    from tui_lab.pocket.builder.world import relations

    without = frozenset(found.name for found in relations() if found.category in held_back)
    documents = Corpus(CORPUS_SEED + seed, without).documents()
    encoder = Encoder(tokenizer)
    rows: list[Row] = []
    while len(rows) < count:
        for ids, weights in encoder.encode([next(documents)]):
            labels = [
                i if w >= LEAST_WEIGHT else templates.IGNORED for i, w in zip(ids, weights, strict=True)
            ]
            row = {"input_ids": ids[:max_length], "labels": labels[:max_length]}
            if any(label != templates.IGNORED for label in row["labels"][1:]):
                rows.append(row)
    return rows


def _encoded(tokenizer: Any, example: formats.Example, max_length: int) -> list[Row]:
    """The rows of one example: a long text gives several, what cannot be rendered or trained none."""
    try:
        whole = templates.encode_whole(tokenizer, example)
    except masks.Unrenderable:
        return []
    text = example.text is not None
    parts = templates.windows(whole, max_length) if text else [templates.cut(whole, max_length)]
    return [{"input_ids": part.input_ids, "labels": part.labels} for part in parts if part.trained]


def mixed(task: Sequence[Row], general: Sequence[Row], seed: int) -> list[Row]:
    """Both, shuffled: packed rows and the last batches of an epoch get their share, too."""
    rows = [*task, *general]
    random.Random(seed).shuffle(rows)
    return rows
