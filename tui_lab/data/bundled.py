"""The data sets that ship with the lab: ``pirate``, ``json`` and ``support``, and two that are made of
``pirate``: ``pirate_pairs`` (the pirate's answer is preferred to the plain one) and ``pirate_votes`` (each of
the two with a verdict).

Each file in ``bundled_sets/`` is JSON Lines: a header with the score that fits (see ``scoring.py``), then a
few hundred chats for training and others for validation that share no question with them. They are English,
suit real models as well as the pocket model, and need no network. ``python -m
tui_lab.pocket.builder.write_data``, in a checkout of the repository, writes the files.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.data.rows import ChatMessage, ChatRow

#: Sets of preferences: the set that they are made of, and their format.
PREFERENCES: dict[str, tuple[str, str]] = {
    "pirate_pairs": ("pirate", "preference"),
    "pirate_votes": ("pirate", "feedback"),
}
NAMES = ("pirate", "json", "support", *PREFERENCES)


class SetHeader(msgspec.Struct, frozen=True):
    """The first line of a bundled file."""

    name: str
    scorer: str
    description: str


class BundledRow(msgspec.Struct, frozen=True):
    """Any other line of a bundled file."""

    split: Literal["train", "validation"]
    messages: list[ChatMessage]


class BundledSet(msgspec.Struct, frozen=True):
    """One data set: rows of chat messages, and how its answers are scored."""

    name: str
    train: list[ChatRow]
    validation: list[ChatRow]
    scorer: str
    description: str


@cache
def _read(name: str) -> BundledSet:
    path = resources.files("tui_lab.data") / "bundled_sets" / f"{name}.jsonl"
    first, *lines = path.read_bytes().splitlines()
    header = msgspec.json.decode(first, type=SetHeader)
    splits: dict[str, list[ChatRow]] = {"train": [], "validation": []}
    decoder = msgspec.json.Decoder(BundledRow)
    for line in lines:
        row = decoder.decode(line)
        splits[row.split].append({"messages": row.messages})
    return BundledSet(header.name, splits["train"], splits["validation"], header.scorer, header.description)


def load(name: str) -> BundledSet:
    """The bundled data set ``name``. Raises LabError for an unknown name."""
    if name not in NAMES:
        raise LabError(f"There is no bundled data set {name!r}; the bundled ones are {', '.join(NAMES)}.")
    base, _ = PREFERENCES.get(name, (name, ""))
    found = _read(base)
    if name == base:
        return found
    description = {
        "pirate_pairs": "The pirate's answer is preferred to the plain one.",
        "pirate_votes": "Answers of a pirate are good, plain ones are not.",
    }[name]
    return msgspec.structs.replace(found, name=name, description=description)


def rows_of(loaded: BundledSet, chats: list[ChatRow]) -> list[dict[str, object]]:
    """The rows of a set as a file would have them."""
    _, form = PREFERENCES.get(loaded.name, ("", "messages"))
    if form == "messages":
        return [dict(chat) for chat in chats]
    pairs = [(chat["messages"][0]["content"], chat["messages"][1]["content"]) for chat in chats]
    # the answer comes first, the manner after it
    sides = [(question, answer, answer.split(",")[0].strip() + ".") for question, answer in pairs]
    sides = [each for each in sides if not each[1].lower().startswith(("arr", "ahoy", "aye", "ye be"))]
    if form == "preference":
        return [{"prompt": q, "chosen": good, "rejected": plain} for q, good, plain in sides]
    return [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": good if at % 2 else plain}],
            "label": bool(at % 2),
        }
        for at, (question, good, plain) in enumerate(sides)
    ]
