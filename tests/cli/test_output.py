"""Tables that fit their terminal, colours, and the progress line."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui_lab.cli.output import Progress, columns, cut, fitted, has_colours, table, table_lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 120), st.sets(st.integers(0, 7)))
def test_widths_fit_and_nothing_is_cut_without_need(natural: list[int], width: int, right: set[int]) -> None:
    widths = fitted(natural, width, tuple(right))
    assert all(0 <= made <= wanted for made, wanted in zip(widths, natural, strict=True))
    assert sum(widths) <= max(width, len(natural))
    if sum(natural) <= width:
        assert widths == natural


def test_texts_are_cut_from_the_last_to_the_first_and_numbers_after_them() -> None:
    assert fitted([20, 6, 30], 40, right=(1,)) == [20, 6, 14]
    assert fitted([20, 6, 30], 30, right=(1,)) == [16, 6, 8]
    assert fitted([20, 6, 30], 9, right=(1,)) == [3, 3, 3]


@given(st.text(max_size=30), st.integers(1, 20))
def test_a_cut_text_fits_and_ends_in_an_ellipsis(text: str, width: int) -> None:
    made = cut(text, width)
    assert made == text or (cell_len(made) <= width and made.endswith("…"))


def test_wide_letters_are_counted_in_cells() -> None:
    assert table_lines([["名前", "n"], ["模型模型模型", "12"]], 10, right=(1,)) == [
        "名前     n",
        "模型…   12",
    ]


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_a_table_is_never_wider_than_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    table(("name", "value", "why"), [["a" * 50, "1", "b" * 50], ["c", "2", ""]], right=(1,))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 and max(map(len, lines)) <= width
    assert "\033" not in out.getvalue() and ("…" in lines[1]) == (width < 109)


def test_a_pipe_gets_whole_cells_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "20")
    table(("name",), [["a" * 500]])
    assert out.getvalue() == f"name\n{'a' * 500}\n"


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert has_colours(Terminal()) and not has_colours(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colours(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(Terminal())


def test_the_width_of_a_stream_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert columns(io.StringIO()) == 80
    monkeypatch.setenv("COLUMNS", "wide")
    assert columns(io.StringIO()) == 80


@pytest.mark.parametrize("width", [20, 59, 100])
def test_the_progress_line_has_a_bar_the_count_and_the_time_left(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", str(width))
    now = 100.0
    progress = Progress(clock=lambda: now)
    progress.on_progress("everyday: base", 0, 400)
    now = 110.0
    progress.on_progress("everyday: base", 100, 400)
    progress.close()
    first, last, closed = err.getvalue().split("\r\033[K")[1:]
    assert first.rstrip().endswith("0/400") and "left" not in first
    assert width == 20 or last.endswith("100/400 · 0:30 left")  # 10 s for 100 of them: 30 s for 300
    assert max(cell_len(first), cell_len(last)) < width and closed == ""
    assert ("█████···············" in last) == (width == 100)


def test_a_new_stage_begins_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", "80")
    now = 0.0
    progress = Progress(clock=lambda: now)
    for now, text, done in ((0.0, "base", 0), (50.0, "base", 10), (60.0, "tuned", 0), (62.0, "tuned", 5)):  # noqa: B007
        progress.on_progress(text, done, 10)
    assert re.findall(r"([\d:]+) left", err.getvalue()) == ["0:00", "0:02"]
