"""The programs that make the bundled data sets: each module's ``make(seed)`` gives (training, validation)."""

from __future__ import annotations

ChatRow = dict[str, list[dict[str, str]]]


def chat_row(question: str, answer: str) -> ChatRow:
    """A chat of one question and its answer."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
