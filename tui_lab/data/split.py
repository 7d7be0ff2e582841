"""Splits examples into training and validation with a seed, and removes duplicates and leaks.

A leak is a training row whose question is also in the validation set, whatever its answer. What counts as a
repetition is in :mod:`tui_lab.data.duplicates`. Examples are looked up by index, so that they may lie in a
file; only hashes of all of them are in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from tui_lab.data.duplicates import (
    Hashes,
    Indices,
    NearSearch,
    RowKeys,
    RowText,
    boilerplate,
    keys_of,
    near_duplicates,
    same_question,
    same_row,
    text_of,
)
from tui_lab.data.formats import Example

MAX_VALIDATION = 1_000  # more rows only make each evaluation slower
CACHED_TEXTS = 2_048


@dataclass
class Split:
    """Indices of the training and validation rows, the numbers of rows removed from training, and notes for
    the user. ``validation`` counts in the given validation rows where there are any, else in the examples."""

    train: Indices
    validation: Indices
    duplicates: int = 0
    near_duplicates: int = 0
    leaks: int = 0
    near_leaks: int = 0
    notes: list[str] = field(default_factory=list)


class _Texts(Sequence[str]):
    """The normalised texts of some examples, made when they are asked for."""

    def __init__(self, parts: Sequence[tuple[Sequence[Example], Indices]], prompt_only: bool) -> None:
        self._parts, self._prompt_only = parts, prompt_only
        self._ends = np.cumsum([len(index) for _, index in parts])
        self.text = functools.lru_cache(CACHED_TEXTS)(self._text)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _text(self, row: int) -> RowText:
        part = int(np.searchsorted(self._ends, row, side="right"))
        examples, index = self._parts[part]
        return text_of(examples[int(index[row - (self._ends[part - 1] if part else 0)])])

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        text = self.text(row)
        return text.asked if self._prompt_only else text.words


def deduplicate(
    examples: Sequence[Example],
    keys: RowKeys,
    common: Callable[[], Hashes] | None = None,
    alive: Callable[[], None] | None = None,
) -> tuple[Indices, int, int]:
    """The rows without repetitions: (indices, exact duplicates removed, near-duplicates removed)."""
    distinct = distinct_rows(keys)
    texts = _Texts([(examples, distinct)], prompt_only=False)

    def same(row: int, other: int) -> bool:
        return same_row(texts.text(row), texts.text(other))

    groups = keys.row_group[distinct]
    drop = near_duplicates(texts, NearSearch(groups, common=common, same=same, alive=alive))
    kept = np.delete(distinct, list(drop))
    return kept, len(keys.row) - len(distinct), len(drop)


def distinct_rows(keys: RowKeys) -> Indices:
    """The first of each of the equal rows."""
    return np.sort(np.unique(keys.row, return_index=True)[1]).astype(np.int64)


@dataclass(frozen=True)
class HeldOut:
    """The validation rows: which of ``examples``, and the keys of all of these."""

    examples: Sequence[Example]
    rows: Indices
    keys: RowKeys


def remove_leaks(
    examples: Sequence[Example],
    train: Indices,
    keys: RowKeys,
    held_out: HeldOut,
    common: Callable[[], Hashes] | None = None,
    alive: Callable[[], None] | None = None,
) -> tuple[Indices, int, int]:
    """Training rows without those whose question is in the validation set: (indices, exact leaks, near
    leaks). ``keys`` are those of all examples."""
    index = held_out.rows
    fresh = train[~np.isin(keys.prompt[train], held_out.keys.prompt[index])]
    texts = _Texts([(held_out.examples, index), (examples, fresh)], prompt_only=True)

    def same(row: int, other: int) -> bool:
        return same_question(texts.text(row), texts.text(other))

    groups = np.concatenate([held_out.keys.prompt_group[index], keys.prompt_group[fresh]])
    how = NearSearch(groups, len(index), common, same, alive)
    near = near_duplicates(texts, how) if len(index) else {}
    kept = np.delete(fresh, [row - len(index) for row in near])
    return kept, len(train) - len(fresh), len(near)


def validation_size(rows: int, fraction: float) -> int:
    """The number of validation rows: at least 1, at most MAX_VALIDATION, never all."""
    if fraction <= 0 or rows < 2:
        return 0
    return min(max(1, round(rows * fraction)), MAX_VALIDATION, rows - 1)


def split(
    examples: Sequence[Example],
    validation: Sequence[Example] | None = None,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    deduplicate_rows: bool = True,
    keys: RowKeys | None = None,
    alive: Callable[[], None] | None = None,
) -> Split:
    """Training and validation rows. A given ``validation`` is used unchanged: leaks are removed from
    training.

    Rows with the same question stay on one side, so that several answers to one question do not become
    leaks. ``keys``: the hashes of the examples where they are known; ``alive`` is called now and then.
    """
    keys = keys_of(examples) if keys is None else keys
    rows = np.arange(len(examples), dtype=np.int64)
    nothing = np.empty(0, dtype=np.int64)
    duplicates = near = 0

    @functools.cache
    def common() -> Hashes:
        return boilerplate(_Texts([(examples, distinct_rows(keys))], prompt_only=False))

    if deduplicate_rows:
        rows, duplicates, near = deduplicate(examples, keys, common, alive)
    notes: list[str] = []
    if validation is not None and validation_fraction <= 0:
        notes.append("The set's own validation rows are not used, because validation_fraction is 0.")
        return Split(rows, nothing, duplicates, near, notes=notes)
    by_prompt = True
    if validation is not None:
        picked = np.arange(len(validation), dtype=np.int64)
        if len(picked) > MAX_VALIDATION:
            picked = np.sort(np.random.default_rng(seed).permutation(len(picked))[:MAX_VALIDATION])
            rows_given = f"the set's {len(validation):,} validation rows"
            notes.append(f"{MAX_VALIDATION:,} of {rows_given} are used, drawn by the seed.")
        held_out = HeldOut(validation, picked, keys_of(validation) if deduplicate_rows else keys)
    else:
        wanted = validation_size(len(rows), validation_fraction)
        if not wanted:
            return Split(rows, nothing, duplicates, near, notes=notes)
        groups = _groups(keys.prompt[rows])
        if len(groups.sizes) < 2 or groups.sizes.max() > len(rows) - wanted:
            by_prompt = False  # one question for (nearly) all rows: rows are the only thing left to split by
            groups = _groups(np.arange(len(rows), dtype=np.uint64))
            notes.append("Nearly all rows share one prompt, so the validation rows ask it too.")
        inside = _pick(groups, wanted, len(rows), seed)
        picked, rows = rows[inside], np.delete(rows, inside)
        held_out = HeldOut(examples, picked, keys)
    leaks = near_leaks = 0
    if deduplicate_rows and by_prompt:
        rows, leaks, near_leaks = remove_leaks(examples, rows, keys, held_out, common, alive)
    return Split(rows, picked, duplicates, near, leaks, near_leaks, notes)


@dataclass(frozen=True)
class _Groups:
    """Rows by what they ask, the groups in the order of their first rows."""

    sizes: Indices  # (G,)
    order: Indices  # (N,) rows, group by group
    starts: Indices  # (G,) where a group begins in ``order``

    def rows(self, group: int) -> Indices:
        return self.order[self.starts[group] : self.starts[group] + self.sizes[group]]

    def __iter__(self) -> Iterator[Indices]:
        return (self.rows(group) for group in range(len(self.sizes)))


def _groups(hashes: NDArray[np.uint64]) -> _Groups:
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    number = rank[inverse]
    sizes = np.bincount(number)
    order = np.argsort(number, kind="stable")
    return _Groups(sizes, order, np.cumsum(sizes) - sizes)


def _pick(groups: _Groups, wanted: int, rows: int, seed: int) -> Indices:
    """Whole groups in the order of the seed until ``wanted`` rows are reached, never all of them."""
    taken: list[int] = []
    count = 0
    for group in np.random.default_rng(seed).permutation(len(groups.sizes)).tolist():
        if count >= wanted:
            break
        if count + groups.sizes[group] <= wanted:  # a big group would make far more than wanted
            taken.append(group)
            count += int(groups.sizes[group])
    remaining = np.setdiff1d(np.arange(len(groups.sizes)), taken)
    if remaining.size and count < wanted / 2:  # nearly all groups are big: the smallest of them has to do
        smallest = int(remaining[np.argmin(groups.sizes[remaining])])
        if not count or count + groups.sizes[smallest] <= rows / 2:
            taken.append(smallest)
    empty = np.empty(0, dtype=np.int64)
    return np.sort(np.concatenate([empty, *(groups.rows(group) for group in taken)]))
