"""Records at a border: one sentence for what does not fit, and any value survives JSON."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json, from_plain, jsonable, to_json


class Inner(msgspec.Struct):
    share: float = 0.0


class Record(msgspec.Struct):
    name: str
    rows: int = 3
    inner: Inner | None = None
    values: list[float] = []


def test_unknown_fields_are_ignored_and_defaults_hold() -> None:
    assert from_json('{"name": "a", "newer": 1}', Record, "the file") == Record("a")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "the file: name is missing"),
        ({"name": 1}, "the file: name must be text, not a whole number"),
        ({"name": "a", "rows": "x"}, "the file: rows must be a whole number, not text"),
        ({"name": "a", "inner": {"share": []}}, "the file: inner.share must be a number, not a list"),
        ({"name": "a", "values": [1, None]}, "the file: values[1] must be a number, not null"),
        ([], "the file: the value must be an object, not a list"),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(LabError) as caught:
        from_plain(value, Record, "the file")
    assert str(caught.value) == sentence


def test_text_that_is_no_json_is_one_sentence() -> None:
    with pytest.raises(LabError, match="the file is not valid JSON: "):
        from_json("{", Record, "the file")


def test_any_float_and_any_text_survive() -> None:
    record = Record("\ud800\x1b", values=[math.inf, -math.inf, 0.1])
    line = to_json(record)
    assert line.isascii() and "\n" not in line and "Infinity" not in line
    assert from_json(line, Record, "it") == record
    assert math.isnan(from_json(to_json(Record("a", values=[math.nan])), Record, "it").values[0])
    assert jsonable({1: (Inner(math.nan), {2})}) == {"1": [{"share": "nan"}, [2]]}
