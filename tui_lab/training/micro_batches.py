"""Cutting a batch of rows in parts that are computed one after the other: the same rows in the same order,
and parts whose gradients add up to that of the batch. Rows are cut between rows; a packed row, whose
documents do not see one another, between documents. What is averaged over a batch needs to know how much a
part counts (:class:`PartShare`); sums over trained tokens add up by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tui_lab.training.types import Batch, Inputs

#: Columns of shape (B, T).
_WIDE = ("input_ids", "labels", "attention_mask", "position_ids", "seq_idx")
#: Column of packed batches alone: starts of the documents, and the end.
_BOUNDS = "cu_seq_lens_q"
#: Column of a batch of preference pairs (B,): 0 for the chosen, 1 for the rejected side, in turn. A pair is
#: not divided.
PAIR_SIDE = "pair_side"
#: Entry of a batch whose loss compares all its rows: it is not divided.
MISMATCHED = "mismatched"


@dataclass(frozen=True)
class PartShare:
    """The weight of a part relative to the average part of its batch; 1 for a whole batch. ``tokens``: by
    tokens without padding; ``rows``: by rows; ``tasks``: by the trained tokens of each task, 1 for a task
    that is missing."""

    tokens: float = 1.0
    rows: float = 1.0
    tasks: Mapping[int, float] = field(default_factory=dict)


WHOLE = PartShare()


@dataclass(frozen=True)
class BatchPart:
    """A part of a batch: the inputs of the model, and its weight."""

    inputs: Inputs
    share: PartShare

    @property
    def trained_tokens(self) -> int:
        """Number of tokens whose loss is taken."""
        return trained_tokens(self.inputs)


def split(batch: Batch, parts: int, task_column: str = "task") -> list[BatchPart]:
    """A batch in at most ``parts`` parts of about the same size, fewer where it has fewer rows or documents.
    ``batch``: columns of (B, T); ``task_column``: the column with the task of each row (B,), if any."""
    ranges = _ranges(batch, parts) if parts > 1 else []
    if len(ranges) < 2:
        return [BatchPart(dict(batch), WHOLE)]
    pieces = [_piece(batch, begin, end) for begin, end in ranges]
    tokens = [_real_tokens(piece) for piece in pieces]
    by_task = [_tokens_by_task(piece, task_column) for piece in pieces]
    of_task: dict[int, int] = {}
    for counts in by_task:
        for task, count in counts.items():
            of_task[task] = of_task.get(task, 0) + count
    all_tokens = max(1, sum(tokens))
    return [
        BatchPart(
            piece,
            PartShare(
                real * len(pieces) / all_tokens,
                len(piece["input_ids"]) * len(pieces) / len(batch["input_ids"]),
                {task: count * len(pieces) / of_task[task] for task, count in counts.items()},
            ),
        )
        for piece, real, counts in zip(pieces, tokens, by_task, strict=True)
    ]


def finer(batch: Batch, parts: int) -> int:
    """The next number of parts that makes the largest part smaller: ``parts`` doubled as often as needed; 0
    when the batch cannot be split further."""
    sizes = _sizes(batch)
    now, doubled = _largest(sizes, parts), parts
    while doubled < len(sizes):
        doubled *= 2
        if _largest(sizes, doubled) < now:
            return doubled
    return 0


def trained_tokens(batch: Batch) -> int:
    """Number of tokens whose loss is taken; the first of a row has no predecessor."""
    return int((batch["labels"][:, 1:] != -100).sum())


def is_packed(batch: Batch) -> bool:
    """Whether a batch is one row of packed documents."""
    return _BOUNDS in batch


def describe(batch: Batch) -> str:
    """A batch in words: "8 rows of up to 512 tokens"."""
    rows, width = batch["input_ids"].shape
    if is_packed(batch):
        documents = len(batch[_BOUNDS]) - 1
        return f"{documents} packed document{'s' * (documents != 1)} of {width} tokens in all"
    return f"{rows} rows of up to {width} tokens" if rows > 1 else f"one row of {width} tokens"


# --------------------------------------------------------------------------------------------------
# where to split


def _sizes(batch: Batch) -> list[int]:
    """Tokens of the units that cannot be split, in order: rows (all of the padded width) or documents."""
    if is_packed(batch):
        return [int(size) for size in batch[_BOUNDS].diff().tolist()]
    rows, width = batch["input_ids"].shape
    unit = _rows_a_unit(batch)
    return [int(width) * unit] * (int(rows) // unit)


def _rows_a_unit(batch: Batch) -> int:
    """Rows that cannot be separated."""
    if MISMATCHED in batch:
        return len(batch["input_ids"])
    return 2 if PAIR_SIDE in batch else 1


def _ranges(batch: Batch, parts: int) -> list[tuple[int, int]]:
    return contiguous(_sizes(batch), parts)


def _largest(sizes: Sequence[int], parts: int) -> int:
    return max(sum(sizes[begin:end]) for begin, end in contiguous(sizes, parts))


def contiguous(sizes: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """``sizes`` as at most ``parts`` ranges (begin, end) with the smallest possible largest sum."""
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(sizes, middle)) <= parts:
            high = middle
        else:
            low = middle + 1
    return _filled(sizes, low)


def _filled(sizes: Sequence[int], capacity: int) -> list[tuple[int, int]]:
    """Ranges that are filled up to ``capacity`` one after the other."""
    ranges, begin, total = [], 0, 0
    for at, size in enumerate(sizes):
        if total and total + size > capacity:
            ranges.append((begin, at))
            begin, total = at, 0
        total += size
    return [*ranges, (begin, len(sizes))]


# --------------------------------------------------------------------------------------------------
# splitting


def _piece(batch: Batch, begin: int, end: int) -> Inputs:
    if is_packed(batch):
        return _documents(batch, begin, end)
    unit = _rows_a_unit(batch)
    return _rows(batch, begin * unit, end * unit)


def _rows(batch: Batch, begin: int, end: int) -> Inputs:
    """Rows ``begin`` to ``end``, without right padding that they do not need."""
    rows = len(batch["input_ids"])
    piece = {
        name: value[begin:end] if isinstance(value, Tensor) and value.dim() and len(value) == rows else value
        for name, value in batch.items()
    }
    mask = piece.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2:
        real = mask.any(0).nonzero()
        width = max(2, int(real.max()) + 1) if len(real) else mask.shape[1]  # a token and its next
        piece.update({name: piece[name][:, :width] for name in _WIDE if name in piece})
    return piece


def _documents(batch: Batch, begin: int, end: int) -> Inputs:
    """Documents ``begin`` to ``end`` of a packed row, with their bounds."""
    bounds = batch[_BOUNDS][begin : end + 1]
    first, last = int(bounds[0]), int(bounds[-1])
    piece = {
        name: value[:, first:last] if name in _WIDE and isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
    longest = int(bounds.diff().max())
    for side in ("q", "k"):
        if f"cu_seq_lens_{side}" in piece:
            piece[f"cu_seq_lens_{side}"] = bounds - bounds[0]
        if f"max_length_{side}" in piece:
            piece[f"max_length_{side}"] = longest
    if "seq_idx" in piece:
        piece["seq_idx"] = piece["seq_idx"] - piece["seq_idx"][0, 0]
    return piece


def _real_tokens(batch: Batch) -> int:
    mask = batch.get("attention_mask")
    return int(mask.sum()) if mask is not None else int(batch["input_ids"].numel())


def _tokens_by_task(batch: Batch, column: str) -> dict[int, int]:
    tasks = batch.get(column)
    if tasks is None:
        return {}
    labels = batch["labels"][:, 1:] != -100
    counts = torch.zeros(int(tasks.max()) + 1, dtype=torch.long, device=labels.device)
    counts.index_add_(0, tasks.to(labels.device), labels.sum(1))
    return {task: count for task, count in enumerate(counts.tolist()) if count}
