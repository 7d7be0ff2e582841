"""Names beside points: they cover nothing, and have their place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.ui.views.plot_canvas import Cell
from tui_lab.ui.views.plot_labels import label_points


def canvas(points: list[tuple[int, int]], width: int = 30, height: int = 5) -> list[list[Cell]]:
    cells: list[list[Cell]] = [[(" ", "")] * width for _ in range(height)]
    for column, row in points:
        cells[row][column] = ("●", "runs")
    return cells


def rows(cells: list[list[Cell]]) -> list[str]:
    return ["".join(char for char, _ in row) for row in cells]


def test_a_name_is_at_the_right_else_at_the_left_else_above_or_below() -> None:
    points = [(3, 2), (27, 2), (20, 2)]
    cells = canvas(points)
    label_points(cells, points, ["one", "two", "three"], "runs")
    shown = rows(cells)
    assert shown[2].startswith("   ● one") and shown[2].rstrip().endswith("●")
    assert "two ●" in shown[2]
    assert "three" in shown[1] or "three ●" in shown[2]


def test_a_name_that_has_no_place_is_shortened_or_left_out() -> None:
    cells = canvas([(5, 0)], width=16, height=1)
    label_points(cells, [(5, 0)], ["a very long name"], "runs")
    assert rows(cells) == ["     ● a very l…"]
    cells = canvas([(1, 0)], width=4, height=1)
    label_points(cells, [(1, 0)], ["long"], "runs")
    assert rows(cells) == [" ●  "]


@given(
    st.lists(st.tuples(st.integers(0, 29), st.integers(0, 4)), unique=True, max_size=12),
    st.lists(st.text(max_size=40), max_size=12),
)
def test_no_name_covers_a_point_and_rows_keep_their_width(
    points: list[tuple[int, int]], names: list[str]
) -> None:
    cells = canvas(points)
    label_points(cells, points, [name.replace("●", "") for name in names], "name")
    assert all(len(row) == 30 for row in cells)
    assert all(cells[row][column] == ("●", "runs") for column, row in points)
