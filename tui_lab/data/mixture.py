"""Several prepared data sets as one: rows are chosen by weight, joined and put in the order of the seed.

Each set is read, encoded and split by itself. Sampling down leaves rows of the larger sets out, so that no
row is repeated; sampling up repeats rows of the smaller ones, so that none is left out. All validation rows
of every set are kept, and no training row of one set may equal a validation row of another."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import msgspec
import numpy as np

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.data.duplicates import Indices
from tui_lab.data.formats import Example
from tui_lab.data.prepare import PreparedData
from tui_lab.data.source_counts import SourceCounts
from tui_lab.data.store import TokenRows
from tui_lab.data.summary import DataSummary
from tui_lab.recipes.mixture import Part

#: A share is reached to this part of a row.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Mixing:
    """How sets are mixed. ``by``: what the weights are shares of, rows or trained tokens; ``sampling``: down
    or up; ``rows_a_unit``: token rows that stay together, two for a pair of answers;
    ``deduplicate``: leave out training rows that are validation rows of another set."""

    by: Literal["rows", "tokens"] = "rows"
    sampling: Literal["down", "up"] = "down"
    seed: int = 0
    rows_a_unit: int = 1
    deduplicate: bool = True


class JoinedExamples(Sequence[Example]):
    """The examples of several sets, spread evenly: the first ones are of all sets."""

    def __init__(self, parts: Sequence[Sequence[Example]]) -> None:
        self._parts = parts
        at = [
            ((row + 0.5) / len(part), number, row)
            for number, part in enumerate(parts)
            for row in range(len(part))
        ]
        self._order = [(number, row) for _, number, row in sorted(at)]

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> list[Example]: ...
    def __getitem__(self, row: int | slice) -> Example | list[Example]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        number, at = self._order[row]
        return self._parts[number][at]


def targets(totals: Sequence[float], weights: Sequence[float], sampling: str) -> list[float]:
    """How much to take of each set, so that the shares are those of the weights: all of the set that limits
    the mixture (sampling down), or all of every set at least once (up)."""
    scales = [total / weight for total, weight in zip(totals, weights, strict=True)]
    scale = min(scales) if sampling == "down" else max(scales)
    return [scale * weight for weight in weights]


def take(amounts: Indices, target: float, rng: random.Random) -> Indices:
    """Indices of units whose ``amounts`` sum up to nearly ``target``, at least one: every unit as often as it
    fits, and then the first ones in random order, to the unit that comes nearest."""
    total = int(amounts.sum())
    passes = int(target / total + _TOLERANCE)
    order = np.arange(len(amounts), dtype=np.int64)
    mixed = order.tolist()
    rng.shuffle(mixed)
    shuffled = np.array(mixed, dtype=np.int64)
    sums = np.concatenate([[0], np.cumsum(amounts[shuffled])])
    count = int(np.argmin(np.abs(sums - max(0.0, target - passes * total))))
    if not passes:
        count = max(1, count)
    return np.concatenate([np.tile(order, passes), np.sort(shuffled[:count])])


def combine(data: str, parts: Sequence[Part], made: Sequence[PreparedData], how: Mixing) -> PreparedData:
    """One prepared set of several. Raises LabError where nothing of a set is left to train on."""
    held_out = [set(each.validation.token_bytes() if how.deduplicate else ()) for each in made]
    train, leaks = [], 0
    for number, each in enumerate(made):
        others = set[bytes]().union(*(keys for at, keys in enumerate(held_out) if at != number))
        rows = _without(each.train, others, how.rows_a_unit)
        leaks += (len(each.train) - len(rows)) // how.rows_a_unit
        if not len(rows):
            raise LabError(
                f"{parts[number].name}: no row is left to train on, because all of them are validation rows "
                "of another set. Leave it out, or set deduplicate off."
            )
        train.append(rows)
    amounts = [_amounts(rows, how) for rows in train]
    weights = [part.weight for part in parts]
    wanted = targets([int(each.sum()) for each in amounts], weights, how.sampling)
    chosen = []
    for number, (rows, target) in enumerate(zip(train, wanted, strict=True)):
        units = take(amounts[number], target, random.Random(f"{how.seed} {number}"))
        chosen.append(rows.chosen(_rows_of(units, how.rows_a_unit)))
    order = list(range(sum(map(len, chosen)) // how.rows_a_unit))
    random.Random(how.seed).shuffle(order)
    mixed = _joined(chosen).chosen(_rows_of(np.array(order, dtype=np.int64), how.rows_a_unit))
    validation = _joined([each.validation.of_source(number) for number, each in enumerate(made)])
    counts = [
        SourceCounts(
            name=part.name,
            weight=part.weight / sum(weights),
            format=each.summary.format,
            rows_read=each.summary.rows_read,
            rows_usable=len(usable) // how.rows_a_unit,
            train_rows=len(rows) // how.rows_a_unit,
            train_trained_tokens=int(rows.trained.sum()),
            validation_rows=len(each.validation) // how.rows_a_unit,
            validation_trained_tokens=int(each.validation.trained.sum()),
        )
        for part, each, usable, rows in zip(parts, made, train, chosen, strict=True)
    ]
    warnings = [
        f"{_short(part)}: {text}" for part, each in zip(parts, made, strict=True) for text in each.warnings
    ]
    if leaks:
        warnings.append(
            f"{plural(leaks, 'training row')} removed, because validation rows of another set are the same."
        )
    return PreparedData(
        mixed,
        validation,
        JoinedExamples([each.train_examples for each in made]),
        JoinedExamples([each.validation_examples for each in made]),
        _summary(data, parts, [each.summary for each in made], counts, mixed, leaks, how),
        warnings,
    )


def _without(rows: TokenRows, others: set[bytes], rows_a_unit: int) -> TokenRows:
    """The rows without the units of which one row is among ``others``."""
    if not others:
        return rows
    same = np.array([key in others for key in rows.token_bytes()], dtype=bool).reshape(-1, rows_a_unit)
    return rows.chosen(_rows_of(np.flatnonzero(~same.any(axis=1)), rows_a_unit)) if same.any() else rows


def _amounts(rows: TokenRows, how: Mixing) -> Indices:
    """What each unit counts: 1, or its trained tokens."""
    units = rows.trained.reshape(-1, how.rows_a_unit)
    return np.ones(len(units), dtype=np.int64) if how.by == "rows" else units.sum(axis=1)


def _rows_of(units: Indices, rows_a_unit: int) -> Indices:
    found: Indices = (units[:, None] * rows_a_unit + np.arange(rows_a_unit, dtype=np.int64)).reshape(-1)
    return found


def _joined(parts: Sequence[TokenRows]) -> TokenRows:
    found = parts[0]
    for part in parts[1:]:
        found = found.joined(part)
    return found


def _short(part: Part) -> str:
    return Path(part.name).name


def _summary(
    data: str,
    parts: Sequence[Part],
    made: Sequence[DataSummary],
    counts: list[SourceCounts],
    train: TokenRows,
    leaks: int,
    how: Mixing,
) -> DataSummary:
    """The counts of all sets together; ``sources`` has them one by one."""

    def total(key: str) -> int:
        return sum(int(getattr(each, key)) for each in made)

    sums = (
        "rows_read", "rows_empty", "rows_bad", "rows_used", "validation_rows_used", "validation_rows",
        "validation_tokens", "validation_trained_tokens", "truncated", "too_long", "windowed", "fully_masked",
        "refused_by_template", "duplicates", "near_duplicates", "leaks_removed", "system_folded",
        "prompts_checked", "prompts_unlike", "thinking_rows",
    )  # fmt: skip
    names = list(zip(parts, made, strict=True))
    methods = Counter[str]()
    for each in made:
        methods.update(each.mask_methods)
    scorers, thinking = {each.scorer for each in made}, {each.thinking for each in made}
    lines = [f"{_short(part)} ({each.reason})" for part, each in names]
    summary = msgspec.structs.replace(made[0], **{key: total(key) for key in sums})
    return msgspec.structs.replace(
        summary,
        name=data,
        format=" + ".join(dict.fromkeys(each.format for each in made)),
        reason=f"a mixture by {how.by}, sampled {how.sampling}: " + "; ".join(lines),
        scorer=scorers.pop() if len(scorers) == 1 else None,
        train_rows=len(train) // how.rows_a_unit,
        validation_given=all(each.validation_given for each in made),
        train_tokens=int(train.lengths.sum()),
        train_trained_tokens=int(train.trained.sum()),
        mean_tokens=round(float(train.lengths.mean()), 1),
        longest_tokens=int(train.lengths.max()),
        leaks_removed=summary.leaks_removed + leaks,
        mask_methods=dict(methods),
        end_of_turn=next((each.end_of_turn for each in made if each.mask_methods), made[0].end_of_turn),
        end_of_turn_added=any(each.end_of_turn_added for each in made),
        columns={
            f"{_short(part)}: {name}": use for part, each in names for name, use in each.columns.items()
        },
        unused_columns=[f"{_short(part)}: {name}" for part, each in names for name in each.unused_columns],
        thinking=thinking.pop() if len(thinking) == 1 else 2 * total("thinking_rows") > methods.total(),
        sources=counts,
    )
