"""Makes text from models and data safe to show in a terminal. Control characters can move the cursor or
change colours, bidirectional overrides can reorder a line, and invisible characters can hide a prompt:
``sanitize`` replaces each by a visible glyph."""

from __future__ import annotations

import unicodedata

# Joiners are invisible but part of ordinary writing (Persian, Indic scripts, family emoji), and harmless in a
# terminal.
_HARMLESS_FORMAT = frozenset("\u200c\u200d")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# Blank, although Unicode counts them as letters (category Lo) or marks.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def _glyph(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures: ␛ for escape, ␉ for tab
    if code == 0x7F:
        return "␡"
    return f"⟨U+{code:04X}⟩"


def _needs_glyph(char: str) -> bool:
    if char in _HARMLESS_FORMAT:
        return False
    return unicodedata.category(char) in _INVISIBLE_CATEGORIES or char in _BLANK_LETTERS


def sanitize(text: str, *, keep_newlines: bool = False) -> str:
    """``text`` with every control, bidirectional and invisible character replaced by a visible glyph.

    With ``keep_newlines`` a line feed stays as it is (a carriage return never does). The result is safe to
    write to a terminal; it is not escaped for markup: pass it as plain text, not as a markup string.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if (keep_newlines and char == "\n") or not _needs_glyph(char) else _glyph(char) for char in text
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message for a sentence that names the cause, without a full stop, at most
    200 characters; the error's type where it has no message."""
    line = sanitize(str(error).strip().split("\n")[0].rstrip(".")[:200])
    return line.replace("\t", "␉") or type(error).__name__
