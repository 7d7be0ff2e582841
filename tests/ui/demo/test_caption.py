"""The bar of captions: it fits whatever the width, says of a recording that it is one before anything else,
and shows hostile text as text."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_lab.ui.demo.caption import Caption, rows, status, wrapped

LABEL = "recorded earlier, 2026-01-02, some CPU, 2 cores"
KEYS, BRIEF = "Space hold, ← → chapter, Q leave", "Space ← → Q"


def line(said: Caption, width: int, ascii_only: bool = False) -> str:
    return "".join(text for text, _ in status(said, width, ascii_only))


@settings(max_examples=60)
@given(st.text(max_size=300), st.text(max_size=60), st.text(max_size=90), st.integers(58, 220))
def test_the_caption_never_exceeds_its_width(text: str, title: str, label: str, width: int) -> None:
    lines = wrapped(text, width, rows(width))
    assert len(lines) == rows(width) and all(cell_len(each) <= width for each in lines)
    told = line(Caption(text, title, 3, 7, label, KEYS, BRIEF), width)
    assert cell_len(told) <= width
    assert not any(unicodedata.category(char) == "Cc" for char in told + "".join(lines))


def test_keys_get_shorter_before_the_label_does() -> None:
    said = Caption("", "Playground", 3, 7, LABEL, KEYS, BRIEF)
    assert line(said, 120) == f"▶ ●●●○○○○ Playground · {LABEL} · {KEYS}"
    assert line(said, 85) == f"▶ ●●●○○○○ Playground · {LABEL} · {BRIEF}"
    assert line(said, 78) == f"▶ ●●●○○○○ {LABEL} · {BRIEF}"
    assert line(said, 58) == f"▶ ●●●○○○○ {LABEL}"
    assert line(replace(said, label=f"naive {LABEL}"), 58) == f"▶ ●●●○○○○ naive {LABEL}"[:57].rstrip() + "…"


def test_paused_and_ascii() -> None:
    said = Caption("", "Train", 2, 7, "", "keys", "keys", paused=True)
    assert line(said, 78) == "‖ ●●○○○○○ Train · keys"
    assert line(said, 78, ascii_only=True) == "|| ##..... Train | keys"


def test_captions_of_the_story_fit_the_smallest_common_window() -> None:
    from tui_lab.ui.demo.script import CHAPTERS

    class Values(dict[str, str]):
        def __missing__(self, key: str) -> str:
            return "0.123456"

    values = Values(base="x" * 20, tuned="x" * 20, forecast="about 1.93 GiB of memory, fits")
    for chapter in CHAPTERS:
        for beat in chapter.beats:
            for text in (beat.caption, beat.replay or "", beat.waiting):
                said = text.format_map(values)
                assert "…" not in "".join(wrapped(said, 78, rows(80))), f"{chapter.title}: {said}"
