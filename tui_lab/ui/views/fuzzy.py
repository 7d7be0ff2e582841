"""How well a text matches what is typed to filter a list: whole words first, then letters in their order.
Pure, and quick for any text (the matcher of Textual's palette tries every combination of
positions)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

_SEPARATORS = re.compile(r"[^a-z0-9]")
#: What a word counts at least that is in the name as it is.
_WHOLE = 2.0
#: The letters of a word may be spread over so many times its length.
_MOST_SPREAD = 3


def score(query: str, name: str, others: str = "") -> float:
    """0 where a word of the query matches neither. A match in ``name`` counts more than one in ``others``,
    its beginning and the beginning of a part more than the middle, letters in a row more than spread
    ones."""
    total = 0.0
    for word in query.lower().split():
        found = max(_word(word, name.lower()), 0.5 * (word in others.lower()))
        if not found:
            return 0.0
        total += found
    return total or 1.0


def _word(word: str, text: str) -> float:
    at = text.find(word)
    if at >= 0:
        begins = at == 0 or bool(_SEPARATORS.match(text[at - 1]))
        return _WHOLE + begins + len(word) / max(1, len(text))
    first, found = -1, 0.0
    while (first := text.find(word[0], first + 1)) >= 0:
        end = first
        for letter in word[1:]:
            if (end := text.find(letter, end + 1)) < 0:
                return found if found * _MOST_SPREAD >= 1 else 0.0  # nor from any later beginning
        found = max(found, len(word) / (end - first + 1))
    return found if found * _MOST_SPREAD >= 1 else 0.0


def best(query: str, items: Iterable[T], text_of: Callable[[T], tuple[str, str]]) -> list[T]:
    """The items that match, the best first; those that match equally stay in their order. Where names hold
    the words themselves, weaker matches are left out. ``text_of`` gives name and other text. An empty query
    gives all items in their order."""
    if not (words := query.split()):
        return list(items)
    scored = [(score(query, *text_of(item)), item) for item in items]
    least = _WHOLE * len(words)
    found = [(rank, item) for rank, item in scored if rank >= least] or [
        (rank, item) for rank, item in scored if rank
    ]
    return [item for _, item in sorted(found, key=lambda pair: -pair[0])]
