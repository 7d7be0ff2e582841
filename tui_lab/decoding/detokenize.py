"""Streaming detokenisation: text from tokens one by one, without broken characters and without stop strings.

A token may be a part of a character (byte-level vocabularies), so a short window of tokens is decoded at
once, and an incomplete character at its end waits for the next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Decode = Callable[[list[int]], str]

_INCOMPLETE = "\ufffd"
#: A UTF-8 character has at most four bytes, so at most three tokens can wait for its end.
_MAX_WAITING = 3
#: A window of this many tokens restarts at a token that is text by itself, so that decoding stays O(1).
_WINDOW = 16
#: Without such a token the window restarts at this length, after its last complete character.
_LONGEST_WINDOW = 64


class SupportsDecode(Protocol):
    """What is needed of a transformers tokenizer."""

    def decode(
        self,
        token_ids: list[int],
        /,
        skip_special_tokens: bool = False,
        *,
        clean_up_tokenization_spaces: bool = False,
    ) -> str | list[str]:
        """The text of the tokens."""


def decoder_of(tokenizer: SupportsDecode) -> Decode:
    """A function that decodes token ids without special tokens and without cleaning up spaces."""

    def decode(ids: list[int]) -> str:
        if not ids:
            return ""
        return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    return decode


class TextStream:
    """The text of a growing sequence of tokens. ``push`` returns the text that a token completes, ``flush``
    the text that still waits."""

    def __init__(self, decode: Decode, stop_strings: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = [s for s in stop_strings if s]
        self._anchor: list[int] = []  # the token before the window: it decides whether a space is decoded
        self._window: list[int] = []
        self._waiting = 0  # tokens since the text last ended with a complete character
        self._given = ""  # text of anchor and window that has been returned
        self._tail = ""  # text that may be the start of a stop string
        self.text = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty after ``stopped``."""
        if self.stopped:
            return ""
        self._window.append(token_id)
        text = self._decode(self._anchor + self._window)
        # Some vocabularies decode a run of byte tokens at once, and one incomplete character at its end makes
        # the whole run undecodable, so tokens are counted instead of replacement characters.
        self._waiting = self._waiting + 1 if text.endswith(_INCOMPLETE) else 0
        ready = text.rstrip(_INCOMPLETE) if self._waiting else text
        if self._waiting > _MAX_WAITING:
            # invalid bytes, not the start of a character; only the last one can still become one
            self._waiting, ready = 1, text[:-1]
        fresh = self._fresh(ready)
        if not self._waiting and len(self._window) >= _WINDOW:
            self._restart()
        return self._release(fresh)

    def flush(self) -> str:
        """The waiting text, when no token follows."""
        if self.stopped:
            return ""
        out = self._release(self._fresh(self._decode(self._anchor + self._window)))
        if not self.stopped:
            out += self._tail
            self.text += self._tail
            self._tail = ""
        return out

    def _fresh(self, ready: str) -> str:
        # an invalid byte can change how earlier bytes decode; text that was returned is never changed
        fresh = ready[len(self._given) :]
        self._given += fresh
        return fresh

    def _restart(self) -> None:
        """Starts a new window after the last token that is text by itself, not a part of a character."""
        for token in reversed(self._window):
            alone = self._decode([token])
            if alone and _INCOMPLETE not in alone:
                self._anchor, self._given, self._window = [token], alone, []
                return
        if len(self._window) < _LONGEST_WINDOW:
            return
        # a run of byte tokens: its last character, of several tokens, is text by itself
        for size in range(2, _MAX_WAITING + 2):
            tail = self._window[-size:]
            alone = self._decode(tail)
            if alone and _INCOMPLETE not in alone:
                self._anchor, self._given, self._window = tail, alone, []
                return
        self._given, self._window = self._decode(self._anchor), []

    def _release(self, fresh: str) -> str:
        """Holds back an end that may become a stop string; cuts at a complete one."""
        if not self._stops:
            self.text += fresh
            return fresh
        text = self._tail + fresh
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            out = text[: min(found)]
            self._tail = ""
            self.stopped = True
        else:
            pending = max(
                (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
            )
            out = text[: len(text) - pending]
            self._tail = text[len(out) :]
        self.text += out
        return out
