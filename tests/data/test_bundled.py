"""The bundled sets: sizes, shape, determinism, and a validation split that does not leak."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.data import bundled
from tui_lab.data.scoring import asked, expected, schema_of
from tui_lab.pocket.builder import relation as relation_
from tui_lab.pocket.builder import world
from tui_lab.pocket.builder.catalogue import make_catalogue
from tui_lab.pocket.builder.datasets.json import make as make_json


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
    train = {asked(row).casefold() for row in data.train}
    assert not train & {asked(row).casefold() for row in data.validation}


def test_the_rows_are_the_same_every_time() -> None:
    assert make_json(3) == make_json(3)
    assert make_json(3) != make_json(4)
    assert bundled.load("pirate") is bundled.load("pirate")


def test_pirate_validation_asks_facts_that_training_never_answers() -> None:
    data = bundled.load("pirate")
    kinds = {fact.subject: fact for fact in world.all_facts()}
    assert kinds
    # Rebuild every question a fact could have been asked with, and see on which side it stands.
    train, validation = {asked(row) for row in data.train}, {asked(row) for row in data.validation}
    both = 0
    for relation in world.relations():
        for subject in relation.facts:
            possible = {relation_.fill(template, subject) for template in relation.train_templates()}
            both += bool(possible & train) and bool(possible & validation)
    assert both == 0


def test_support_asks_every_fact_on_both_sides_in_other_templates() -> None:
    data = bundled.load("support")
    goods = sorted(
        {found for row in data.train for found in re.findall(r"[Tt]he [A-Z]\w+ [a-z]+", asked(row))}
    )
    named = {good[0].lower() + good[1:] for good in goods}
    assert len(named) >= 12

    def template(question: str) -> str:
        return re.sub(r"[Tt]he [A-Z]\w+ [a-z]+", "{s}", question)

    train, validation = ({template(asked(row)) for row in rows} for rows in (data.train, data.validation))
    assert not train & validation
    by_fact: dict[tuple[str, str], int] = {}
    for row in data.train:
        (good,) = re.findall(r"he ([A-Z]\w+ [a-z]+)", asked(row))
        by_fact[good, expected(row)] = by_fact.get((good, expected(row)), 0) + 1
    for row in data.validation:
        (good,) = re.findall(r"he ([A-Z]\w+ [a-z]+)", asked(row))
        assert by_fact[good, expected(row)] >= 8


def test_a_catalogue_spreads_its_values() -> None:
    import random

    (colours,) = make_catalogue([f"the Star thing{n}" for n in range(24)], random.Random(0), ("colour",))
    assert (
        sorted(list(colours.facts.values()).count(value) for value in set(colours.facts.values())) == [2] * 12
    )


def test_json_rows_give_a_schema_that_their_answer_fits() -> None:
    for row in bundled.load("json").train:
        schema, answer = schema_of(asked(row)), json.loads(expected(row))
        assert list(answer) == list(schema)
        assert {"string": str, "integer": int, "boolean": bool}[schema[next(iter(schema))]] is type(
            answer[next(iter(schema))]
        )


def test_json_validation_asks_other_facts() -> None:
    data = bundled.load("json")

    def facts(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
        found = set()
        for relation in world.relations():
            for subject in relation.facts:
                possible = {relation_.fill(template, subject) for template in relation.train_templates()}
                if any(text in possible for text in map(_without_schema, rows)):
                    found.add((relation.name, subject))
        return found

    def _without_schema(row: dict[str, Any]) -> str:
        question = asked(row)
        for opening in (" Answer as JSON", " Reply only", " Give me JSON"):
            question = question.split(opening)[0]
        return re.sub(r"^.*(answer in JSON|\})\. ", "", question)

    train, validation = facts(data.train), facts(data.validation)
    assert len(train) > 200 and len(validation) > 30
    assert not train & validation


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match="pirate, json, support"):
        bundled.load("poem")
