"""Attention over a prefix tree in blocks of neighbouring tokens.

With one mask over a whole pack, attention is computed between all pairs of tokens and most of it is masked:
with many branches on one long beginning that costs more than the rest of the model. Here each block of
tokens attends to its own ancestors only. transformers' attention function gets slices of the same tensors
and mask, so the result differs by rounding alone."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from tui_lab.retention.scoring.prefix_tree import Pack

#: The cost of one more call, in (query, key) pairs: 60 µs on a CPU, where a pair takes about 25 ns with eight
#: heads. A GPU computes a million pairs in the time of one call.
CALL_COST = {"cpu": 4_000}
GPU_CALL_COST = 1_000_000
#: The least share of the pairs that blocks must save to be used.
MIN_SAVED = 0.25

#: A block of tokens (begin, end) and the keys it attends to: ranges (begin, end) in rising order.
Block = tuple[int, int, tuple[tuple[int, int], ...]]


def plan_blocks(pack: Pack, call_cost: int) -> list[Block] | None:
    """The blocks of a pack; None where attention over the whole pack is as cheap. ``call_cost``: of one more
    call, in (query, key) pairs, as in :data:`CALL_COST`."""
    above: list[tuple[tuple[int, int], ...]] = []  # for each run, the ranges of its ancestors
    blocks: list[Block] = []
    for begin, end, parent in pack.runs:
        ranges: tuple[tuple[int, int], ...] = ()
        if parent >= 0:
            holder = _run_of(pack.runs, parent)
            ranges = (*above[holder], (pack.runs[holder][0], parent + 1))
        above.append(ranges)
        alone: Block = (begin, end, _union((*ranges, (begin, end))))
        if blocks:
            first, _, seen = blocks[-1]
            merged: Block = (first, end, _union((*seen, *alone[2])))
            if attention_pairs(merged) <= attention_pairs(blocks[-1]) + attention_pairs(alone) + call_cost:
                blocks[-1] = merged
                continue
        blocks.append(alone)
    cost = sum(attention_pairs(block) + call_cost for block in blocks)
    return blocks if cost < (1 - MIN_SAVED) * pack.width**2 else None


def _run_of(runs: Sequence[tuple[int, int, int]], node: int) -> int:
    """The index of the run that has the node."""
    low, high = 0, len(runs) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if runs[middle][0] <= node else (low, middle - 1)
    return low


def _union(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return tuple(found)


def attention_pairs(block: Block) -> int:
    """The number of (query, key) pairs that a block computes."""
    return (block[1] - block[0]) * sum(end - begin for begin, end in block[2])


@contextmanager
def use_blocks(plan: Sequence[list[Block] | None]) -> Iterator[None]:
    """Inside, models with ``sdpa`` attention compute each pack of the batch in the blocks of ``plan``.

    transformers' ``ALL_ATTENTION_FUNCTIONS`` is the interface for custom attention (since 4.48).
    """
    if not any(plan):
        yield
        return
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: object,
    ) -> tuple[torch.Tensor, None]:
        """query (B, heads, T, D) → (B, T, heads, D), as transformers' attention functions return it."""
        if attention_mask is None or query.shape[0] != len(plan):
            found: tuple[torch.Tensor, None] = sdpa(module, query, key, value, attention_mask, **options)
            return found
        rows = []
        for at, blocks in enumerate(plan):
            q, k, v, mask = (each[at : at + 1] for each in (query, key, value, attention_mask))
            if blocks is None:
                rows.append(sdpa(module, q, k, v, mask, **options)[0])
                continue
            parts = []
            for begin, end, seen in blocks:
                keys_values = [gather_ranges(each, seen, 2) for each in (k, v)]
                visible = gather_ranges(mask[:, :, begin:end], seen, 3)
                parts.append(sdpa(module, q[:, :, begin:end], *keys_values, visible, **options)[0])
            padding = q.shape[2] - blocks[-1][1]
            if padding:
                parts.append(parts[0].new_zeros((1, padding, *parts[0].shape[2:])))
            rows.append(torch.cat(parts, 1))
        return torch.cat(rows), None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = attention
    try:
        yield
    finally:
        operator.delitem(ALL_ATTENTION_FUNCTIONS, "sdpa")


def gather_ranges(tensor: torch.Tensor, ranges: Sequence[tuple[int, int]], dim: int) -> torch.Tensor:
    """The entries of ``tensor`` (any shape) in these ranges of dimension ``dim``, one range after the other:
    that dimension becomes the sum of their lengths."""
    slices = [tensor.narrow(dim, begin, end - begin) for begin, end in ranges]
    return slices[0] if len(slices) == 1 else torch.cat(slices, dim)
