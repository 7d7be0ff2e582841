"""Encodes rows in batches, by the tokenizer's own threads, to the same tokens and labels as
:func:`tui_lab.data.templates.encode` gives one row.

Only the borders of the trained spans are looked up in the tokenizer's offsets; lists of all offsets would
take longer than the tokenizer itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_lab.core.subprocesses import temporary_environment
from tui_lab.data import masks, templates
from tui_lab.data.examples import Example
from tui_lab.data.masks import Span, mask_of
from tui_lab.data.rows import Tokenizer
from tui_lab.data.templates import IGNORED, RenderedRow

TokenArray = NDArray[np.int32]
#: Children of the lab have the threads of tokenizers switched off, because they may fork later.
PARALLEL = {"TOKENIZERS_PARALLELISM": "true"}
BORDER_TOKENS = 3  # tokens before a border that decide to whom the blanks between belong


@dataclass(frozen=True)
class EncodedArrays:
    """Token ids (T,) and labels (T,) of a row; ``apart``: prompt and answer were split into tokens apart."""

    ids: TokenArray
    labels: TokenArray
    apart: bool = False

    @property
    def trained(self) -> int:
        """The number of tokens that give a loss: the first token of a row never does."""
        return int(np.count_nonzero(self.labels[1:] != IGNORED))

    def cut(self, max_length: int) -> EncodedArrays:
        """The first ``max_length`` tokens."""
        return EncodedArrays(self.ids[:max_length], self.labels[:max_length], self.apart)

    def windows(self, max_length: int) -> list[EncodedArrays]:
        """A long raw text as pieces of at most ``max_length`` tokens, see :func:`templates.windows`."""
        if len(self.ids) <= max_length:
            return [self]
        pieces = []
        for at in range(0, len(self.ids) - 1, max(1, max_length - 1)):
            labels = self.labels[at : at + max_length].copy()
            if at:
                labels[0] = IGNORED
            pieces.append(EncodedArrays(self.ids[at : at + max_length], labels))
        return pieces


def encode_batch(
    tokenizer: Tokenizer, examples: Sequence[Example]
) -> list[EncodedArrays | masks.Unrenderable]:
    """The tokens of each example, or why the template refuses it."""
    found: list[RenderedRow | masks.Unrenderable] = []
    for example in examples:
        try:
            found.append(templates.render_row(tokenizer, example))
        except masks.Unrenderable as error:
            found.append(error)
    rows = [row for row in found if isinstance(row, RenderedRow)]
    texts = [*(row.text for row in rows), *(row.text[: row.prompt] for row in rows)]
    with temporary_environment(PARALLEL):
        batch = tokenizer(texts, add_special_tokens=False, verbose=False) if rows else None
    encodings: list[Any] = list(batch.encodings) if batch is not None else []
    encoded = iter(
        _encoded(tokenizer, row, encodings[at], encodings[len(rows) + at]) for at, row in enumerate(rows)
    )
    return [row if isinstance(row, masks.Unrenderable) else next(encoded) for row in found]


def _encoded(tokenizer: Tokenizer, row: RenderedRow, whole: Any, prompt: Any) -> EncodedArrays:
    ids: list[int] = whole.ids
    head: list[int] = prompt.ids if row.prompt else []
    if ids[: len(head)] != head:
        one = templates.encode_row(tokenizer, row)
        return EncodedArrays(
            np.array(one.input_ids, dtype=np.int32), np.array(one.labels, dtype=np.int32), one.apart
        )
    start, end = row.start, [] if row.end is None else [row.end]
    tokens = np.array([*start, *ids, *end] if start or end else ids, dtype=np.int32)
    labels = np.full(len(tokens), IGNORED, dtype=np.int32)
    for first, last in _trained_tokens(row.text, whole, len(ids), row.spans):
        labels[len(start) + first : len(start) + last] = tokens[len(start) + first : len(start) + last]
    if end:
        labels[-1] = tokens[-1]
    return EncodedArrays(tokens, labels)


def _trained_tokens(text: str, encoding: Any, count: int, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The tokens (first, last + 1) of each span that are trained, as :func:`masks.mask_of` decides."""
    found = []
    for begin, end in spans:
        inside = _token_at(encoding, range(begin, end))
        last = _token_at(encoding, range(end - 1, begin - 1, -1))
        if inside is None or last is None:
            continue
        while (
            last + 1 < count and encoding.token_to_chars(last + 1)[0] < end
        ):  # a character of several tokens
            last += 1
        from_token = max(0, inside - BORDER_TOKENS)
        offsets = [encoding.token_to_chars(at) for at in range(from_token, min(count, inside + 1))]
        mask = mask_of(text, offsets, [(begin, end)])
        trained = next((at for at, each in enumerate(mask) if each and (at or not from_token)), None)
        found.append((from_token + trained if trained is not None else inside + 1, last + 1))
    return found


def _token_at(encoding: Any, places: range) -> int | None:
    """The token of the first of these characters that has one; blanks may have none."""
    for place in places:
        token: int | None = encoding.char_to_token(place)
        if token is not None:
            return token
    return None


def control_tokens(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """What finds the tokenizer's control tokens, such as <|im_end|>, in a text. Only tokens in brackets: some
    tokenizers call ordinary words special."""
    marks = [token for token in tokenizer.all_special_tokens if len(token) > 2 and token[0] in "<[|"]
    return re.compile("|".join(map(re.escape, marks))) if marks else None


def spells_control_tokens(example: Example, marks: re.Pattern[str] | None) -> bool:
    """Whether the text of a row spells out one of the control tokens."""
    if marks is None:
        return False
    texts = [message["content"] for message in example.messages or ()]
    texts += [part for part in (example.text, example.prompt, example.completion) if part]
    return any(marks.search(text) for text in texts)
