"""The bundled sets: sizes, shape, and a validation split that does not leak."""

from __future__ import annotations

import json
import re

import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import bundled
from tui_lab.data.scoring import expected_answer, question_of, schema_of


@pytest.mark.parametrize("name", bundled.NAMES)
def test_size_and_shape(name: str) -> None:
    data = bundled.load(name)
    assert 300 <= len(data.train) <= 1500
    assert 100 <= len(data.validation) <= 200
    for row in data.train + data.validation:
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
        assert all(turn["content"].strip() == turn["content"] and turn["content"] for turn in row["messages"])


@pytest.mark.parametrize("name", bundled.NAMES)
def test_no_question_is_in_both_splits(name: str) -> None:
    data = bundled.load(name)
    train = {question_of(row).casefold() for row in data.train}
    assert not train & {question_of(row).casefold() for row in data.validation}


def test_support_has_each_fact_in_both_splits_with_different_templates() -> None:
    data = bundled.load("support")
    goods = sorted(
        {found for row in data.train for found in re.findall(r"[Tt]he [A-Z]\w+ [a-z]+", question_of(row))}
    )
    named = {good[0].lower() + good[1:] for good in goods}
    assert len(named) >= 12

    def template(question: str) -> str:
        return re.sub(r"[Tt]he [A-Z]\w+ [a-z]+", "{s}", question)

    train, validation = (
        {template(question_of(row)) for row in rows} for rows in (data.train, data.validation)
    )
    assert not train & validation
    by_fact: dict[tuple[str, str], int] = {}
    for row in data.train:
        (good,) = re.findall(r"he ([A-Z]\w+ [a-z]+)", question_of(row))
        by_fact[good, expected_answer(row)] = by_fact.get((good, expected_answer(row)), 0) + 1
    for row in data.validation:
        (good,) = re.findall(r"he ([A-Z]\w+ [a-z]+)", question_of(row))
        assert by_fact[good, expected_answer(row)] >= 8


def test_json_rows_give_a_schema_that_their_answer_fits() -> None:
    for row in bundled.load("json").train:
        schema, answer = schema_of(question_of(row)), json.loads(expected_answer(row))
        assert list(answer) == list(schema)
        assert {"string": str, "integer": int, "boolean": bool}[schema[next(iter(schema))]] is type(
            answer[next(iter(schema))]
        )


def test_unknown_name() -> None:
    with pytest.raises(LabError, match="pirate, json, support"):
        bundled.load("poem")
