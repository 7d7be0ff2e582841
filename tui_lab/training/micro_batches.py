"""Cutting a batch of rows in parts that are computed one after the other: the same rows in the same order,
and parts whose gradients add up to that of the whole. Rows are cut between rows; a packed row, whose
documents do not see one another, between documents. What is averaged over a batch needs to know how much a
part counts (:class:`Share`); sums over trained tokens add up by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

#: Columns of a batch that are as wide as its rows, (B, T).
_WIDE = ("input_ids", "labels", "attention_mask", "position_ids", "seq_idx")
#: Only a packed batch has it: where its documents begin, and the end.
_BOUNDS = "cu_seq_lens_q"


@dataclass(frozen=True)
class PartShare:
    """How much a part counts against the average part of its batch; 1 where nothing was cut. ``tokens``: by
    tokens, padding left out; ``tasks``: by the trained tokens of each task, 1 for one that is missing."""

    tokens: float = 1.0
    tasks: Mapping[int, float] = field(default_factory=dict)


WHOLE = PartShare()


@dataclass(frozen=True)
class BatchPart:
    """A part of a batch: what the model is given, and how much it counts."""

    inputs: dict[str, Any]
    share: PartShare

    @property
    def trained_tokens(self) -> int:
        return trained_tokens(self.inputs)


def split(batch: Mapping[str, Any], parts: int, task_column: str = "task") -> list[BatchPart]:
    """A batch in at most ``parts`` parts of about the same size, fewer where it has no more rows or
    documents. ``task_column``: each row's task, (B,), where there is one."""
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
                own * len(pieces) / all_tokens,
                {task: count * len(pieces) / of_task[task] for task, count in counts.items()},
            ),
        )
        for piece, own, counts in zip(pieces, tokens, by_task, strict=True)
    ]


def finer(batch: Mapping[str, Any], parts: int) -> int:
    """Into how many parts to cut for the largest to become smaller: ``parts`` doubled as often as it takes; 0
    when nothing is left to be cut."""
    sizes = _sizes(batch)
    now, doubled = _largest(sizes, parts), parts
    while doubled < len(sizes):
        doubled *= 2
        if _largest(sizes, doubled) < now:
            return doubled
    return 0


def trained_tokens(batch: Mapping[str, Any]) -> int:
    """Tokens whose loss is taken: the first of a row is nobody's next."""
    return int((batch["labels"][:, 1:] != -100).sum())


def is_packed(batch: Mapping[str, Any]) -> bool:
    """Whether a batch is one row of documents that do not see one another."""
    return _BOUNDS in batch


def describe(batch: Mapping[str, Any]) -> str:
    """A batch in words, for people: 8 rows of up to 512 tokens."""
    rows, width = batch["input_ids"].shape
    if is_packed(batch):
        documents = len(batch[_BOUNDS]) - 1
        return f"{documents} packed document{'s' * (documents != 1)} of {width} tokens in all"
    return f"{rows} rows of up to {width} tokens" if rows > 1 else f"one row of {width} tokens"


# --------------------------------------------------------------------------------------------------
# where to cut


def _sizes(batch: Mapping[str, Any]) -> list[int]:
    """What cannot be cut any further, in order: rows, all of the same (padded) width, or documents."""
    if is_packed(batch):
        return [int(size) for size in batch[_BOUNDS].diff().tolist()]
    rows, width = batch["input_ids"].shape
    return [int(width)] * int(rows)


def _ranges(batch: Mapping[str, Any], parts: int) -> list[tuple[int, int]]:
    return contiguous(_sizes(batch), parts)


def _largest(sizes: Sequence[int], parts: int) -> int:
    return max(sum(sizes[begin:end]) for begin, end in contiguous(sizes, parts))


def contiguous(sizes: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """``sizes`` in at most ``parts`` runs (begin, end) whose largest sum is as small as it can be."""
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(sizes, middle)) <= parts:
            high = middle
        else:
            low = middle + 1
    return _filled(sizes, low)


def _filled(sizes: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Runs that are filled up to ``room`` one after the other."""
    runs, begin, held = [], 0, 0
    for at, size in enumerate(sizes):
        if held and held + size > room:
            runs.append((begin, at))
            begin, held = at, 0
        held += size
    return [*runs, (begin, len(sizes))]


# --------------------------------------------------------------------------------------------------
# cutting


def _piece(batch: Mapping[str, Any], begin: int, end: int) -> dict[str, Any]:
    return _documents(batch, begin, end) if is_packed(batch) else _rows(batch, begin, end)


def _rows(batch: Mapping[str, Any], begin: int, end: int) -> dict[str, Any]:
    """Rows ``begin`` to ``end``, without the padding on the right that they no longer need."""
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


def _documents(batch: Mapping[str, Any], begin: int, end: int) -> dict[str, Any]:
    """Documents ``begin`` to ``end`` of a packed row, with the bounds that go with them."""
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


def _real_tokens(batch: Mapping[str, Any]) -> int:
    mask = batch.get("attention_mask")
    return int(mask.sum()) if mask is not None else int(batch["input_ids"].numel())


def _tokens_by_task(batch: Mapping[str, Any], column: str) -> dict[int, int]:
    tasks = batch.get(column)
    if tasks is None:
        return {}
    labels = batch["labels"][:, 1:] != -100
    counts = torch.zeros(int(tasks.max()) + 1, dtype=torch.long, device=labels.device)
    counts.index_add_(0, tasks.to(labels.device), labels.sum(1))
    return {task: count for task, count in enumerate(counts.tolist()) if count}
