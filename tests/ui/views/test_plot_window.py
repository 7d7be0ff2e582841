"""Zoom, pan and cursor, worked by hand on a run of 1,000 steps, and what must hold for any keys."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.ui.views.plot_window import NARROWEST, PlotWindow

WHOLE = (0.0, 1_000.0)


def test_zoom_keeps_the_newest_step_in_view_while_a_run_grows() -> None:
    window = PlotWindow().zoomed(True, *WHOLE)
    assert window.view(*WHOLE) == (500.0, 1_000.0)
    assert window.view(0.0, 1_200.0) == (700.0, 1_200.0)
    assert window.zoomed(False, *WHOLE).view(*WHOLE) is None


def test_zoom_goes_around_the_cursor() -> None:
    window = PlotWindow(cursor=200.0).zoomed(True, *WHOLE).zoomed(True, *WHOLE)
    assert window.view(*WHOLE) == (75.0, 325.0)
    assert PlotWindow(cursor=10.0).zoomed(True, *WHOLE).view(*WHOLE) == (0.0, 500.0)


def test_pan_by_a_quarter_and_stop_at_the_ends() -> None:
    window = PlotWindow(width=200.0, end=600.0)
    assert window.panned(-1, *WHOLE).view(*WHOLE) == (350.0, 550.0)
    assert window.panned(1, *WHOLE).view(*WHOLE) == (450.0, 650.0)
    for _ in range(40):
        window = window.panned(-1, *WHOLE)
    assert window.view(*WHOLE) == (0.0, 200.0)
    assert PlotWindow().panned(-1, *WHOLE) == PlotWindow(), "there is nothing to pan to"


def test_the_cursor_begins_at_an_end_and_moves_by_a_sixtieth() -> None:
    assert PlotWindow().pointed(-1, *WHOLE).cursor == 1_000.0
    assert PlotWindow().pointed(1, *WHOLE).cursor == 0.0
    assert PlotWindow(cursor=600.0).pointed(-1, *WHOLE).cursor == 583.0  # 600 - 1000 / 60
    # a run at step 700, whose axis ends at the next round number
    assert PlotWindow().pointed(-1, *WHOLE, 700.0).cursor == 700.0
    assert PlotWindow(cursor=695.0).pointed(1, *WHOLE, 700.0).cursor == 700.0
    near = PlotWindow(width=30.0, end=500.0, cursor=471.0)
    for _ in range(3):
        near = near.pointed(-1, *WHOLE)
    assert near.cursor == 468.0 and near.view(*WHOLE) == (468.0, 498.0), "the window follows"


@given(keys=st.lists(st.sampled_from(["in", "out", "left", "right", "<", ">"]), max_size=40))
def test_any_keys_leave_a_window_inside_of_the_run(keys: list[str]) -> None:
    window = PlotWindow()
    for key in keys:
        if key in ("in", "out"):
            window = window.zoomed(key == "in", *WHOLE)
        elif key in "<>":
            window = window.panned(1 if key == ">" else -1, *WHOLE)
        else:
            window = window.pointed(1 if key == "right" else -1, *WHOLE)
        low, high = window.view(*WHOLE) or WHOLE
        assert 0 <= low < high <= 1_000 and high - low >= NARROWEST
        assert math.isnan(window.cursor) or 0 <= window.cursor <= 1_000


def test_the_cursor_goes_from_point_to_point_where_there_are_few() -> None:
    strengths, ends = (0.0, 0.25, 0.5, 1.0), (0.0, 1.0)
    window = PlotWindow(unit=0.0025)
    assert window.on_points(1, strengths, *ends).cursor == 0.0
    seen = []
    for _ in range(5):
        window = window.on_points(-1, strengths, *ends)
        seen.append(window.cursor)
    assert seen == [1.0, 0.5, 0.25, 0.0, 0.0]
    assert PlotWindow(cursor=0.3).on_points(1, strengths, *ends).cursor == 0.5
    zoomed = PlotWindow(width=0.25, end=1.0, cursor=1.0).on_points(-1, strengths, *ends)
    assert (zoomed.cursor, zoomed.view(*ends)) == (0.5, (0.5, 0.75)), "the window follows it"
    assert PlotWindow().on_points(1, (), *ends) == PlotWindow()


def test_x_that_counts_no_steps_has_a_unit() -> None:
    window = PlotWindow(unit=0.01)
    for _ in range(9):
        window = window.zoomed(True, 0.0, 1.0)
    assert window.view(0.0, 1.0) == (0.96, 1.0), "four units are the narrowest"
    moved = PlotWindow(cursor=0.5, unit=0.01).pointed(1, 0.0, 1.0).cursor
    assert math.isclose(moved, 0.52), "a sixtieth, rounded to units"
