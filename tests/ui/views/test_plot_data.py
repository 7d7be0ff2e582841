"""The reduction and the axes of plots: properties that must hold for any curve."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tui_lab.ui.views.plot_data import (
    linear_axis,
    log_axis,
    nice_step,
    quantity,
    reduce,
    steps_axis,
    tick_label,
)

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


@given(span=st.floats(1e-9, 1e9), most=st.integers(1, 12))
def test_tick_steps_are_round_and_few(span: float, most: int) -> None:
    step = nice_step(span, most)
    assert span / step <= most * (1 + 1e-6)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6


@settings(max_examples=200)
@given(low=finite, span=st.floats(0, 1e9), most=st.integers(1, 8), from_zero=st.booleans())
@example(low=0.0, span=5e-324, most=1, from_zero=False)
@example(low=0.0, span=5e-324, most=2, from_zero=False)
def test_a_linear_axis_contains_the_data_and_has_distinct_labels(
    low: float, span: float, most: int, from_zero: bool
) -> None:
    high = low + span
    axis = linear_axis(low, high, most, from_zero=from_zero)
    assert axis.low <= low <= high <= axis.high
    assert axis.high > axis.low
    assert len(axis.ticks) == len(axis.labels) <= most + 3
    if from_zero and high > 0:
        assert axis.low <= 0


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [
        (0.0, 1.0, "0"),
        (2.5, 0.5, "2.5"),
        (10.0, 5.0, "10"),
        (2e-4, 1e-4, "2e-4"),
        (1e-3, 5e-4, "1e-3"),
        (0.004, 0.002, "0.004"),
        (0.25, 0.05, "0.25"),
    ],
)
def test_tick_labels(value: float, step: float, label: str) -> None:
    assert tick_label(value, step) == label


def test_a_log_axis_has_ticks_at_round_values() -> None:
    axis = log_axis(0.01, 100.0, 6)
    assert axis.low == pytest.approx(-2) and axis.high == pytest.approx(2)
    assert [10**tick for tick in axis.ticks] == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert axis.labels == ("0.01", "0.1", "1", "10", "100")
    narrow = log_axis(2.1, 2.9, 5)
    assert len(narrow.ticks) >= 2


def test_steps_are_whole_numbers() -> None:
    axis = steps_axis(0, 3, 10)
    assert axis.labels == ("0", "1", "2", "3")
    assert steps_axis(7, 7, 10).low < 7 < steps_axis(7, 7, 10).high


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.3456, "number", "2.35"),
        (2e-4, "number", "2.0e-4"),
        (math.nan, "number", "–"),
        (512 * 2**20, "bytes", "512 MiB"),
        (1023 * 2**20, "bytes", "1023 MiB"),
        (6512.0, "short", "6.51k"),
        (0.0, "bytes", "0 B"),
    ],
)
def test_quantities_in_legends(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text  # type: ignore[arg-type]
