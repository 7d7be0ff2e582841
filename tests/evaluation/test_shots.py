"""Examples in the prompt: where they stand, and that retrieval is BM25."""

from __future__ import annotations

import math
from collections import Counter

from tui_lab.data.examples import Example
from tui_lab.data.rows import ChatMessage
from tui_lab.evaluation import shots


def chat(question: str, answer: str, system: str = "") -> Example:
    turns: list[ChatMessage] = [{"role": "system", "content": system}] if system else []
    turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Example(messages=tuple(turns))


ROWS = [
    chat("where is my parcel", "on its way"),
    chat("when does the shop open", "at nine"),
    chat("is the parcel of my aunt in the shop", "yes"),
    chat("how much is a stamp", "one euro"),
]


def test_turns_come_after_the_system_prompt_without_their_reasoning() -> None:
    shot = chat("one?", "<think>hm</think>1", "Other.")
    found = shots.with_shots(chat("two?", "2", "Be brief."), [shot])
    assert [(turn["role"], turn["content"]) for turn in found.messages or ()] == [
        ("system", "Be brief."),
        ("user", "one?"),
        ("assistant", "1"),
        ("user", "two?"),
        ("assistant", "2"),
    ]
    assert found.expected == "2"


def test_texts_are_joined_by_a_blank_line() -> None:
    row, shot = Example(prompt="Q: b A:", completion=" 2"), Example(prompt="Q: a A:", completion=" 1")
    found = shots.with_shots(row, [shot])
    assert (found.prompt, found.completion) == ("Q: a A: 1\n\nQ: b A:", " 2")
    assert shots.with_shots(row, []) is row


def test_nearest_rows_are_those_of_the_formula() -> None:
    """BM25 as Lucene computes it (k1 1.5, b 0.75), written out here."""
    query = chat("where in the shop is the parcel", "?")
    texts = [shots.question(row).split() for row in ROWS]
    texts = [[word for word in text if len(word) > 1] for text in texts]  # the index has no single letters
    mean = sum(map(len, texts)) / len(texts)

    def score(text: list[str]) -> float:
        total, counts = 0.0, Counter(text)
        for word in shots.question(query).split():
            having = sum(word in other for other in texts)
            weight = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            share = counts[word] / (counts[word] + 1.5 * (0.25 + 0.75 * len(text) / mean))
            total += weight * share
        return total

    order = sorted(range(len(ROWS)), key=lambda at: -score(texts[at]))
    assert shots.Retriever(ROWS).nearest(query, 3) == [ROWS[at] for at in reversed(order[:3])]
    assert order[0] == 2


def test_fixed_examples_are_drawn_once_and_never_more_than_there_are() -> None:
    assert shots.fixed(ROWS, 2) == shots.fixed(ROWS, 2)
    assert len(shots.fixed(ROWS, 9)) == 4
    assert len(shots.Retriever(ROWS).nearest(ROWS[0], 9)) == 4
    assert shots.Retriever([chat("?!", "a"), chat("…", "b")]).nearest(chat("¿", "c"), 1), "no word at all"
