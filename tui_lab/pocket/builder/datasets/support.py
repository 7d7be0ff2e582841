"""`support`: what the goods of an invented shop cost, look like and where they stand.

Nobody can know these facts without being told, so an exact answer shows that tuning taught something.
Every fact is asked in several phrasings for training; validation asks the same facts in phrasings whose
templates no training row (and no document of the pocket model's corpus) used.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from tui_lab.pocket.builder.catalogue import SERIES, THINGS, goods_of_the_shop, make_catalogue
from tui_lab.pocket.builder.datasets import ChatRow, chat_row

GOODS = 12
RELATIONS = ("price", "colour", "material", "shelf", "delivery")
TRAIN_PHRASINGS = 12  # of each fact
VALIDATION_PHRASINGS = 2


def goods(rng: random.Random) -> list[str]:
    """Names in which neither series nor thing occurs twice: "the Meadow lamp", "the River kettle" …"""
    allowed = set(goods_of_the_shop())
    left = list(THINGS)
    rng.shuffle(left)
    named = []
    for series in rng.sample(SERIES, GOODS):
        thing = next(thing for thing in left if f"the {series} {thing}" in allowed)
        left.remove(thing)
        named.append(f"the {series} {thing}")
    return named


def make(seed: int) -> tuple[list[ChatRow], list[ChatRow]]:
    """(training rows, validation rows)."""
    rng = random.Random(seed)
    train: list[ChatRow] = []
    validation: list[ChatRow] = []
    for relation in make_catalogue(goods(rng), rng, RELATIONS):
        for subject, answer in relation.facts.items():
            train.extend(
                chat_row(question, answer)
                for question in _distinct(relation.ask, subject, TRAIN_PHRASINGS, rng)
            )
            asked = _distinct(relation.ask_held_out, subject, VALIDATION_PHRASINGS, rng)
            validation.extend(chat_row(question, answer) for question in asked)
    rng.shuffle(train)
    rng.shuffle(validation)
    return train, validation


def _distinct(
    ask: Callable[[str, random.Random], str], subject: str, count: int, rng: random.Random
) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[ask(subject, rng)] = None
    return list(found)
