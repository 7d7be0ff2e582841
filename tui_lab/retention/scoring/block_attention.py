"""Attention over a tree of rows, block by block. A mask over a whole pack lets every token look at every
other and then throws most of it away: with many branches on one long beginning that costs more than all the
rest of the model. Here stretches of neighbouring tokens look at their own ancestors only. The same mask and
the model library's own attention are used, on slices; so the result is the same but for rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tui_lab.retention.scoring.prefix_tree import Pack

#: What one more call costs, in pairs of a token and one that it looks at: 60 µs on a processor, where a pair
#: takes about 25 ns with eight heads. A GPU has looked at a million pairs before the next call is there.
CALL = {"cpu": 4_000}
CALL_ELSEWHERE = 1_000_000
#: Blocks must save so much of the pairs to be used.
LEAST_SAVED = 0.25

#: A stretch of tokens (begin, end) and what it looks at: ranges (begin, end) in rising order.
Block = tuple[int, int, tuple[tuple[int, int], ...]]


def blocks_of(pack: Pack, call: int) -> list[Block] | None:
    """A pack's tokens in blocks; None where the whole at once is as good."""
    above: list[tuple[tuple[int, int], ...]] = []  # of every run, the ranges of its ancestors
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
            if pairs(merged) <= pairs(blocks[-1]) + pairs(alone) + call:
                blocks[-1] = merged
                continue
        blocks.append(alone)
    cost = sum(pairs(block) + call for block in blocks)
    return blocks if cost < (1 - LEAST_SAVED) * pack.width**2 else None


def _run_of(runs: Sequence[tuple[int, int, int]], node: int) -> int:
    """Which run a node lies in."""
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


def pairs(block: Block) -> int:
    """How many pairs of a token and one that it may look at a block computes."""
    return (block[1] - block[0]) * sum(end - begin for begin, end in block[2])


@contextmanager
def by_blocks(plan: Sequence[list[Block] | None]) -> Iterator[None]:
    """Inside, models whose attention is ``sdpa`` look at each pack of the batch by its blocks."""
    if not any(plan):
        yield
        return
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    whole = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attention(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **how: Any
    ) -> tuple[torch.Tensor, None]:
        """query (B, heads, T, D) → (B, T, heads, D), as the library has it."""
        if attention_mask is None or query.shape[0] != len(plan):
            found: tuple[torch.Tensor, None] = whole(module, query, key, value, attention_mask, **how)
            return found
        rows = []
        for at, blocks in enumerate(plan):
            q, k, v, mask = (each[at : at + 1] for each in (query, key, value, attention_mask))
            if blocks is None:
                rows.append(whole(module, q, k, v, mask, **how)[0])
                continue
            parts = []
            for begin, end, seen in blocks:
                near = [_taken(each, seen, 2) for each in (k, v)]
                shown = _taken(mask[:, :, begin:end], seen, 3)
                parts.append(whole(module, q[:, :, begin:end], *near, shown, **how)[0])
            padding = q.shape[2] - blocks[-1][1]
            if padding:
                parts.append(parts[0].new_zeros((1, padding, *parts[0].shape[2:])))
            rows.append(torch.cat(parts, 1))
        return torch.cat(rows), None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = attention
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]


def _taken(tensor: torch.Tensor, ranges: Sequence[tuple[int, int]], dim: int) -> torch.Tensor:
    slices = [tensor.narrow(dim, begin, end - begin) for begin, end in ranges]
    return slices[0] if len(slices) == 1 else torch.cat(slices, dim)
