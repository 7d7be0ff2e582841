"""Rows with a common beginning in one forward pass, as a tree of tokens.

The choices of an item share its question, the items of a few-shot suite share its examples. In a pack every
token attends to its ancestors and itself and has its depth as its position, so each row gets the
probabilities that it would have alone. The model needs only the mask and the positions: no cache, and
nothing special for sliding windows, learned positions or adapters. The same idea as tree attention in
SpecInfer (Miao et al. 2023). Numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from tui_lab.retention.scoring.encode import ScoringRow, shared_prefix_length

#: Rows that share fewer tokens go into separate packs: the mask would cost more than the sharing saves.
MIN_SHARED = 12


@dataclass
class Pack:
    """A tree of tokens.

    ``runs`` are unbranched stretches (first node, end, parent node or −1). ``reads`` has, for each row, the
    nodes whose output predicts its targets.
    """

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    rows: list[ScoringRow] = field(default_factory=list)
    reads: list[list[int]] = field(default_factory=list)
    _path: list[int] = field(default_factory=list)  # nodes of the last row

    @property
    def width(self) -> int:
        """The number of nodes, which are tokens."""
        return len(self.tokens)

    @property
    def branched(self) -> bool:
        """Whether the pack needs a mask of its own, beyond causal attention."""
        return len(self.runs) > 1

    def shared(self, row: ScoringRow) -> int:
        """The number of tokens at the beginning that ``row`` has in common with the last row."""
        if not self.rows:
            return 0
        return shared_prefix_length(self.rows[-1].tokens, row.tokens)

    def add(self, row: ScoringRow, shared: int) -> None:
        """Adds a row that has its first ``shared`` tokens in common with the row before it."""
        first, new = len(self.tokens), row.tokens[shared:]
        path = self._path[:shared]
        if new:
            parent = path[-1] if path else -1
            end = first + len(new)
            if self.runs and self.runs[-1][1] == first and parent == first - 1:
                self.runs[-1] = (self.runs[-1][0], end, self.runs[-1][2])  # continues the last run
            else:
                self.runs.append((first, end, parent))
            self.tokens += new
            self.depths += range(shared, len(row.tokens))
            path += range(first, end)
        self._path = path
        self.rows.append(row)
        self.reads.append(path[len(path) - len(row.targets) :])


def is_worth_sharing(width: int, new: int, length: int, token_cost_ratio: float) -> bool:
    """Whether ``new`` more tokens in a pack of ``width`` cost less than a separate row of ``length``.

    Costs are counted in (query, key) pairs; the linear layers of one token cost as many as
    ``token_cost_ratio``. Attention in a pack covers all pairs, in a separate row the causal half."""
    return new * (2 * width + new) - length * length / 2 < (length - new) * token_cost_ratio


def make_packs(
    rows: Sequence[ScoringRow], width: int, share: bool = True, token_cost_ratio: float = math.inf
) -> list[Pack]:
    """Packs of at most ``width`` tokens (a single row may be longer) of rows that begin alike.

    Rows are sorted, so that neighbours share the most, and shared where it :func:`is_worth_sharing`; the
    rows of an item stay together. Without ``share`` each row has a pack of its own, except that equal rows
    (choices of one token) are scored once."""
    by_item: dict[int, list[ScoringRow]] = {}
    for row in rows:
        by_item.setdefault(row.item, []).append(row)
    groups = [sorted(group, key=lambda row: row.tokens) for group in by_item.values()]
    groups.sort(key=lambda group: group[0].tokens)
    packs: list[Pack] = []
    for group in groups:
        for row in group:
            if packs:
                shared = packs[-1].shared(row)
                # no branch: the row equals the last one or continues it
                straight = shared == len(packs[-1].rows[-1].tokens) and not packs[-1].branched
                new = len(row.tokens) - shared
                fits = packs[-1].width + new <= width and shared >= min(MIN_SHARED, len(row.tokens))
                if straight or (
                    share
                    and fits
                    and is_worth_sharing(packs[-1].width, new, len(row.tokens), token_cost_ratio)
                ):
                    packs[-1].add(row, shared)
                    continue
            packs.append(Pack())
            packs[-1].add(row, 0)
    return packs


def ancestor_mask(packs: Sequence[Pack], width: int) -> numpy.ndarray:
    """Which node (axis 1) attends to which (axis 2): its ancestors and itself; bool (packs, width, width).

    Padding attends to itself, because the softmax over no keys is NaN.
    """
    mask = numpy.zeros((len(packs), width, width), dtype=bool)
    mask[:, numpy.arange(width), numpy.arange(width)] = True
    for at, pack in enumerate(packs):
        for begin, end, parent in pack.runs:
            if parent >= 0:
                mask[at, begin:end, :begin] = mask[at, parent, :begin]
            mask[at, begin:end, begin:end] = numpy.tri(end - begin, dtype=bool)
    return mask


def window_mask(mask: numpy.ndarray, depths: numpy.ndarray, window: int) -> numpy.ndarray:
    """``mask`` (packs, width, width) without keys ``window`` or more positions back; depths (packs,
    width)."""
    windowed: numpy.ndarray = mask & (depths[:, :, None] - depths[:, None, :] < window)
    return windowed
