"""Encodes rows in batches."""

from __future__ import annotations

from collections.abc import Sequence

from tui_lab.data import masks, templates
from tui_lab.data.formats import Example
from tui_lab.data.rows import Tokenizer


def encode_batch(
    tokenizer: Tokenizer, examples: Sequence[Example]
) -> list[templates.Encoded | masks.Unrenderable]:
    """The tokens of each example, or why the template refuses it."""
    found: list[templates.Encoded | masks.Unrenderable] = []
    for example in examples:
        try:
            found.append(templates.encode(tokenizer, example))
        except masks.Unrenderable as error:
            found.append(error)
    return found
