"""Turns tokens into text one by one: no character is ever broken, and nothing of a stop string is shown.

A token may hold a part of a character (byte-level vocabularies) or of nothing visible at all, so text is
decoded over a short window of tokens and an unfinished end waits for the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]

_UNFINISHED = "\ufffd"
#: A UTF-8 character has at most four bytes, so at most three tokens can be waiting for its end.
_MAX_WAITING = 3
#: The window starts anew at a token whose text is whole once it holds this many: decoding stays O(1).
_WINDOW = 16
#: Without any such token the window starts anew at this length, behind its last whole character.
_LONGEST_WINDOW = 64


def decoder_of(tokenizer: object) -> Decode:
    """Decodes token ids without special tokens and without cleaning up spaces."""

    def decode(ids: list[int]) -> str:
        return (
            ""
            if not ids
            else str(
                tokenizer.decode(  # type: ignore[attr-defined]
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
            )
        )

    return decode


class TextStream:
    """The text of a growing row of tokens. ``push`` returns what a token adds, ``flush`` what still waits."""

    def __init__(self, decode: Decode, stop_strings: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = [s for s in stop_strings if s]
        self._anchor: list[int] = []  # a token with text of its own: whether a space shows depends on it
        self._window: list[int] = []
        self._waiting = 0  # tokens since the text last ended on a whole character
        self._given = ""  # text of anchor and window that is out already
        self._tail = ""  # text that could be the start of a stop string
        self.text = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """The text that this token completes. After ``stopped`` nothing comes any more."""
        if self.stopped:
            return ""
        self._window.append(token_id)
        whole = self._decode(self._anchor + self._window)
        # Word vocabularies decode a run of bytes as a whole: one unfinished character at its end makes all of
        # the run unreadable, so the number of tokens is counted and not that of the marks.
        self._waiting = self._waiting + 1 if whole.endswith(_UNFINISHED) else 0
        ready = whole.rstrip(_UNFINISHED) if self._waiting else whole
        if self._waiting > _MAX_WAITING:
            # damage, not the beginning of a character; only the last mark can still become one
            self._waiting, ready = 1, whole[:-1]
        fresh = self._fresh(ready)
        if not self._waiting and len(self._window) >= _WINDOW:
            self._restart()
        return self._release(fresh)

    def flush(self) -> str:
        """What was held back, now that no token follows."""
        if self.stopped:
            return ""
        out = self._release(self._fresh(self._decode(self._anchor + self._window)))
        if not self.stopped:
            out += self._tail
            self.text += self._tail
            self._tail = ""
        return out

    def _fresh(self, ready: str) -> str:
        # a damaged byte can change how the bytes before it read: what is out stays out
        fresh = ready[len(self._given) :]
        self._given += fresh
        return fresh

    def _restart(self) -> None:
        """Begins a new window behind the last token that is text by itself (parts of characters are not)."""
        for token in reversed(self._window):
            alone = self._decode([token])
            if alone and _UNFINISHED not in alone:
                self._anchor, self._given, self._window = [token], alone, []
                return
        if len(self._window) < _LONGEST_WINDOW:
            return
        # a run of bytes: its last character, of several tokens, is text by itself
        for size in range(2, _MAX_WAITING + 2):
            tail = self._window[-size:]
            alone = self._decode(tail)
            if alone and _UNFINISHED not in alone:
                self._anchor, self._given, self._window = tail, alone, []
                return
        self._given, self._window = self._decode(self._anchor), []

    def _release(self, fresh: str) -> str:
        """Holds back an end that may become a stop string; cuts at a whole one."""
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
            held = max(
                (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
            )
            out = text[: len(text) - held]
            self._tail = text[len(out) :]
        self.text += out
        return out
