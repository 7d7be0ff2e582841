"""Lines and dots on the canvas, worked by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.ui.views.plot_canvas import (
    Columns,
    Stroke,
    add_line,
    add_points,
    canvas,
    coarser,
    widened,
)


def lines(strokes: list[Stroke], width: int, height: int) -> list[str]:
    return ["".join(text for text, _ in row) for row in canvas(strokes, width, height)]


def test_a_flat_a_steep_and_a_vertical_line() -> None:
    flat, steep, upright = Columns(), Columns(), Columns()
    add_line(flat, [(0, 1), (3, 1)], 4)
    assert flat == {0: 0b10, 1: 0b10, 2: 0b10, 3: 0b10}
    add_line(steep, [(0, 0), (1, 4)], 8)
    assert steep == {0: 0b00111, 1: 0b11100}, "half of the way up in each column"
    add_line(upright, [(2, 6), (2, 3)], 5)
    assert upright == {2: 0b11000}, "what is above the canvas is left out"


def test_dots_become_the_characters_of_unicode() -> None:
    # dots from below: left 0 and 3 are dots 7 and 1 of braille, right 1 is dot 6
    assert lines([Stroke("train", "braille", {0: 0b1001, 1: 0b0010})], 2, 1) == ["⡡ "]
    assert lines([Stroke("train", "braille", {0: 0b1111, 1: 0b1111})], 1, 1) == ["⣿"]
    assert lines([Stroke("train", "hd", {0: 0b0110, 1: 0b0001})], 1, 2) == ["▖", "▚"]
    assert lines([Stroke("train", "X", {0: 0b10, 2: 0b01})], 3, 2) == ["X  ", "  X"]


def test_a_later_stroke_covers_the_cells_of_an_earlier_one() -> None:
    strokes = [Stroke("train", "braille", {0: 1, 2: 1}), Stroke("validation", "●", {1: 1})]
    assert canvas(strokes, 3, 1) == [[("⡀", "train"), ("●", "validation"), (" ", "axis")]]


def test_wider_and_coarser() -> None:
    assert widened({3: 0b100}, 1) == {3: 0b100}
    assert widened({3: 0b100}, 2) == {3: 0b110}
    assert widened({3: 0b100}, 3) == {3: 0b110, 4: 0b110}
    # dots 1 and 6 of two by four in a cell are rows 0 and 1 of cells
    assert coarser({5: 0b1000010}, (2, 4), (1, 1)) == {2: 0b11}
    found = Columns()
    add_points(found, [(1, 2), (1, 0), (1, 9)], 4)
    assert found == {1: 0b101}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(-20, 40)), min_size=1, max_size=20))
def test_neighbouring_dots_of_a_line_touch(points: list[tuple[int, int]]) -> None:
    points = sorted(dict(points).items())
    found = Columns()
    add_line(found, [(x, y + 20) for x, y in points], 61)
    assert all(found[x] >> y + 20 & 1 for x, y in points), "it goes through its points"
    columns = sorted(found)
    assert columns == list(range(columns[0], columns[-1] + 1))
    for x in columns[1:]:
        here, before = found[x], found[x - 1]
        assert here & (before | before << 1 | before >> 1), "no gap between columns"
