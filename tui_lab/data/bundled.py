"""The data sets that ship with the lab: `pirate`, `json` and `support`, made by code from a seed.

Each is a few hundred plain chats for training and others for validation that share no question with them,
with the name of the score that fits (see `scoring.py`). They are English, serve real models as well as
the pocket model, and need no network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tui_lab.core.errors import LabError

NAMES = ("pirate", "json", "support")
SEED = 7

Row = dict[str, Any]  # {"messages": [{"role": …, "content": …}, …]}


@dataclass(frozen=True)
class Bundled:
    """One data set: rows of chat messages, and how its answers are scored."""

    name: str
    train: list[Row]
    validation: list[Row]
    scorer: str
    description: str
    tags: tuple[str, ...]


def row(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@cache
def _made(name: str) -> Bundled:
    from tui_lab.pocket.builder.datasets import json, pirate, support

    makers: dict[str, Callable[[int], tuple[list[Row], list[Row]]]] = {
        "pirate": pirate.make,
        "json": json.make,
        "support": support.make,
    }
    facts: dict[str, tuple[str, str, tuple[str, ...]]] = {
        "pirate": ("manner", "Answers everything like a pirate and still gets it right.", ("style", "quick")),
        "json": ("schema", "Answers with JSON of the schema that the question gives.", ("format",)),
        "support": ("exact", "Facts about the goods of an invented shop, asked in many ways.", ("facts",)),
    }
    train, validation = makers[name](SEED)
    scorer, description, tags = facts[name]
    return Bundled(name, train, validation, scorer, description, tags)


def load(name: str) -> Bundled:
    """The bundled data set `name`; the same rows every time."""
    if name not in NAMES:
        raise LabError(f"There is no bundled data set {name!r}; the bundled ones are {', '.join(NAMES)}.")
    return _made(name)
