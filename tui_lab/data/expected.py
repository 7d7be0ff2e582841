"""The prompt and the expected answer of a row of data, for samples and scores."""

from __future__ import annotations

from tui_lab.data.formats import Example
from tui_lab.data.rows import ChatMessage, ChatRow

#: The words of a raw text that prompt a sample.
TEXT_PROMPT_WORDS = 8


def prompt_of(example: Example) -> list[ChatMessage] | str:
    """The prompt: the messages before the last assistant turn, the prompt of a completion, or the first
    words of a text."""
    if example.messages is not None:
        return list(example.messages[: _last_answer(example)])
    if example.prompt is not None:
        return example.prompt
    return " ".join(str(example.text).split()[:TEXT_PROMPT_WORDS])


def expected_of(example: Example) -> str:
    """The expected answer: the last assistant turn, the completion, or the text."""
    if example.messages is not None:
        return str(example.messages[_last_answer(example)]["content"])
    return str(example.completion if example.completion is not None else example.text)


def as_row(example: Example) -> ChatRow:
    """The row for the scorers: messages, and the data set's own fields as ``meta``."""
    messages = example.messages or (
        {"role": "user", "content": example.prompt or ""},
        {"role": "assistant", "content": expected_of(example)},
    )
    return {"messages": list(messages), "meta": example.meta}


def _last_answer(example: Example) -> int:
    assert example.messages is not None
    return max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
