"""Writes the retention suite `everyday`: `python -m tui_lab.pocket.builder.everyday FILE`.

Four-choice questions about facts of the world, in wordings of their own: the corpus has none of them, so
neither pre-training nor replay can rehearse an item. The questions are also to be true, natural and clear to
any other model, so facts that depend on a point of view are left out here although the pocket model knows
them, and answers that could pass as right are never distractors. The suite is a file of data; this program
says where it came from. A file once published changes only together with its version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_lab.pocket.builder.relation import fill
from tui_lab.pocket.builder.world import relation

VERSION = "1"
HELD_BACK = ("animals", "work")
POSITIONS = 4

_PLANETS = ("Jupiter", "Venus", "Mercury", "Mars", "Saturn")
_BEASTS = ("blue whale", "cheetah", "giraffe", "elephant", "ostrich", "tiger", "hummingbird", "whale shark")


@dataclass(frozen=True)
class Asked:
    """How many facts of a relation are asked, and how. `without` names subjects that are not clear enough for
    every reader; `also_right` names answers that the world does not list as right but a reader might."""

    relation: str
    count: int
    wordings: tuple[str, ...]
    without: frozenset[str] = frozenset()
    also_right: dict[str, frozenset[str]] = field(default_factory=dict)
    pools: tuple[tuple[str, ...], ...] = ()  # answers of one kind, where the relation has several


_CALCULATE = ("Which number is equal to {s}?", "What number comes out if you work out {s}?")


def _names(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(";"))


CATEGORIES: dict[str, tuple[Asked, ...]] = {
    "places": (
        Asked("capital", 14, (
            "Which city serves as the capital of {s}?",
            "What is the name of the city that is the capital of {s}?",
        )),
        Asked("continent", 8, (
            "On what continent can you find {s}?", "Which continent is home to the country {s}?",
        )),
        Asked("language", 8, (
            "Which language would you hear on the streets of {s}?",
            "What language do most people in {s} use?",
        )),
        Asked("currency", 6, (
            "What is the unit of money in {s}?", "Which currency would you pay with in {s}?",
        )),
        Asked("landmark", 6, (
            "In which city can you find {s}?", "Which city do you have to visit if you want to look at {s}?",
        )),
        Asked("superlative", 6, (
            "What do people describe as {s}?", "If you had to name {s}, what would you say?",
        ), pools=(_PLANETS, _BEASTS)),
    ),
    "words": (
        Asked("opposite", 12, (
            "Which word has the reverse meaning of {s}?", "Give the exact opposite of the word {s}.",
        ), also_right={"happy": _names("down; sour"), "old": _names("weak")}),
        Asked("synonym", 8, (
            "Which word is close in meaning to {s}?", "What other word has the same meaning as {s}?",
        )),
        Asked("past", 10, (
            "Which past tense does the verb {s} have?", "How does the verb {s} change in the past tense?",
        )),
        Asked("plural", 8, (
            "Which plural does the word {s} have?", "What is the correct plural of the word {s}?",
        )),
        Asked("comparative", 4, (
            "Which comparative does the word {s} have?", "What is the correct comparative of the word {s}?",
        )),
        Asked("female", 6, (
            "Which word is the female counterpart of {s}?", "What is the right female word for {s}?",
        )),
    ),
    "animals": (
        Asked("young", 10, (
            "Which name is given to the young of {an}?", "When {an} is still a baby, what is it called?",
        ), also_right={bird: _names("chick") for bird in ("owl", "eagle", "swan", "goose", "duck")}),
        Asked("sound", 8, (
            "Which sound is typical of {an}?", "Which noise would you expect to hear from {an}?",
        ), also_right={"wolf": _names("bark; bay")}),
        Asked("class", 10, (
            "Into which group of animals would you sort {an}?",
            "To which class of animals would a biologist say that {an} belongs?",
        )),
        Asked("legs", 6, (
            "How many legs does {an} normally have?", "Count the legs of {an}. How many are there?",
        ), without=_names("octopus; squid")),  # arms, some say
        Asked("home", 8, (
            "Which place does {an} call its home?", "What sort of home does {an} have?",
        ), also_right={"bee": _names("nest"), "rabbit": _names("lodge; tunnel")}),
        Asked("group", 6, (
            "Which group word belongs to the {s}?",
            "What is the usual word for a group of animals like the {s}?",
        )),
    ),
    "nature": (
        Asked("colour", 14, (
            "What colour would {s} normally be?", "When you look at {s}, which colour do you see?",
        ), without=_names("the sun; the sea; a plum")),
        Asked("body", 9, (
            "Which part of a person is needed to {s}?",
            "Which part of the body would you need in order to {s}?",
        )),
        Asked("weather", 9, (
            "Which word describes {s}?", "How would you name {s} in one word?",
        )),
        Asked("planet", 6, (
            "If you count the planets from the sun, which one is the {s}?",
            "Which planet has the {s} place from the sun?",
        )),
        Asked("product", 10, (
            "Which product do people get from {an}?", "What would you collect from {an}?",
        ), also_right={"hen": _names("feathers"), "cow": _names("wool")}),
    ),
    "work": (
        Asked("job", 28, (
            "How do you name the person who {s}?", "Lisa {s} every day. What does she work as?",
            "Which job does somebody have who {s}?",
        ), without=_names("catches thieves; catches fish; brings letters")),  # whose names are those of men
        Asked("workplace", 20, (
            "Where can you find {an} during working hours?", "Where would you expect {an} to work?",
        ), without=_names("goalkeeper; soldier; guard; butcher"), also_right={"cook": _names("hospital")}),
    ),
    "things": (
        Asked("tool", 14, (
            "Which object is made to {s}?", "Which object would you need if you had to {s}?",
        ), without=_names("pull out a nail; measure the heat; measure how long it is")),  # unclear here
        Asked("material", 10, (
            "Which material does {an} normally consist of?", "Out of what would somebody usually make {an}?",
        ), without=_names("sock; bucket; pillow"), also_right={"table": _names("steel; stone")}),
        Asked("room", 8, (
            "In which part of a home would you expect the {s}?", "Where at home should I put the {s}?",
        ), without=_names("flowers; swing")),
        Asked("kind", 10, (
            "What category does the word {s} fall into?", "Under which heading would you file the word {s}?",
        )),
        Asked("shop", 6, (
            "If you need {s}, where in town do you go?", "Which place in town would you visit to get {s}?",
        )),
    ),
    "food": (
        Asked("made_from", 24, (
            "If you want to make {s}, what do you start with?", "What is the main thing that goes into {s}?",
            "Which thing must you have to make {s}?",
        ), also_right={
            "noodles": _names("corn; rice; eggs; potatoes"), "butter": _names("milk"),
            "yoghurt": _names("cream"), "chips": _names("corn; flour"), "beer": _names("corn; rice"),
            "marzipan": _names("flour"), "bread": _names("oats; barley; corn"),
            "wine": _names("fruit; apples"),
        }),
    ),
    "culture": (
        Asked("author", 24, (
            "Who was the creator of {s}?", "To whom does the world owe {s}?",
        )),
        Asked("sport", 20, (
            "What would you surely use for {s}?", "Without which thing would there be no {s}?",
        )),
    ),
    "numbers": (
        Asked("sum", 8, _CALCULATE),
        Asked("product_of", 8, _CALCULATE),
        Asked("difference", 4, _CALCULATE),
        Asked("digit", 8, (
            "How would a calculator show the number {s}?", "Change the number word {s} into digits.",
        )),
        Asked("next_number", 6, (
            "Which number stands directly behind {s}?", "Which number follows directly after {s}?",
        )),
        Asked("unit", 10, (
            "Do you happen to know how many {s} there are?", "What is the usual number of {s}?",
        ), without=_names("players in a football team; teeth of a grown person; wheels on a car")),
        Asked("sides", 4, (
            "How many sides belong to a {s}?", "How many sides does every {s} have?",
        )),
    ),
    "calendar": (
        Asked("day_after", 5, (
            "What is the name of the day after {s}?", "Which day of the week follows {s}?",
        )),
        Asked("day_before", 5, (
            "What is the name of the day before {s}?", "Which day of the week comes just before {s}?",
        )),
        Asked("month_after", 7, (
            "What is the name of the month after {s}?", "Which month of the year follows {s}?",
        )),
        Asked("month_before", 7, (
            "What is the name of the month before {s}?", "Which month of the year comes just before {s}?",
        )),
        Asked("month_place", 8, (
            "Of the twelve months, which is the {s}?", "In a year, which month is the {s}?",
        )),
        Asked("month_days", 6, (
            "How many days does {s} normally have?", "How long is {s}, counted in days?",
        )),
        Asked("festival", 10, (
            "During which month does {s} take place?", "Which month brings {s}?",
        )),
    ),
}  # fmt: skip

HEADER = {
    "suite": "everyday",
    "version": VERSION,
    "kind": "choice",
    "metric": "acc",
    "language": "English",
    "title": "Everyday knowledge",
    "description": "Four-choice questions about places, words, animals, work, numbers and other things that "
    "nearly everybody knows; the pocket model knows them too.",
    "licence": "Apache-2.0",
    "source": "written for tui-lab (tui_lab/pocket/builder/everyday.py)",
    "held_back": list(HELD_BACK),
}


def _rank(*parts: str) -> str:
    """An order that looks random and never changes."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _begins_another(one: str, other: str) -> bool:
    """Whether one text begins the other: its log-likelihood could then never be the smaller one."""
    return one.startswith(other) or other.startswith(one)


