"""Curves, their smoothing and their reduction for plots: properties that must hold for any curve."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.runs.curves import MOST_PARTS, Curve, reduce, smooth

finite = st.floats(-1e9, 1e9)
values = st.one_of(finite, finite, finite, st.sampled_from([math.nan, math.inf, -math.inf]))
curves = st.lists(values, min_size=1, max_size=300)


def column_of(x: float, left: float, right: float, columns: int) -> int:
    """Which of ``columns`` parts of left..right holds x: written again, by counting edges."""
    edges = [left + (right - left) * c / columns for c in range(1, columns)]
    return sum(x >= edge for edge in edges)


@settings(max_examples=300, deadline=None)
@given(ys=curves, columns=st.integers(2, 60), gap=st.integers(1, 7))
def test_each_column_keeps_its_extremes_and_its_gaps(ys: list[float], columns: int, gap: int) -> None:
    xs = [float(i * gap) for i in range(len(ys))]
    out_x, out_y = reduce(xs, ys, columns)
    assert len(out_x) == len(out_y)
    assert out_x == sorted(out_x)
    before: dict[int, list[float]] = {}
    after: dict[int, list[float]] = {}
    for x, y in zip(xs, ys, strict=True):
        before.setdefault(column_of(x, xs[0], xs[-1], columns) if len(xs) > 1 else 0, []).append(y)
    for x, y in zip(out_x, out_y, strict=True):
        after.setdefault(column_of(x, xs[0], xs[-1], columns) if len(xs) > 1 else 0, []).append(y)
    assert before.keys() == after.keys()
    for column, all_values in before.items():
        kept = after[column]
        assert len(kept) <= 4
        finite_before = [y for y in all_values if math.isfinite(y)]
        finite_after = [y for y in kept if math.isfinite(y)]
        if finite_before:
            assert min(finite_after) == min(finite_before)
            assert max(finite_after) == max(finite_before)
        else:
            assert not finite_after
        assert any(map(math.isnan, kept)) == any(not math.isfinite(y) for y in all_values)


@settings(max_examples=200, deadline=None)
@given(ys=curves, columns=st.integers(2, 60))
def test_no_line_crosses_a_gap_between_columns(ys: list[float], columns: int) -> None:
    xs = [float(i) for i in range(len(ys))]
    out_x, out_y = reduce(xs, ys, columns)
    for (x1, y1), (x2, y2) in pairwise(zip(out_x, out_y, strict=True)):
        if not (math.isfinite(y1) and math.isfinite(y2)):
            continue
        left, right = column_of(x1, xs[0], xs[-1], columns), column_of(x2, xs[0], xs[-1], columns)
        if left != right:
            between = ys[bisect_left(xs, x1) : bisect_left(xs, x2) + 1]
            assert all(map(math.isfinite, between))


def test_a_spike_of_one_step_in_a_hundred_thousand_survives() -> None:
    ys = [1.0] * 100_000
    ys[54_321] = 99.0
    out_x, out_y = reduce(range(100_000), ys, 100)
    assert max(out_y) == 99.0 and out_x[out_y.index(99.0)] == 54_321.0
    assert len(out_x) <= 400


def curve_of(ys: list[float]) -> Curve:
    curve = Curve()
    for step, y in enumerate(ys, start=1):
        curve.add(step, y)
    return curve


def test_an_outline_keeps_spikes_and_gaps_and_grows_with_its_curve() -> None:
    curve = curve_of([1.0] * 1_000)
    assert max(curve.outline()[1]) == 1.0
    for step in range(1_001, 50_001):
        curve.add(step, 99.0 if step == 31_234 else math.nan if 40_000 <= step < 40_100 else 1.0)
    xs, ys = curve.outline()
    assert len(xs) <= 4 * MOST_PARTS and xs == sorted(xs)
    assert xs[ys.index(99.0)] == 31_234.0
    assert xs[-1] == 50_000.0 or ys[-1] == 1.0
    assert any(math.isnan(y) and 40_000 <= x < 40_100 for x, y in zip(xs, ys, strict=True))


def test_an_outline_and_a_smoothed_curve_follow_a_resume() -> None:
    curve = curve_of([5.0] * 100)
    assert len(curve.smoothed(0.8).values) == len(curve.steps)
    curve.add(40, 1.0)  # an attempt that continues from step 39
    assert 5.0 in curve.outline()[1] and curve.outline()[0][-1] == 40.0
    assert curve.smoothed(0.8).steps == list(range(1, 41))
    assert curve.smoothed(0.8).values == smooth([5.0] * 39 + [1.0], 0.8)


@settings(max_examples=100, deadline=None)
@given(ys=curves, parts=st.integers(1, 5))
def test_a_smoothed_curve_is_the_same_in_portions(ys: list[float], parts: int) -> None:
    curve = Curve()
    for step, y in enumerate(ys, start=1):
        curve.add(step, y)
        if step % parts == 0:
            curve.smoothed(0.9)
    found, expected = curve.smoothed(0.9).values, smooth(ys, 0.9)
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found, expected, strict=True))
