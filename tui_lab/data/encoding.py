"""Encodes rows in batches, by the tokenizer's own threads, to the same tokens and labels as
:func:`tui_lab.data.row_tokens.encode` gives one row.

Only the borders of the trained spans are looked up in the tokenizer's offsets; lists of all offsets would
take longer than the tokenizer itself."""

from __future__ import annotations

import functools
import itertools
import re
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_lab.core.subprocesses import temporary_environment
from tui_lab.data import masks, row_tokens
from tui_lab.data.examples import Example
from tui_lab.data.masks import Span, mask_of
from tui_lab.data.row_tokens import IGNORED, RenderedRow
from tui_lab.data.rows import Tokenizer

TokenArray = NDArray[np.int32]
#: Children of the lab have the threads of tokenizers switched off, because they may fork later.
PARALLEL = {"TOKENIZERS_PARALLELISM": "true"}
BORDER_TOKENS = 3  # tokens before a border that decide to whom the blanks between belong
HEADER_CHARS = 80  # before a border, in which a control token is looked for
CACHED_TAILS = 4_096


@dataclass(frozen=True)
class EncodedArrays:
    """Token ids (T,) and labels (T,) of a row; ``apart``: prompt and answer were split into tokens apart."""

    ids: TokenArray
    labels: TokenArray
    apart: bool = False

    @functools.cached_property
    def trained(self) -> int:
        """The number of tokens that give a loss: the first token of a row never does."""
        return int(np.count_nonzero(self.labels[1:] != IGNORED))

    def cut(self, max_length: int) -> EncodedArrays:
        """The first ``max_length`` tokens."""
        if len(self.ids) <= max_length:
            return self
        return EncodedArrays(self.ids[:max_length], self.labels[:max_length], self.apart)

    def windows(self, max_length: int) -> list[EncodedArrays]:
        """A long raw text as pieces of at most ``max_length`` tokens, see :func:`row_tokens.windows`."""
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
    rows: dict[int, RenderedRow] = {}
    found: dict[int, EncodedArrays | masks.Unrenderable] = {}
    for at, example in enumerate(examples):
        try:
            rows[at] = row_tokens.render_row(tokenizer, example)
        except masks.Unrenderable as error:
            found[at] = error
    with temporary_environment(PARALLEL):
        tokenizer("a", add_special_tokens=False)  # switches off what truncates and pads in the one below
        fast = tokenizer.backend_tokenizer
        found |= encode_by_marks(fast, marks_of(tokenizer), rows)
        rest = {at: row for at, row in rows.items() if at not in found}
        texts = [*(row.text for row in rest.values()), *(row.text[: row.prompt] for row in rest.values())]
        encodings = fast.encode_batch(texts, add_special_tokens=False) if texts else []
    for number, (at, row) in enumerate(rest.items()):
        prompt = encodings[len(rest) + number].ids if row.prompt else []
        found[at] = _encoded(tokenizer, row, encodings[number], prompt)
    return [found[at] for at in range(len(examples))]


def _encoded(tokenizer: Tokenizer, row: RenderedRow, whole: Any, prompt: list[int]) -> EncodedArrays:
    ids: list[int] = whole.ids
    if ids[: len(prompt)] != prompt:
        one = row_tokens.encode_row(tokenizer, row)
        return EncodedArrays(
            np.array(one.input_ids, dtype=np.int32), np.array(one.labels, dtype=np.int32), one.apart
        )
    return _labelled(
        row, np.array(ids, dtype=np.int32), _trained_tokens(row.text, whole, len(ids), row.spans)
    )


def _labelled(row: RenderedRow, ids: TokenArray, trained: Iterable[Span]) -> EncodedArrays:
    """The tokens ``ids`` of a row with its start and end; ``trained``: (first, last + 1) of ``ids``."""
    labels = np.full(len(ids), IGNORED, dtype=np.int32)
    for first, last in trained:
        labels[first:last] = ids[first:last]
    if not row.start and row.end is None:
        return EncodedArrays(ids, labels)
    start = np.array(row.start, dtype=np.int32)
    end = np.array([] if row.end is None else [row.end], dtype=np.int32)
    masked = np.full(len(start), IGNORED, dtype=np.int32)
    return EncodedArrays(np.concatenate([start, ids, end]), np.concatenate([masked, labels, end]))