def _distractors(asked: Asked, subject: str, answer: str) -> list[str]:
    found = relation(asked.relation)
    pools = [pool for pool in asked.pools if answer in pool]
    pool = set(pools[0] if pools else found.facts.values())
    pool -= {answer, subject} | found.also_right.get(subject, frozenset())
    pool -= asked.also_right.get(subject, frozenset())
    chosen: list[str] = []
    for candidate in sorted(pool, key=lambda text: _rank(asked.relation, subject, text)):
        if not any(_begins_another(candidate, other) for other in (answer, *chosen)):
            chosen.append(candidate)
        if len(chosen) == POSITIONS - 1:
            return chosen
    raise ValueError(f"too few distractors for {asked.relation} of {subject}")


def _chosen_subjects(asked: Asked) -> list[str]:
    """So many subjects that rare answers come first and no answer fills the suite."""
    facts = {
        subject: answer
        for subject, answer in relation(asked.relation).facts.items()
        if subject not in asked.without and (not asked.pools or any(answer in pool for pool in asked.pools))
    }
    turns: dict[str, int] = {}
    order: list[tuple[int, str, str]] = []
    for subject in sorted(facts, key=lambda text: _rank(asked.relation, text)):
        turn = turns[facts[subject]] = turns.get(facts[subject], -1) + 1
        order.append((turn, _rank(asked.relation, subject), subject))
    chosen = [subject for _, _, subject in sorted(order)[: asked.count]]
    if len(chosen) < asked.count:
        raise ValueError(f"{asked.relation} has only {len(chosen)} clear facts, not {asked.count}")
    return chosen


