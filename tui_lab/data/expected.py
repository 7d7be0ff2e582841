"""What a row of data asks of a model and which answer it expects: prompts of samples and scores."""

from __future__ import annotations

from typing import Any

from tui_lab.data.formats import Example
from tui_lab.data.rows import ChatRow

#: Words of a raw text that a sample goes on from.
TEXT_PROMPT_WORDS = 8


def prompt_of(example: Example) -> Any:
    """What the model is given to answer: the messages before the last assistant turn, the prompt of a
    completion, or the start of a text."""
    if example.messages is not None:
        return list(example.messages[: _last_answer(example)])
    if example.prompt is not None:
        return example.prompt
    return " ".join(str(example.text).split()[:TEXT_PROMPT_WORDS])


def expected_of(example: Example) -> str:
    """The answer that the data gives."""
    if example.messages is not None:
        return str(example.messages[_last_answer(example)]["content"])
    return str(example.completion if example.completion is not None else example.text)


def as_row(example: Example) -> ChatRow:
    """The row as scorers read it: plain messages with what the data says beside them."""
    messages = example.messages or (
        {"role": "user", "content": example.prompt or ""},
        {"role": "assistant", "content": expected_of(example)},
    )
    return {"messages": list(messages), "meta": example.meta}


def _last_answer(example: Example) -> int:
    assert example.messages is not None
    return max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
