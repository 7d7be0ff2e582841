"""The axes of plots, and the range of a curve after its steep start."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tui_lab.ui.views.plot_data import (
    linear_axis,
    log_axis,
    nice_step,
    place,
    quantity,
    row_axis,
    settled_from,
    steps_axis,
    tick_label,
)

finite = st.floats(-1e9, 1e9)


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
    ("low", "high", "rows", "labels"),
    [
        # ten rows of four dots from 0 to 3: a tick every three rows is one unit, a row a third
        (0.0, 3.0, 10, {0: "0", 3: "1", 6: "2", 9: "3"}),
        # retention: the row of the threshold 0.9 bears its label, and none other
        (0.78, 1.02, 9, {1: "0.8", 4: "0.9", 7: "1.0"}),
        (0.0, 2e-4, 7, {0: "0", 3: "1e-4", 6: "2e-4"}),
        (-1.0, 1.0, 9, {0: "-1.0", 2: "-0.5", 4: "0", 6: "0.5", 8: "1.0"}),
    ],
)
def test_ticks_worked_by_hand(low: float, high: float, rows: int, labels: dict[int, str]) -> None:
    axis = row_axis(low, high, rows, 4)
    found = {place(tick, axis, rows * 4): label for tick, label in zip(axis.ticks, axis.labels, strict=True)}
    assert found == {row * 4: label for row, label in labels.items()}, "each on the lowest dot of its row"


@settings(max_examples=200)
@given(
    low=st.floats(-1e6, 1e6),
    span=st.floats(1e-3, 1e6),
    rows=st.integers(3, 60),
    dots=st.sampled_from([1, 2, 4]),
    from_zero=st.booleans(),
)
def test_rows_between_ticks_are_equal_and_hold_the_data(
    low: float, span: float, rows: int, dots: int, from_zero: bool
) -> None:
    high = low + span
    axis = row_axis(low, high, rows, dots, from_zero=from_zero)
    placed = [place(tick, axis, rows * dots) for tick in axis.ticks]
    assert placed and all(dot % dots == 0 for dot in placed)
    assert len({after - before for before, after in pairwise(placed)}) <= 1
    assert len(set(axis.labels)) == len(axis.labels)
    slack = 1e-5 * (axis.high - axis.low)
    assert axis.low - slack <= low and high <= axis.high + slack
    shown = [float(label) for label in axis.labels]
    assert shown == pytest.approx(list(axis.ticks), rel=1e-2, abs=1e-9 + 1e-2 * (axis.high - axis.low))


def test_a_steep_start_is_left_out_and_a_spike_later_is_not() -> None:
    # ten steps from 11 down to 2, then between 1.0 and 1.4
    steps = list(range(1, 101))
    values = [float(12 - step) for step in range(1, 11)] + [1.0 + 0.1 * (step % 5) for step in range(11, 101)]
    assert settled_from([(steps, values)]) == 11.0
    spiked = [*values[:80], 9.0, *values[81:]]
    assert settled_from([(steps, spiked)]) is None, "a spike within the rest belongs to its range"
    assert settled_from([(steps, [5.0 - step / 100 for step in steps])]) is None, (
        "a straight fall is no start"
    )
    assert settled_from([(steps[:3], values[:3])]) is None
    gaps = [math.nan if step in (2, 50) else value for step, value in zip(steps, values, strict=True)]
    assert settled_from([(steps, gaps)]) == 11.0


def test_the_start_of_any_curve_counts() -> None:
    steps = list(range(101))
    calm = [1.0 + 0.01 * (step % 7) for step in steps]
    assert settled_from([(steps, calm), ([0, 50, 100], [8.0, 1.02, 1.01])]) == 1.0


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
        (250_000.0, 50_000.0, "2.5e5"),
        (100_002.0, 2.0, "100002"),
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
