"""Nothing that a terminal could act on, or a reader could be fooled by, comes through."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.sanitize import first_line, sanitize

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
NASTY = st.sampled_from(
    "\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\u2028\u2029\u200b\ufeff\U000e0041\ud800" + "".join(BIDI)
)


@given(st.text(st.characters() | NASTY), st.booleans())
def test_no_control_comes_through(text: str, keep: bool) -> None:
    shown = sanitize(text, keep_newlines=keep)
    for char in shown:
        code = ord(char)
        assert not (code < 0x20 or 0x7F <= code < 0xA0) or (keep and char == "\n")
        assert char not in BIDI
        assert unicodedata.category(char) not in ("Cs", "Co", "Zl", "Zp")
    shown.encode("utf-8")
    assert sanitize(shown, keep_newlines=keep) == shown
    if keep:
        assert shown.count("\n") == text.count("\n")


@given(
    st.text(
        st.characters(
            categories=["L", "N", "P", "S", "Zs"], exclude_characters="\u115f\u1160\u3164\uffa0\u2800"
        )
    )
)
def test_ordinary_text_stays(text: str) -> None:
    assert sanitize(text) == text


def test_known_attacks() -> None:
    assert sanitize("\x1b[31mred\x1b]0;title\x07") == "␛[31mred␛]0;title␇"
    assert sanitize("a\u202eb\r\n") == "a⟨U+202E⟩b␍␊"
    assert sanitize("a\tb\x7f\x9b", keep_newlines=True) == "a␉b␡⟨U+009B⟩"
    assert sanitize("👨\u200d👩 می\u200cخواهم") == "👨\u200d👩 می\u200cخواهم"


def test_the_first_line_of_a_message_holds_no_tab() -> None:
    assert first_line(ValueError("'\t' expected\nand more")) == "'␉' expected"
