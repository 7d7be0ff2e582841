"""Columns of a benchmark's row as text, labels and choices, and the item that they make. The names of the hub
come first, then those of the authors' own files. Pure functions, which raise BadItem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tui_lab.data.rows import RawRow
from tui_lab.retention.suites.custom import BadItem
from tui_lab.retention.suites.records import Item

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def first_of(row: RawRow, *names: str) -> Any:
    """The first of several columns that the row has."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise BadItem(f"there is no {' or '.join(names)}")


def text_of(row: RawRow, *names: str) -> str:
    """The text in the first of several columns that the row has."""
    return as_text(first_of(row, *names), names[0])


def as_text(value: object, name: str) -> str:
    """A value that must be text, without lone surrogates, which break every tokenizer."""
    if not isinstance(value, str):
        raise BadItem(f"{name} is {type(value).__name__}, not text")
    return value.encode("utf-8", "replace").decode("utf-8")


def texts_of(value: object, name: str, least: int = 2) -> list[str]:
    """A list of at least so many texts."""
    if not isinstance(value, list | tuple) or len(value) < least:
        raise BadItem(f"{name} is no list of {least} texts or more")
    return [as_text(one, f"an entry of {name}") for one in value]


def number_of(row: RawRow, *names: str) -> int:
    """A whole number that is not negative, such as a position in a text."""
    value = first_of(row, *names)
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadItem(f"{names[0]} is {str(value)[:40]!r}, not a number") from None
    if number < 0:
        raise BadItem(f"{names[0]} is {number}, below 0")
    return number


def label_of(row: RawRow, count: int, words: Mapping[str, int], *names: str) -> int:
    """The right answer as an index: a number, digits, or one of the data set's words for it."""
    value = first_of(row, *names)
    value = words.get(str(int(value) if isinstance(value, bool) else value).strip(), value)
    try:
        index = int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadItem(f"the label {str(value)[:40]!r} is unknown") from None
    if index < 0:
        raise BadItem("it has no label; of this set only the splits with labels can be scored")
    if index >= count:
        raise BadItem(f"the label is {index}, but there are {count} answers")
    return index


def choice_item(
    identity: str,
    context: str,
    choices: Sequence[str],
    answers: Sequence[int],
    question: str,
    category: str = "",
) -> Item:
    """An item whose choices follow the context after one space, as in lm-evaluation-harness."""
    return Item(
        id=identity,
        context=context,
        continuations=tuple(f" {choice}" for choice in choices),
        answers=tuple(answers),
        category=category,
        question=question,
        choices=tuple(choices),
    )
