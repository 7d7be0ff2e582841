"""`json`: read a short text and answer with JSON of the schema that the question gives.

The schema maps each wanted key to its type. Texts, keys, their order and the way of asking vary;
validation texts hold other people, things and numbers than training texts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tui_lab.data.bundled import row
from tui_lab.pocket.catalogue import COLOURS, DAYS, MATERIALS, THINGS
from tui_lab.pocket.stories import ANIMALS, NAMES
from tui_lab.pocket.world import lines, with_article

TRAIN_ROWS, VALIDATION_ROWS = 1200, 120

_CITIES = [
    "Paris",
    "Madrid",
    "Rome",
    "Berlin",
    "London",
    "Lisbon",
    "Athens",
    "Vienna",
    "Warsaw",
    "Moscow",
    "Dublin",
    "Oslo",
    "Tokyo",
    "Beijing",
    "Cairo",
    "Lima",
]
_JOBS = [
    "baker",
    "doctor",
    "teacher",
    "farmer",
    "pilot",
    "cook",
    "sailor",
    "painter",
    "tailor",
    "dentist",
    "captain",
    "gardener",
    "postman",
]
_PLACES = [
    "forest",
    "garden",
    "market",
    "harbor",
    "castle",
    "school",
    "river",
    "village",
    "beach",
    "farm",
    "library",
    "mountain",
    "station",
    "park",
]

_ASK = lines("""
    {text} Answer as JSON with this schema: {schema}
    {text} Write this as JSON: {schema}
    Read this: {text} Give me JSON of the schema {schema}
    Fill the schema {schema} from this text: {text}
    {text} Reply only with JSON that fits {schema}
    Use the schema {schema} and answer in JSON. {text}
    Turn this into JSON with the keys and types {schema}. {text}""")

Record = dict[str, str | int | bool]


def _person(rng: random.Random) -> tuple[str, Record]:
    record: Record = {
        "name": rng.choice(NAMES),
        "age": rng.randint(18, 80),
        "city": rng.choice(_CITIES),
        "job": rng.choice(_JOBS),
    }
    text = rng.choice(
        (
            "{name} is {age} years old and lives in {city}. The job of {name} is {job}.",
            "{name} lives in {city}, is {age} and works as a {job}.",
            "The {job} {name} from {city} is {age} years old.",
        )
    )
    return text.format(**record), record


def _article(rng: random.Random) -> tuple[str, Record]:
    record: Record = {
        "item": rng.choice(THINGS),
        "price": rng.randint(2, 60),
        "colour": rng.choice(COLOURS),
        "material": rng.choice(MATERIALS),
    }
    text = rng.choice(
        (
            "The {item} costs {price} dollars. It is {colour} and made of {material}.",
            "We sell a {colour} {item} made of {material} for {price} dollars.",
            "For {price} dollars you get the {item}. The colour is {colour}, the material is {material}.",
        )
    )
    return text.format(**record), record


def _animal(rng: random.Random) -> tuple[str, Record]:
    record: Record = {
        "animal": rng.choice(ANIMALS),
        "count": rng.randint(2, 30),
        "place": rng.choice(_PLACES),
        "wild": rng.random() < 0.5,
    }
    described = "wild" if record["wild"] else "not wild"
    text = rng.choice(
        (
            "There is more than one {animal} in the {place}: we counted {count}. They are {described}.",
            "In the {place} somebody saw the animal {animal}, {count} of them, all {described}.",
        )
    )
    return text.format(described=described, **record), record


def _shop(rng: random.Random) -> tuple[str, Record]:
    record: Record = {
        "shop": f"{rng.choice(NAMES)}'s {rng.choice(_PLACES)} shop",
        "day": rng.choice(DAYS),
        "open": rng.random() < 0.5,
        "visitors": rng.randint(3, 99),
    }
    described = "open" if record["open"] else "closed"
    text = rng.choice(
        (
            "On {day} {shop} is {described}. It has {visitors} visitors a day.",
            "{shop} is {described} on {day} and counts {visitors} visitors.",
        )
    )
    return text.format(described=described, **record), record


def _order(rng: random.Random) -> tuple[str, Record]:
    record: Record = {
        "customer": rng.choice(NAMES),
        "item": rng.choice(THINGS),
        "quantity": rng.randint(2, 12),
        "day": rng.choice(DAYS),
    }
    text = rng.choice(
        (
            "{customer} ordered the {item}, {quantity} pieces, for {day}.",
            "On {day} we must send {quantity} pieces of the {item} to {customer}.",
            "{customer} wants {an_item} and asks for {quantity} of them on {day}.",
        )
    )
    return text.format(an_item=with_article(str(record["item"])), **record), record


_TOPICS: tuple[Callable[[random.Random], tuple[str, Record]], ...] = (
    _person,
    _article,
    _animal,
    _shop,
    _order,
)
_TYPES = {str: "string", int: "integer", bool: "boolean"}


def _row(rng: random.Random) -> tuple[dict[str, Any], str]:
    """(row, the text it is about)"""
    text, record = rng.choice(_TOPICS)(rng)
    keys = rng.sample(list(record), rng.randint(2, len(record)))
    schema = json.dumps({key: _TYPES[type(record[key])] for key in keys})
    question = rng.choice(_ASK).format(text=text, schema=schema)
    return row(question, json.dumps({key: record[key] for key in keys})), text


def make(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training rows, validation rows); no text occurs twice."""
    rng = random.Random(seed)
    made: dict[str, dict[str, Any]] = {}
    while len(made) < TRAIN_ROWS + VALIDATION_ROWS:
        new, text = _row(rng)
        made.setdefault(text, new)
    rows = list(made.values())
    return rows[VALIDATION_ROWS:], rows[:VALIDATION_ROWS]
