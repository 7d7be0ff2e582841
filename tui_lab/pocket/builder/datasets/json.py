"""`json`: answer with JSON of the schema that the question gives.

The schema maps each wanted key to its type. Four rows in five ask for everyday knowledge,
one gives a short text to read. Keys, their order and the way of asking vary; validation asks other facts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from tui_lab.pocket.builder.catalogue import COLOURS, DAYS, THINGS
from tui_lab.pocket.builder.datasets import ChatRow, chat_row
from tui_lab.pocket.builder.relation import lines
from tui_lab.pocket.builder.stories import NAMES
from tui_lab.pocket.builder.talk import JOBS
from tui_lab.pocket.builder.world import relation

TRAIN_ROWS, VALIDATION_ROWS = 1200, 120
VALIDATION_FACTS = 0.15  # share of the facts that only validation asks
_TEXT_SHARE = 0.2

_CITIES = (
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
    "Cairo",
)
_PLACES = (
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
)

_ASK = lines("""
    {text} Answer as JSON with this schema: {schema}
    {text} Reply only with JSON that fits {schema}
    {text} Give me JSON of the schema {schema}
    Use the schema {schema} and answer in JSON. {text}
    Answer in JSON with the keys and types {schema}. {text}""")

# Relations whose facts are asked, with the topic that a record may name.
_TOPIC_OF = {
    name: topic
    for topic, names in {
        "places": "capital language continent",
        "words": "opposite past plural",
        "animals": "young sound class home",
        "calendar": "month_after day_after",
        "work": "job tool",
        "numbers": "sum difference digit unit",
    }.items()
    for name in names.split()
}
_WHOLE_NUMBERS = frozenset(("sum", "difference", "digit", "unit"))

Record = dict[str, str | int | bool]


def _fact(name: str, subject: str, rng: random.Random) -> tuple[str, Record]:
    """The question about a fact, and the record that answers it."""
    found = relation(name)
    answer: str | int = int(found.facts[subject]) if name in _WHOLE_NUMBERS else found.facts[subject]
    record: Record = {"answer": answer}
    if rng.random() < 0.5:
        record["kind"] = _TOPIC_OF[name]
    return found.ask(subject, rng), record


def _person(rng: random.Random) -> tuple[str, Record]:
    record: Record = {"name": rng.choice(NAMES), "job": rng.choice(JOBS), "city": rng.choice(_CITIES)}
    text = rng.choice(
        ("{name} lives in {city} and works as a {job}.", "{name} is a {job}. {name} is from {city}.")
    )
    return text.format(**record), record


def _article(rng: random.Random) -> tuple[str, Record]:
    record: Record = {"item": rng.choice(THINGS), "price": rng.randint(2, 60), "colour": rng.choice(COLOURS)}
    text = rng.choice(
        ("The {item} is {colour} and costs {price} dollars.", "The {colour} {item} costs {price} dollars.")
    )
    return text.format(**record), record


def _shop(rng: random.Random) -> tuple[str, Record]:
    record: Record = {"place": rng.choice(_PLACES), "day": rng.choice(DAYS), "open": rng.random() < 0.5}
    described = "open" if record["open"] else "closed"
    text = rng.choice(("On {day} the {place} is {d}.", "The {place} is {d} on {day}."))
    return text.format(d=described, **record), record


_TOPICS: tuple[Callable[[random.Random], tuple[str, Record]], ...] = (_person, _article, _shop)
_TYPES = {str: "string", int: "integer", bool: "boolean"}


def _row(text: str, record: Record, rng: random.Random) -> ChatRow:
    keys = list(record)
    if rng.random() < 0.25:
        keys.reverse()
    schema = json.dumps({key: _TYPES[type(record[key])] for key in keys})
    question = rng.choice(_ASK).format(text=text, schema=schema)
    return chat_row(question, json.dumps({key: record[key] for key in keys}))


def make(seed: int) -> tuple[list[ChatRow], list[ChatRow]]:
    """(training rows, validation rows); no fact and no text occurs on both sides."""
    rng = random.Random(seed)
    facts = [(name, subject) for name in _TOPIC_OF for subject in relation(name).facts]
    rng.shuffle(facts)
    cut = round(len(facts) * VALIDATION_FACTS)
    texts: set[str] = set()
    sides = []
    for pool, count in ((facts[:cut], VALIDATION_ROWS), (facts[cut:], TRAIN_ROWS)):
        rows: dict[str, ChatRow] = {}
        while len(rows) < count:
            if rng.random() < _TEXT_SHARE:
                text, record = rng.choice(_TOPICS)(rng)
                if text in texts:
                    continue
                texts.add(text)
            else:
                text, record = _fact(*rng.choice(pool), rng)
            made = _row(text, record, rng)
            rows.setdefault(made["messages"][0]["content"], made)
        sides.append(list(rows.values()))
    validation, train = sides
    return train, validation
