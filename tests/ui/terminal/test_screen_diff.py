"""What is sent in place of what Textual would send leaves the same letters in the same styles on a terminal,
and is less. The terminal is tests/screen.py, which shares no code with either."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.screen import Screen
from tui_lab.ui.terminal.screen_diff import Frame, between, parse

COLUMNS, ROWS = 24, 5
STYLES = (
    "",
    "1",
    "38;2;1;2;3",
    "48;5;7",
    "1;31;48;2;9;9;9",
    "2;31",
    "7;48;2;9;9;9",
    "38;2;1;2;3;48;2;9;9;9",
    "97;44",
)
# letters of one cell, of two, of none, joined ones, and one that is nowhere to be found
LETTERS = "abc xyz│⠋█é漢字🙂\u0301\u200d\ufe0fÄΩ\U0010fffe"


def cup(row: int, column: int) -> str:
    return f"\x1b[{row};{column}H"


def styled(text: str, codes: str) -> str:
    return f"\x1b[{codes}m{text}\x1b[0m" if codes else text


def shown(*data: str) -> Screen:
    screen = Screen(COLUMNS, ROWS)
    for each in data:
        screen.feed(each)
    assert not screen.unknown
    return screen


@st.composite
def updates(draw: st.DrawFn, letters: str) -> str:
    """What one update may write: some rows, each from some column on, in pieces."""
    out = []
    for row in sorted(draw(st.sets(st.integers(1, ROWS), min_size=1))):
        out.append(cup(row, draw(st.integers(1, COLUMNS - 8))))
        pieces = draw(
            st.lists(
                st.tuples(st.text(letters, min_size=1, max_size=5), st.sampled_from(STYLES)),
                min_size=1,
                max_size=3,
            )
        )
        out += [styled(text, codes) for text, codes in pieces]
        out.append("\n")
    return "".join(out).rstrip("\n")


@settings(max_examples=60)
@given(st.lists(updates("abc xy│⠋█Ω"), min_size=1, max_size=6))
def test_single_cell_characters_are_drawn_exactly(many: list[str]) -> None:
    frame, meant, got = Frame(), Screen(COLUMNS, ROWS), Screen(COLUMNS, ROWS)
    for data in many:
        lean = frame.diff(data)
        meant.feed(data)
        got.feed(lean)
        assert got.cells == meant.cells
        assert got.style == frozenset()  # nothing is left for whoever writes next
        assert frame.diff(data) == "", "what stands there already is not sent again"


@settings(max_examples=60)
@given(st.lists(updates(LETTERS), min_size=1, max_size=5), updates("abc xyz"))
def test_ambiguous_characters_leave_other_cells_exact(many: list[str], last: str) -> None:
    frame, got = Frame(), Screen(COLUMNS, ROWS)
    for data in many:
        got.feed(frame.diff(data))
    # a whole repaint in letters that everybody agrees about is right again
    blank = "\n".join(cup(row, 1) + " " * COLUMNS for row in range(1, ROWS + 1))
    got.feed(frame.diff(blank))
    got.feed(frame.diff(last))
    assert got.cells == shown(blank, last).cells


def test_one_character_takes_a_move_and_a_style() -> None:
    frame = Frame()
    line = cup(2, 1) + styled("step 119 of 600", "1;38;2;200;200;200;48;2;20;20;30")
    frame.diff(line)
    lean = frame.diff(line.replace("119", "120"))
    assert shown(line, lean).row(1).startswith("step 120 of 600")
    assert len(lean) < len(line)
    assert lean == f"{cup(2, 7)}\x1b[1;38;2;200;200;200;48;2;20;20;30m20\x1b[0m"


def test_short_gaps_are_written_and_long_ones_skipped() -> None:
    frame = Frame()
    frame.diff(cup(1, 1) + "a..b............c")
    assert frame.diff(cup(1, 1) + "A..B............C") == "\x1b[1HA..B\x1b[12CC"


def test_adjacent_styles_share_codes() -> None:
    data = cup(1, 1) + styled("ab", "38;2;1;2;3;48;2;9;9;9") + styled("cd", "38;2;4;5;6;48;2;9;9;9")
    assert Frame().diff(data) == "\x1b[1H\x1b[38;2;1;2;3;48;2;9;9;9mab\x1b[38;2;4;5;6mcd\x1b[0m"


@given(st.sampled_from(STYLES), st.sampled_from(STYLES))
def test_any_style_follows_any_other(before: str, after: str) -> None:
    screen = shown(styled("", before)[:-4] if before else "", between(before, after), "x")
    assert screen.cells[0][0] == shown(styled("x", after)).cells[0][0]


def test_a_change_of_style_alone_is_a_change() -> None:
    frame = Frame()
    frame.diff(cup(1, 1) + "same")
    lean = frame.diff(cup(1, 1) + styled("same", "1"))
    assert shown(lean).cells[0][0] == ("s", frozenset({"1"}))


def test_links_are_kept() -> None:
    data = f"{cup(1, 1)}\x1b]8;id=1;https://example.org\x1b\\{styled('here', '4')}\x1b]8;;\x1b\\ there"
    frame = Frame()
    lean = frame.diff(data)
    assert "\x1b]8;id=1;https://example.org\x1b\\" in lean and lean.index("\x1b]8;;") < lean.index("there")
    assert frame.diff(data) == ""


def test_a_wide_character_sends_its_line_completely() -> None:
    frame = Frame()
    frame.diff(cup(1, 1) + "漢字 and more")
    lean = frame.diff(cup(1, 1) + "漢字 and most")
    assert "漢字 and most" in lean  # a terminal may have put the rest elsewhere
    assert frame.diff(cup(1, 1) + "漢字 and most") == ""
    assert shown(frame.diff(cup(1, 1) + "plain letters"))


def test_overwriting_half_a_wide_character_makes_the_other_half_unknown() -> None:
    frame = Frame()
    first, second = cup(1, 1) + "x漢x", cup(1, 3) + "y"
    frame.diff(first)
    frame.diff(second)
    assert " " in frame.diff(cup(1, 2) + " ")


@pytest.mark.parametrize(
    "strange", ["\x1b[2J", "\x07", "\tx", "text without a place", "\x1b[5;1Hx\ny", "\x1b[1;1H\x1b[1mopen"]
)
def test_unknown_codes_pass_and_clear_the_frame(strange: str) -> None:
    frame = Frame()
    line = cup(1, 1) + "something"
    frame.diff(line)
    assert frame.diff(strange) == strange
    assert "something" in frame.diff(line)


def test_a_cleared_frame_sends_everything() -> None:
    frame = Frame()
    line = cup(1, 1) + "something"
    first = frame.diff(line)
    assert frame.diff(line) == ""
    frame.forget()
    assert frame.diff(line) == first


def test_spans_have_positions() -> None:
    pieces = parse(f"{cup(2, 3)}ab{styled('c', '1')}\n{cup(3, 1)}漢")
    assert pieces is not None
    assert [(p.row, p.column, p.text, p.width) for p in pieces] == [
        (2, 3, "ab", 2),
        (2, 5, "c", 1),
        (3, 1, "漢", 2),
    ]
