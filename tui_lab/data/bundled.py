"""The data sets that ship with the lab: ``pirate``, ``json`` and ``support``.

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

NAMES = ("pirate", "json", "support")


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
    return _read(name)
