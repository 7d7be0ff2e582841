"""The world's tables are sound: enough facts, fair choices, and phrasings that are truly held out."""

from __future__ import annotations

import random
import re

import pytest

from tui_lab.pocket.builder import relation as relation_
from tui_lab.pocket.builder import world
from tui_lab.pocket.builder.corpus import Corpus, every_template, invented_catalogue


def test_size_and_variety() -> None:
    assert len(world.all_facts()) >= 600
    assert len(world.relations()) >= 15
    for relation in world.relations():
        assert len(set(relation.facts.values())) >= 4, relation.name
        assert len(relation.train_templates()) >= 100, relation.name
        assert len(relation.held_out) >= 3, relation.name


def test_some_facts_are_true() -> None:
    """Checked against arithmetic and the calendar module, not against the tables themselves."""
    import calendar

    for name, operation in (("sum", int.__add__), ("product_of", int.__mul__), ("difference", int.__sub__)):
        for subject, answer in world.relation(name).facts.items():
            left, right = (int(number) for number in re.findall(r"\d+", subject))
            assert str(operation(left, right)) == answer
    months, days = list(calendar.month_name)[1:], list(calendar.day_name)
    for cycle, unit in ((months, "month"), (days, "day")):
        for index, item in enumerate(cycle):
            assert world.relation(f"{unit}_after").facts[item] == cycle[(index + 1) % len(cycle)]
            assert world.relation(f"{unit}_before").facts[item] == cycle[index - 1]
    for number, month in enumerate(months, 1):
        assert world.relation("month_days").facts[month] == str(calendar.monthrange(2023, number)[1])


def test_held_out_templates_are_not_the_corpus_own() -> None:
    used = {template.casefold() for template in every_template()}
    for relation in (*world.relations(), *invented_catalogue()):
        held_out = {template.casefold() for template in relation.held_out_templates()}
        assert len(held_out) >= 20
        assert not held_out & used, relation.name


def test_no_quiz_question_occurs_in_the_corpus() -> None:
    """A direct look at many documents, independent of the template lists."""
    questions = {item.question.casefold() for item in world.quiz(3, per_fact=2)}
    documents = Corpus(5).documents()
    for _ in range(20_000):
        for piece in next(documents):
            assert piece.text.casefold() not in questions


def test_every_corpus_question_comes_from_a_listed_template() -> None:
    rng = random.Random(0)
    for relation in world.relations():
        subject = rng.choice(list(relation.facts))
        possible = {relation_.fill(template, subject) for template in relation.train_templates()}
        assert all(relation.ask(subject, rng) in possible for _ in range(30)), relation.name


def test_choices_are_of_the_answers_own_category_and_fair() -> None:
    items = world.quiz(1)
    assert len(items) == len(world.all_facts())
    for item in items:
        relation = world.relation(item.relation)
        assert item.answer == relation.facts[item.subject]
        assert len(set(item.choices)) == 4
        assert set(item.choices) <= set(relation.facts.values())
        wrong = set(item.choices) - {item.answer}
        assert not wrong & relation.also_right.get(item.subject, frozenset())
    for position in range(4):  # the right choice stands anywhere
        assert 0.2 < sum(item.right == position for item in items) / len(items) < 0.3


def test_quiz_depends_on_the_seed_alone() -> None:
    assert world.quiz(4) == world.quiz(4)
    assert world.quiz(4) != world.quiz(5)
    assert len(world.quiz(4, limit=50)) == 50


def test_a_subject_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        relation_.pairs("dog=puppy; dog=whelp")


def test_articles() -> None:
    assert relation_.with_article("owl") == "an owl"
    assert relation_.with_article("dog") == "a dog"
    assert relation_.with_article("unit") == "a unit"
