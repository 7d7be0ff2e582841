"""The bar of captions: it fits whatever the width, says of a recording that it is one before anything else,
and shows hostile text as text."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_lab.ui.demo.caption import Said, rows, status, wrapped

LABEL = "recorded earlier, 2026-01-02, some CPU, 2 cores"
KEYS, BRIEF = "Space hold, ← → chapter, Q leave", "Space ← → Q"


def line(said: Said, width: int, ascii_only: bool = False) -> str:
    return "".join(text for text, _ in status(said, width, ascii_only))


@settings(max_examples=60)
@given(st.text(max_size=300), st.text(max_size=60), st.text(max_size=90), st.integers(58, 220))
def test_it_never_is_wider_than_its_place(text: str, title: str, label: str, width: int) -> None:
    lines = wrapped(text, width, rows(width))
    assert len(lines) == rows(width) and all(cell_len(each) <= width for each in lines)
    told = line(Said(text, title, 3, 7, label, KEYS, BRIEF), width)
    assert cell_len(told) <= width
    assert not any(unicodedata.category(char) == "Cc" for char in told + "".join(lines))


def test_keys_get_shorter_before_the_label_does() -> None:
    said = Said("", "Compare", 3, 7, LABEL, KEYS, BRIEF)
    assert line(said, 120) == f"▶ ●●●○○○○ Compare · {LABEL} · {KEYS}"
    assert line(said, 85) == f"▶ ●●●○○○○ Compare · {LABEL} · {BRIEF}"
    assert line(said, 78) == f"▶ ●●●○○○○ {LABEL} · {BRIEF}"
    assert line(said, 58) == f"▶ ●●●○○○○ {LABEL}"
    assert line(replace(said, label=f"naive {LABEL}"), 58) == f"▶ ●●●○○○○ naive {LABEL}"[:58].rstrip()


def test_held_and_ascii() -> None:
    said = Said("", "Tune", 2, 7, "", "keys", "keys", held=True)
    assert line(said, 78) == "‖ ●●○○○○○ Tune · keys"
    assert line(said, 78, ascii_only=True) == "|| ##..... Tune | keys"


def test_captions_of_the_story_fit_the_smallest_common_window() -> None:
    from tui_lab.ui.demo.script import CHAPTERS

    class Long:
        def __getattr__(self, name: str) -> str:
            return "0.123456"

    known = {name: Long() for name in ("naive", "keeper", "keys")}
    for chapter in CHAPTERS:
        for beat in chapter.beats:
            for text in (beat.caption, beat.short or "", beat.waiting):
                said = text.format(
                    **known, base="x" * 20, tuned="x" * 20, forecast="about 1.93 GiB of memory, fits"
                )
                assert "…" not in "".join(wrapped(said, 78, rows(80))), f"{chapter.title}: {said}"
