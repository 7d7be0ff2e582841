"""The pocket model's world: what a fact is, and in how many ways one may ask for it.

A `Relation` holds facts (subject -> answer) and its own wording: noun phrases for the answer ("the
capital of {s}"), whole questions, and statements. Noun phrases go through frames shared by all relations
("Could you name {np}?"), questions through openings ("Quick question: {q}"). Frames, openings and
questions marked as held out are never used by the corpus: the quiz asks every fact through them, so that
it measures knowledge and not the memory of a sentence. No tensor is touched here: plain records in, plain
text out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from tui_lab.pocket.builder.relation import Fact, Relation


@cache
def relations() -> tuple[Relation, ...]:
    """All relations of the world, in a fixed order."""
    from tui_lab.pocket.builder import world_language, world_life, world_nature, world_numbers, world_places
    from tui_lab.pocket.builder.world_wording import more_questions

    found: list[Relation] = []
    for module in (world_places, world_language, world_nature, world_life, world_numbers):
        for one in module.RELATIONS:
            found.append(replace(one, questions=one.questions + more_questions(one.name)))
    return tuple(found)


@cache
def relation(name: str) -> Relation:
    return next(found for found in relations() if found.name == name)


def all_facts() -> list[Fact]:
    return [fact for found in relations() for fact in found.items()]


@dataclass(frozen=True)
class QuizItem:
    """One quiz question: `choices[right]` is the answer."""

    relation: str
    subject: str
    question: str
    choices: tuple[str, ...]
    right: int

    @property
    def answer(self) -> str:
        return self.choices[self.right]


def quiz(seed: int = 0, per_fact: int = 1, limit: int = 0) -> list[QuizItem]:
    """A four-choice quiz over every fact in held-out phrasings (or a random sample of `limit` items)."""
    items = list(_quiz_items(random.Random(seed), per_fact))
    if limit and limit < len(items):
        items = random.Random(seed + 1).sample(items, limit)
    return items


def _quiz_items(rng: random.Random, per_fact: int) -> Iterator[QuizItem]:
    for found in relations():
        for subject, answer in found.facts.items():
            for _ in range(per_fact):
                choices = [answer, *found.distractors(subject, rng)]
                rng.shuffle(choices)
                question = found.ask_held_out(subject, rng)
                yield QuizItem(found.name, subject, question, tuple(choices), choices.index(answer))
