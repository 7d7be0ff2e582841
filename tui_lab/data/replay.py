"""General rows that are mixed into a tuning, so that the model does not forget what it could do before.

For the pocket model they are documents of its own corpus, from a bundled file that leaves out the two
categories of facts that the suite ``everyday`` holds back. For other models they come from a file, a folder
or the hub. In chats and questions only the answers are trained, in plain text everything. Experience replay:
Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.data import formats, masks, row_tokens
from tui_lab.data.prepare import trained_tokens
from tui_lab.data.rows import Tokenizer, TokenRow
from tui_lab.data.store import TokenRows

AUTO = "auto"
#: Rows read from a set for each row wanted, so that the sample is not only the beginning of the set.
READ_PER_ROW = 4
#: The trained tokens of a general row, at most, as a multiple of those of a mean task row. Losses are means
#: over tokens: a few long texts would outweigh a task of short answers.
TRAINED_RATIO = 4
MIN_TRAINED = 8
_DOCUMENT = msgspec.json.Decoder(list[tuple[str, bool]])


@dataclass(frozen=True)
class GeneralRows:
    """Token rows, where they come from, and warnings about them."""

    rows: list[TokenRow]
    source: str
    warnings: list[str] = field(default_factory=list)


def rows_wanted(task_rows: int, fraction: float) -> int:
    """The number of general rows that make ``fraction`` of all rows together with ``task_rows``; at least
    one."""
    return max(1, round(task_rows * fraction / (1 - fraction)))


def max_trained_tokens(task: TokenRows) -> int:
    """The most trained tokens that a general row may have beside these task rows."""
    mean = float(task.trained.mean())
    return max(MIN_TRAINED, round(mean * TRAINED_RATIO))


def truncate(row: TokenRow, trained: int) -> TokenRow:
    """The row up to its ``trained``-th trained token."""
    at = [i for i, label in enumerate(row["labels"]) if i and label != row_tokens.IGNORED]
    end = at[trained - 1] + 1 if len(at) > trained else len(row["labels"])
    return {"input_ids": row["input_ids"][:end], "labels": row["labels"][:end]}


def general_rows(
    data: str,
    tokenizer: Tokenizer,
    count: int,
    *,
    max_length: int,
    seed: int,
    trained: int = 10**9,
) -> GeneralRows:
    """``count`` general rows of ``data``, each of at most ``max_length`` tokens, ``trained`` of them trained.

    ``data`` is "auto" for the pocket model's corpus, else a file, a folder or a hub id. ``tokenizer`` must
    have its chat template already. Raises LabError where ``data`` cannot be read or holds nothing to train.
    """
    if data == AUTO:
        rows = _corpus_rows(tokenizer, count, max_length, seed)
        return GeneralRows([truncate(row, trained) for row in rows], "the bundled corpus")
    source = formats.read(data, max_rows=count * READ_PER_ROW)
    examples = list(source.rows)
    random.Random(seed).shuffle(examples)
    rows = []
    for example in examples:
        length = max_length if example.text is None else min(max_length, trained + 1)
        rows += [truncate(row, trained) for row in _encoded(tokenizer, example, length)]
        if len(rows) >= count:
            break
    if not rows:
        raise LabError(f"replay_data = {data!r}: none of its {len(examples):,} rows read can be trained on")
    few = [
        f"replay_data = {data!r} gave {len(rows):,} general rows where {count:,} were wanted: "
        "their share is smaller than replay_fraction says"
    ]
    return GeneralRows(rows[:count], source.name, few if len(rows) < count else [])


def _corpus_rows(tokenizer: Tokenizer, count: int, max_length: int, seed: int) -> list[TokenRow]:
    """Rows of the bundled file in the order of the seed; it is read again where more rows are wanted."""
    path = resources.files("tui_lab.data") / "bundled_sets" / "replay.jsonl"
    documents = [_DOCUMENT.decode(line) for line in path.read_bytes().splitlines()]
    rng = random.Random(seed)
    rows: list[TokenRow] = []
    while True:
        rng.shuffle(documents)
        for document in documents:
            row = _encode_segments(tokenizer, document, max_length)
            if trained_tokens(row):
                rows.append(row)
            if len(rows) >= count:
                return rows


def _encode_segments(tokenizer: Tokenizer, document: list[tuple[str, bool]], max_length: int) -> TokenRow:
    """The tokens of [text, trained] segments, each tokenised by itself as the pocket model was trained."""
    ids: list[int] = []
    labels: list[int] = []
    encoded = tokenizer([text for text, _ in document], add_special_tokens=False)["input_ids"]
    for part, (_, trained) in zip(encoded, document, strict=True):
        ids += part
        labels += part if trained else [row_tokens.IGNORED] * len(part)
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}


def _encoded(tokenizer: Tokenizer, example: formats.Example, max_length: int) -> list[TokenRow]:
    """The rows of one example: a long text gives several, what cannot be rendered or trained none."""
    try:
        encoded = row_tokens.encode(tokenizer, example)
    except masks.Unrenderable:
        return []
    text = example.text is not None
    parts = row_tokens.windows(encoded, max_length) if text else [row_tokens.cut(encoded, max_length)]
    return [{"input_ids": part.input_ids, "labels": part.labels} for part in parts if part.trained]


def mix(task: TokenRows, general: Sequence[TokenRow], seed: int) -> TokenRows:
    """Task and general rows together in the order of the seed, so that every batch of an epoch holds both
    kinds."""
    rows = task.joined(TokenRows.of(general))
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    return rows.chosen(order)
