"""Texts fitted to cells, by hand-worked cases and for any text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.views.spans import cut, fit, fitting, labelled


@given(st.text(max_size=30), st.integers(0, 20), st.booleans())
def test_a_fitted_text_has_exactly_its_width(text: str, width: int, right: bool) -> None:
    shown = sanitize(text)
    assert cell_len(fit(shown, width, right)) == width
    assert cell_len(cut(shown, width)) <= width
    if cell_len(shown) > width > 0:
        assert fit(shown, width).rstrip().endswith("…") and cut(shown, width).endswith("…")


def test_alignment() -> None:
    assert (fit("ab", 4), fit("ab", 4, right=True), fit("abcde", 4), cut("ab", 4)) == (
        "ab  ",
        "  ab",
        "abc…",
        "ab",
    )


def test_the_last_pieces_are_left_out_first() -> None:
    assert fitting(["one", "", "two", "three"], 9, " · ") == ["one", "two"]
    assert fitting(["much too long"], 4) == ["much too long"]
    assert fitting([], 4) == []


def test_a_label_has_a_colon_and_a_sign_has_none() -> None:
    assert labelled("data", "4 rows") == [("data: ", "title"), ("4 rows\n", "")]
    assert labelled("✗", "failed", "red")[0] == ("✗ ", "title")
    assert labelled("data", "") == []
