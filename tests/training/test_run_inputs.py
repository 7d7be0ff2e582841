"""The digest of encoded rows, and an attempt that reads something else than the one before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tui_lab.core import changed_inputs
from tui_lab.core.errors import LabError
from tui_lab.data.rows import TokenRow
from tui_lab.data.store import TokenRows
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.schema import InputsEvent, WarningEvent
from tui_lab.training import run_inputs


def rows(*ids: list[int]) -> list[TokenRow]:
    return [{"input_ids": each, "labels": [-100, *each[1:]]} for each in ids]


def digest(found: list[TokenRow]) -> str:
    return run_inputs.rows_digest(TokenRows.of(found))


def test_order_bounds_tokens_and_labels_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows([1, 2, 3], [4, 5], [6, 7, 8, 9])
    before = digest(found)
    assert run_inputs.rows_digest(TokenRows.of(found[::-1]).chosen([2, 1, 0])) == before
    other_label: list[TokenRow] = [{"input_ids": [1, 2, 3], "labels": [-100, -100, 3]}, *found[1:]]
    for other in (found[::-1], rows([1, 2], [3, 4, 5], [6, 7, 8, 9]), found[:2], other_label):
        assert digest(other) != before
    monkeypatch.setattr(run_inputs, "ROWS_A_BATCH", 2)
    assert digest(found) == before


class Events(list[Any]):
    write = list.append


def attempt(before: InputsEvent | None, data: list[TokenRow]) -> tuple[InputsEvent, Events]:
    context: Any = SimpleNamespace(
        recipe=Recipe(model="pocket", data="pirate"), events=Events(), before=SimpleNamespace(inputs=before)
    )
    prepared: Any = SimpleNamespace(train=TokenRows.of(data), validation=TokenRows.of(data[:1]))
    return run_inputs.record(context, prepared, 64), context.events


def test_an_attempt_with_other_rows_is_refused_until_that_is_accepted() -> None:
    first, events = attempt(None, rows([1, 2], [3, 4]))
    assert events == [first] and (first.train_rows, first.validation_rows) == (2, 1)
    assert attempt(first, rows([1, 2], [3, 4]))[1] == [first]
    with pytest.raises(LabError, match=r"the data has changed since \(3 → 4 rows\); --accept-changes"):
        attempt(first, rows([1, 2], [3, 4], [5, 6]))
    changed_inputs.accept()
    second, events = attempt(first, rows([1, 2], [3, 4], [5, 6]))
    assert isinstance(events[0], WarningEvent) and "3 → 4 rows" in events[0].text
    assert events[1] == second and second.rows != first.rows
