"""Text out of tokens: no broken character, nothing of a stop string, and streamed text never changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tui_lab.decoding.detokenize import TextStream, decoder_of

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level() -> Any:
    """One token a byte."""
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(LETTERS)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def byte_fallback() -> Any:
    """Words with a leading mark for spaces, and bytes for all else, as in Llama's vocabulary."""
    words = ["<unk>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "▁a", "b", "▁the", "cat", "é"]
    inner = Tokenizer(
        models.BPE({w: i for i, w in enumerate(words)}, [], byte_fallback=True, unk_token="<unk>")
    )
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


BYTES, FALLBACK = byte_level(), byte_fallback()


def stream(
    decode: Callable[[list[int]], str], ids: list[int], stops: tuple[str, ...] = ()
) -> tuple[list[str], TextStream]:
    made = TextStream(decode, stops)
    pieces = [made.push(token) for token in ids]
    pieces.append(made.flush())
    assert "".join(pieces) == made.text
    return pieces, made


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
@example("\U00010000" * 16 + " ")  # a run of bytes as long as the window, then a space
def test_no_character_is_ever_broken(text: str) -> None:
    for tokenizer, ids in (
        (BYTES, BYTES(text)["input_ids"]),
        (FALLBACK, [byte + 1 for byte in text.encode()]),
    ):
        decode = decoder_of(tokenizer)
        pieces, made = stream(decode, ids)
        if "\ufffd" not in text:  # the mark of damage: in a run of bytes both look the same
            assert made.text == decode(ids)
            assert all("\ufffd" not in piece for piece in pieces)


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), max_size=80))
def test_damaged_bytes_never_hang_or_crash(ids: list[int]) -> None:
    decode = decoder_of(BYTES)
    made = TextStream(decode)
    for at, token in enumerate(ids, 1):
        made.push(token)
        assert len(decode(ids[:at])) - len(made.text) <= 3  # nothing waits for longer than a character
    made.flush()
    assert made.text == decode(ids)


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 2, 234, 196, 170, 257, 258, 259, 260, 261, 262]), max_size=100))
def test_spaces_of_word_vocabularies_stay(ids: list[int]) -> None:
    decode = decoder_of(FALLBACK)
    decoded = decode(ids)
    _, made = stream(decode, ids)
    if "\ufffd" not in decoded:
        assert made.text == decoded


def test_emoji_arrive_whole() -> None:
    ids = BYTES("a👩‍🚀é")["input_ids"]
    pieces, _ = stream(decoder_of(BYTES), ids)
    assert [p for p in pieces if p] == ["a", "👩", "\u200d", "🚀", "é"]


@settings(deadline=None)
@given(
    st.text(alphabet="abcé", max_size=40),
    st.lists(st.text(alphabet="abcé", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stop_strings_are_never_emitted(text: str, stops: list[str]) -> None:
    pieces, made = stream(decoder_of(BYTES), BYTES(text)["input_ids"], tuple(stops))
    # the text is cut where the first whole stop string arrives, byte by byte
    expected, stopped = text, False
    for end in range(1, len(text) + 1):
        found = [at for s in stops if (at := text[:end].find(s)) >= 0]
        if found:
            expected, stopped = text[: min(found)], True
            break
    assert made.text == expected and made.stopped == stopped
    assert "".join(pieces) == expected


@pytest.mark.parametrize("count", [10_000])
def test_long_text_without_a_space_is_quick(count: int) -> None:
    calls = 0
    inner = decoder_of(BYTES)

    def counted(ids: list[int]) -> str:
        nonlocal calls
        calls += len(ids)
        return inner(ids)

    _, made = stream(counted, [LETTERS.index("x")] * count)
    assert made.text == "x" * count
    assert calls < 30 * count  # decoding a token costs the same at the end as at the beginning