# --- chats whose borders stand near control tokens ----------------------------------------------------


@dataclass(frozen=True)
class Marks:
    """The control tokens of a tokenizer that are cut out of a text before anything else: the tokens on one
    side of them do not depend on the other side. ``tails``: the tokens of texts that begin with one."""

    tokens: int
    names: dict[int, str]
    pattern: re.Pattern[str] | None
    tails: dict[str, list[int]] = field(default_factory=dict)


_known_marks: weakref.WeakKeyDictionary[Any, Marks] = weakref.WeakKeyDictionary()


def marks_of(tokenizer: Tokenizer) -> Marks:
    """The control tokens of a tokenizer, without those that take blanks beside them or are looked for in the
    normalised text."""
    found = _known_marks.get(tokenizer)
    if found is None or found.tokens != len(tokenizer):
        names = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special and not (token.normalized or token.lstrip or token.rstrip or token.single_word)
        }
        longest_first = sorted(names.values(), key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first))) if names else None
        found = _known_marks[tokenizer] = Marks(len(tokenizer), names, pattern)
    return found


def encode_by_marks(fast: Any, marks: Marks, rows: Mapping[int, RenderedRow]) -> dict[int, EncodedArrays]:
    """Chats whose borders all stand near control tokens: these show where the borders are among the tokens.
    Neither offsets nor the tokens of the prompts are needed, which take nearly half of the time."""
    places: dict[int, dict[int, int]] = {}  # of each row: where the mark before each border begins
    for at, row in rows.items():
        borders = {row.prompt, *itertools.chain.from_iterable(row.spans)} - {len(row.text)}
        before = {border: _mark_before(marks, row.text, border) for border in borders}
        if row.prompt and -1 not in before.values():
            places[at] = before
    encodings = fast.encode_batch_fast([rows[at].text for at in places], add_special_tokens=False)
    found: dict[int, EncodedArrays] = {}
    for at, encoding in zip(places, encodings, strict=True):
        row, ids = rows[at], encoding.ids
        array = np.array(ids, dtype=np.int32)
        borders_at = {len(row.text): len(ids)}
        for border, start in places[at].items():
            borders_at[border] = _token_after(fast, marks, (row.text, start, border), ids, array)
        if -1 not in borders_at.values():
            found[at] = _labelled(row, array, [(borders_at[a], borders_at[b]) for a, b in row.spans])
    return found


def _mark_before(marks: Marks, text: str, border: int) -> int:
    """Where the last control token before a border begins, -1 where none is near."""
    at = -1
    if marks.pattern is not None:
        for match in marks.pattern.finditer(text, max(0, border - HEADER_CHARS), border):
            at = match.start()
    return at


def _token_after(
    fast: Any, marks: Marks, place: tuple[str, int, int], ids: list[int], array: TokenArray
) -> int:
    """The number of tokens before a border of a text, -1 where it falls inside a token. ``place``: the text,
    where the control token before the border begins, and the border."""
    text, start, border = place
    tail = text[start:border]
    expected = marks.tails.get(tail)
    if expected is None:
        if len(marks.tails) >= CACHED_TAILS:
            marks.tails.clear()
        expected = marks.tails[tail] = fast.encode(tail, add_special_tokens=False).ids
    number = expected[0]
    mark = marks.names.get(number, "")
    if not mark or not tail.startswith(mark):
        return -1
    same = np.flatnonzero(array == number)
    if len(same) != text.count(mark):  # a longer control token begins with this one
        return -1
    first = int(same[text.count(mark, 0, start)])
    return first + len(expected) if ids[first : first + len(expected)] == expected else -1


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
