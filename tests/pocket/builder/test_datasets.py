"""The shipped data files: they are what the builder makes, and their validation asks other facts than
training."""

from __future__ import annotations

import random
import re
from pathlib import Path

from tui_lab.data import bundled
from tui_lab.data.rows import ChatRow
from tui_lab.data.scoring import question_of
from tui_lab.pocket.builder import relation as relation_
from tui_lab.pocket.builder import world, write_data
from tui_lab.pocket.builder.catalogue import make_catalogue
from tui_lab.pocket.builder.datasets.json import make as make_json


def test_the_shipped_files_are_what_the_builder_makes() -> None:
    for path, text in write_data.files().items():
        assert path.read_text("utf-8") == text, f"{path.name}: run make data"


def test_only_the_builder_imports_the_builder() -> None:
    """It is not in the wheel."""
    package = Path(write_data.PACKAGE)
    imports = [
        f"{path.name}: {line.strip()}"
        for path in package.rglob("*.py")
        if package / "pocket" / "builder" not in path.parents
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"^\s*(from|import) .*pocket\.builder", line)
    ]
    assert not imports


def test_the_seed_decides_the_rows() -> None:
    assert make_json(3) == make_json(3)
    assert make_json(3) != make_json(4)


def test_pirate_validation_asks_facts_that_training_never_answers() -> None:
    data = bundled.load("pirate")
    kinds = {fact.subject: fact for fact in world.all_facts()}
    assert kinds
    # Rebuild every question a fact could have been asked with, and see on which side it stands.
    train, validation = (
        {question_of(row) for row in data.train},
        {question_of(row) for row in data.validation},
    )
    both = 0
    for relation in world.relations():
        for subject in relation.facts:
            possible = {relation_.fill(template, subject) for template in relation.train_templates()}
            both += bool(possible & train) and bool(possible & validation)
    assert both == 0


def test_a_catalogue_spreads_its_values() -> None:
    (colours,) = make_catalogue([f"the Star thing{n}" for n in range(24)], random.Random(0), ("colour",))
    assert (
        sorted(list(colours.facts.values()).count(value) for value in set(colours.facts.values())) == [2] * 12
    )


def test_json_validation_asks_other_facts() -> None:
    data = bundled.load("json")
    possible = {
        relation_.fill(template, subject): (relation.name, subject)
        for relation in world.relations()
        for subject in relation.facts
        for template in relation.train_templates()
    }

    def facts(rows: list[ChatRow]) -> set[tuple[str, str]]:
        return {possible[text] for text in map(_without_schema, rows) if text in possible}

    train, validation = facts(data.train), facts(data.validation)
    assert len(train) > 200 and len(validation) > 30
    assert not train & validation


def _without_schema(row: ChatRow) -> str:
    question = question_of(row)
    for opening in (" Answer as JSON", " Reply only", " Give me JSON"):
        question = question.split(opening)[0]
    return re.sub(r"^.*(answer in JSON|\})\. ", "", question)
