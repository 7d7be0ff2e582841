"""Curves of several runs: three axes, one letter for each run, never in a gap."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.runs.overlay import RunCurves
from tui_lab.ui.views import runs_plots
from tui_lab.ui.views.plot_draw import draw
from tui_lab.ui.views.plot_series import PlotOptions, plain


def curves(values: list[float], metric: str = "loss") -> RunCurves:
    made = RunCurves()
    for step, value in enumerate(values, start=1):
        made.points[metric].add(step, step * 100, step * 30.0, value)
    return made


def test_curves_differ_by_letters() -> None:
    made = [curves([3.0 - i / 10, 2.0 - i / 10, 1.0 - i / 10]) for i in range(3)]
    series, title = runs_plots.overlay(made, "loss", "steps")
    text = plain(draw(series, 80, 20, PlotOptions(title)))
    assert title == "training loss by steps"
    assert all(letter in text for letter in "ABC")
    assert [one.mark for one in series] == ["", "", "", "A", "B", "C"], "letters lie over all curves"


def test_the_axes() -> None:
    made = [curves([1.0] * 10)]
    (line, _), _ = runs_plots.overlay(made, "loss", "tokens")
    assert list(line.xs)[-1] == 1000
    (line, _), title = runs_plots.overlay(made, "loss", "time")
    assert title.endswith("by time (min)") and list(line.xs)[-1] == 5.0
    assert runs_plots.time_unit(60) == (1.0, "s") and runs_plots.time_unit(1e6) == (3600.0, "h")


def test_many_points_are_smoothed_and_the_title_says_so() -> None:
    noisy = [1.0 + (-1) ** n for n in range(200)]
    series, title = runs_plots.overlay([curves(noisy)], "loss", "steps")
    assert "(smoothed)" in title and max(series[0].ys[50:]) < 1.5
    assert "(smoothed)" not in runs_plots.overlay([curves(noisy, "validation")], "validation", "steps")[1]


def test_runs_without_a_metric_keep_the_letters_of_others() -> None:
    series, _ = runs_plots.overlay([RunCurves(), curves([1.0, 2.0])], "loss", "steps")
    assert [one.mark for one in series] == ["", "B"]
    assert runs_plots.overlay([], "loss", "steps")[0] == []


@given(st.lists(st.floats(0, 10) | st.just(math.nan), min_size=1, max_size=60), st.integers(1, 9))
def test_letters_are_drawn_at_values(values: list[float], many: int) -> None:
    series, _ = runs_plots.overlay([curves(values)] * many, "validation", "steps")
    for one in series:
        if one.mark:
            assert len(one.xs) == len(one.ys) and all(map(math.isfinite, one.ys))
    draw(series, 60, 15, PlotOptions("x"))


def test_letters_for_any_number() -> None:
    assert [runs_plots.letter(n) for n in (0, 25, 26, 51, 52)] == ["A", "Z", "a", "z", "A"]