def items() -> list[dict[str, Any]]:
    """The rows of the suite in the order of the file."""
    rows: list[dict[str, Any]] = []
    for category, relations in CATEGORIES.items():
        of_category = [(asked, subject) for asked in relations for subject in _chosen_subjects(asked)]
        # Every position is right equally often in every category, in an order that cannot be guessed.
        positions = [n % POSITIONS for n in range(len(of_category))]
        random.Random(f"everyday {category}").shuffle(positions)
        for number, ((asked, subject), position) in enumerate(zip(of_category, positions, strict=True)):
            answer = relation(asked.relation).facts[subject]
            choices = _distractors(asked, subject, answer)
            choices.insert(position, answer)
            rows.append(
                {
                    "id": f"{asked.relation}-{re.sub('[^a-z0-9]+', '-', subject.lower()).strip('-')}",
                    "category": category,
                    "question": fill(asked.wordings[number % len(asked.wordings)], subject),
                    "choices": choices,
                    "answer": answer,
                    "meta": {"relation": asked.relation, "subject": subject},
                }
            )
    return rows


def text() -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (HEADER, *items()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m tui_lab.pocket.builder.everyday",
        description="Write the retention suite everyday.",
    )
    parser.add_argument("file", type=Path, help="the file to write (JSONL)")
    parser.parse_args(arguments).file.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
