"""Rows that begin alike, read once: the choices of an item share its question, the items of a few-shot suite
share its examples. Rows are laid into a pack as a tree of tokens, in which every token sees its ancestors
and nothing else and stands at its own depth; so one forward of the pack gives each row exactly the
probabilities that it would have alone. No cache is kept, and nothing has to be done for sliding windows,
learned positions or adapters but to give the model the mask and the positions. Numpy only."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy

from tui_lab.retention.scoring.encode import Row

#: Rows that share fewer tokens lie in packs of their own: a short common beginning saves less than the mask
#: costs.
LEAST_SHARED = 12


@dataclass
class Pack:
    """A tree of tokens. ``runs`` are unbranched stretches (first node, end, parent node or −1); ``reads``
    say of each row at which nodes its targets are foretold."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    reads: list[list[int]] = field(default_factory=list)
    _path: list[int] = field(default_factory=list)  # nodes of the row that was added last

    @property
    def width(self) -> int:
        return len(self.tokens)

    @property
    def branched(self) -> bool:
        """Whether the pack is more than one row after another could show without a mask."""
        return len(self.runs) > 1

    def shared(self, row: Row) -> int:
        """How many tokens ``row`` begins with that the last row has too."""
        if not self.rows:
            return 0
        return common(self.rows[-1].tokens, row.tokens)

    def add(self, row: Row, shared: int) -> None:
        """Adds a row that shares so many tokens with the one before it."""
        first, new = len(self.tokens), row.tokens[shared:]
        path = self._path[:shared]
        if new:
            parent = path[-1] if path else -1
            end = first + len(new)
            if self.runs and self.runs[-1][1] == first and parent == first - 1:
                self.runs[-1] = (self.runs[-1][0], end, self.runs[-1][2])  # goes on where the last one ended
            else:
                self.runs.append((first, end, parent))
            self.tokens += new
            self.depths += range(shared, len(row.tokens))
            path += range(first, end)
        self._path = path
        self.rows.append(row)
        self.reads.append(path[len(path) - len(row.targets) :])


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning; by halves, each compared as a slice."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    return bisect.bisect_left(range(1, most + 1), True, key=lambda n: one[:n] != other[:n])


def pays(width: int, new: int, length: int, reach: float) -> bool:
    """Whether ``new`` more tokens in a pack of ``width`` cost less than a row of ``length`` by itself.

    Costs are in attention between two tokens; the matrices of one token cost as much as ``reach`` of them. A
    pack attends from everything to everything, a row alone only backwards."""
    return new * (2 * width + new) - length * length / 2 < (length - new) * reach


def packs_of(rows: Sequence[Row], width: int, share: bool = True, reach: float = math.inf) -> list[Pack]:
    """Rows laid together where they begin alike and it :func:`pays`, packs of at most ``width`` tokens (one
    row may be longer).

    In lexical order neighbours share the most. The rows of an item stay together. Without ``share`` every
    row lies alone, except that equal rows are read once (one-token choices)."""
    by_item: dict[int, list[Row]] = {}
    for row in rows:
        by_item.setdefault(row.item, []).append(row)
    groups = [sorted(group, key=lambda row: row.tokens) for group in by_item.values()]
    groups.sort(key=lambda group: group[0].tokens)
    packs: list[Pack] = []
    for group in groups:
        for row in group:
            if packs:
                shared = packs[-1].shared(row)
                # no branch: the row is the last one again or goes on from it
                straight = shared == len(packs[-1].rows[-1].tokens) and not packs[-1].branched
                new = len(row.tokens) - shared
                fits = packs[-1].width + new <= width and shared >= min(LEAST_SHARED, len(row.tokens))
                if straight or (share and fits and pays(packs[-1].width, new, len(row.tokens), reach)):
                    packs[-1].add(row, shared)
                    continue
            packs.append(Pack())
            packs[-1].add(row, 0)
    return packs


def sees(packs: Sequence[Pack], width: int) -> numpy.ndarray:
    """Which node (second axis) sees which (third): its ancestors and itself, (packs, width, width). Padding
    sees itself, since attention over nothing is not a number."""
    mask = numpy.zeros((len(packs), width, width), dtype=bool)
    mask[:, numpy.arange(width), numpy.arange(width)] = True
    for at, pack in enumerate(packs):
        for begin, end, parent in pack.runs:
            if parent >= 0:
                mask[at, begin:end, :begin] = mask[at, parent, :begin]
            mask[at, begin:end, begin:end] = numpy.tri(end - begin, dtype=bool)
    return mask


def within(mask: numpy.ndarray, depths: numpy.ndarray, window: int) -> numpy.ndarray:
    """The mask with what lies ``window`` positions back or more taken out; depths (packs, width)."""
    near: numpy.ndarray = mask & (depths[:, :, None] - depths[:, None, :] < window)
    return near
