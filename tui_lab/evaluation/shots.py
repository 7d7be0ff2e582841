"""Examples in the prompt: rows of the training data put before a question, always the same ones or those
that are most like it by BM25 (Robertson and Zaragoza 2009)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from tui_lab.data.chats import without_reasoning
from tui_lab.data.examples import Example
from tui_lab.data.rows import ChatMessage

#: Rows that are indexed at most, and the characters of a question that are searched for.
MAX_INDEXED, MAX_QUERY_CHARS = 200_000, 20_000
#: What separates examples that are continued as text.
BETWEEN = "\n\n"


def question(example: Example) -> str:
    """What a row asks: the turns of the user, or the prompt."""
    if example.messages is None:
        return example.prompt or ""
    turns = example.messages[: example.last_answer]
    return "\n".join(turn["content"] for turn in turns if turn["role"] == "user")


def fixed(rows: Sequence[Example], count: int, seed: int = 0) -> list[Example]:
    """``count`` rows, drawn once."""
    return [rows[at] for at in random.Random(seed).sample(range(len(rows)), min(count, len(rows)))]


class Retriever:
    """An index of rows by what they ask."""

    def __init__(self, rows: Sequence[Example]) -> None:
        import bm25s

        self._rows = rows
        texts = [question(rows[at])[:MAX_QUERY_CHARS] for at in range(min(len(rows), MAX_INDEXED))]
        words = _words(texts)
        self._index = bm25s.BM25() if any(words) else None  # none of texts without a word
        if self._index is not None:
            self._index.index(words, show_progress=False)

    def nearest(self, example: Example, count: int) -> list[Example]:
        """The ``count`` rows that are most like a question, the most like it last."""
        import numpy

        words = _words([question(example)[:MAX_QUERY_CHARS]])[0]
        if self._index is None or not words:
            return list(self._rows[:count])
        scores = self._index.get_scores(words)
        best = numpy.argsort(-scores, kind="stable")[:count]
        return [self._rows[int(at)] for at in reversed(best)]


def _words(texts: list[str]) -> list[list[str]]:
    import bm25s

    found: list[list[str]] = bm25s.tokenize(texts, stopwords=[], return_ids=False, show_progress=False)
    return found


def with_shots(example: Example, shots: Sequence[Example]) -> Example:
    """A row with other rows before its question: turns of a chat, or text that it continues."""
    if not shots:
        return example
    if example.messages is None:
        before = [f"{shot.prompt or ''}{shot.completion or ''}".strip() for shot in shots]
        return replace(example, prompt=BETWEEN.join([*before, example.prompt or ""]))
    turns = list(example.messages)
    start = 1 if turns and turns[0]["role"] == "system" else 0
    return replace(example, messages=(*turns[:start], *_turns(shots), *turns[start:]))


def _turns(shots: Sequence[Example]) -> list[ChatMessage]:
    return [
        without_reasoning(turn)
        for shot in shots
        for turn in (shot.messages or ())[: shot.last_answer + 1]
        if turn["role"] != "system"
    ]
