"""Chats, encoded, and what of them is trained."""

from __future__ import annotations

from typing import Any

from tui_lab.data import row_tokens
from tui_lab.data.formats import Example
from tui_lab.data.row_tokens import IGNORED


def encode(tokenizer: Any, example: Example, max_length: int) -> row_tokens.Encoded:
    return row_tokens.cut(row_tokens.encode(tokenizer, example), max_length)


def chat(*turns: str, system: str = "") -> Example:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return Example(messages=tuple([{"role": "system", "content": system}] * bool(system) + messages))


def trained_texts(tokenizer: Any, encoded: row_tokens.Encoded) -> list[str]:
    """The trained stretches, decoded: independent of `pieces`."""
    runs: list[list[int]] = []
    open_run = False
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (IGNORED, token)
        if label != IGNORED:
            if not open_run:
                runs.append([])
            runs[-1].append(token)
        open_run = label != IGNORED
    return [tokenizer.decode(run) for run in runs]
