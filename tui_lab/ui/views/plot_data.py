"""The numbers behind a plot: reduction of long curves to a few points per column, and axes with readable
ticks. Pure functions. The reduction keeps the lowest and the highest value of every column, so that no
spike is lost; a value that is not finite is a gap."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tui_lab.core.format import UNKNOWN, count, size

Unit = Literal["number", "bytes", "short"]

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SHORT_UNITS = ("", "k", "M", "G", "T")


def reduce(xs: Sequence[float], ys: Sequence[float], columns: int) -> tuple[list[float], list[float]]:
    """Reduces a curve to at most four points for each of ``columns`` equal parts of the x range: the lowest
    and the highest value in their order, and a NaN before or after them where values are not finite.

    ``xs`` is ascending. A column of gaps becomes one gap. Min-max reduction as in m4 (Jugel et al. 2014),
    without first and last value.
    """
    count = min(len(xs), len(ys))
    if count == 0:
        return [], []
    left, right = float(xs[0]), float(xs[count - 1])
    if columns <= 1 or not right > left:
        return _reduce_column(xs, ys, 0, count)
    out_x: list[float] = []
    out_y: list[float] = []
    start = 0
    for column in range(1, columns + 1):
        # the last column takes the rest, so that rounding of the edges never loses the last point
        edge = left + (right - left) * column / columns
        end = count if column == columns else bisect_left(xs, edge, start, count)
        if end > start:
            column_x, column_y = _reduce_column(xs, ys, start, end)
            out_x += column_x
            out_y += column_y
            start = end
    return out_x, out_y


def _reduce_column(
    xs: Sequence[float], ys: Sequence[float], start: int, end: int
) -> tuple[list[float], list[float]]:
    values = ys[start:end]
    if math.isfinite(sum(values)):  # fast path: no gap
        low, high = min(values), max(values)
        first, second = sorted((start + values.index(low), start + values.index(high)))
        picked = [first] if first == second else [first, second]
        return [float(xs[i]) for i in picked], [float(ys[i]) for i in picked]
    finite = [i for i in range(start, end) if math.isfinite(ys[i])]
    if not finite:
        return [float(xs[start])], [math.nan]
    lowest, highest = min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)
    first, second = sorted((lowest, highest))
    picked = [first] if first == second else [first, second]
    gaps = [i for i in range(start, end) if not math.isfinite(ys[i])]
    out_x, out_y = [float(xs[i]) for i in picked], [float(ys[i]) for i in picked]
    if gaps[0] < first:
        out_x.insert(0, float(xs[gaps[0]]))
        out_y.insert(0, math.nan)
    if gaps[-1] > first:
        out_x.append(float(xs[max(gaps[-1], second)]))
        out_y.append(math.nan)
    return out_x, out_y


# --------------------------------------------------------------------------------------------------
# axes

#: Ranges that are a smaller part of their values than this are widened: their ticks would look the same.
MIN_RELATIVE_SPAN = 1e-9
#: Ranges smaller than this are widened: their tick steps would underflow.
MIN_SPAN = 1e-200
#: Values above this are drawn as gaps: their axis would overflow.
MAX_VALUE = 1e200


@dataclass(frozen=True)
class Axis:
    """A range with ticks in drawn coordinates, which are logarithms to base 10 on a log axis. ``unit``: of
    the labels, such as MiB."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    unit: str = ""


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that divides ``span`` into at most ``most`` parts."""
    raw = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        if factor * power >= raw * (1 - 1e-9):
            return factor * power
    return 10 * power


def tick_label(value: float, step: float) -> str:
    """``value`` with as many decimals as the tick step needs."""
    if value == 0:
        return "0"
    if step < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if abs(value) >= 1e5:
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{decimals}f}"


def scale_of(highest: float, unit: Unit) -> tuple[float, str]:
    """(divisor, name) of the unit for a value."""
    if unit == "number" or not math.isfinite(highest) or highest <= 0:
        return 1.0, ""
    base, names = (1024.0, _BYTE_UNITS) if unit == "bytes" else (1000.0, _SHORT_UNITS)
    power = 0
    while power < len(names) - 1 and highest >= base ** (power + 1):
        power += 1
    return base**power, names[power]


def linear_axis(
    low: float, high: float, most: int, *, from_zero: bool = False, unit: Unit = "number"
) -> Axis:
    """An axis over low..high, widened to round values, with at most ``most`` + 2 ticks."""
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    largest = max(abs(low), abs(high))
    if not high - low > max(largest * MIN_RELATIVE_SPAN, MIN_SPAN):
        pad = largest * 0.05 if largest > MIN_RELATIVE_SPAN else 1.0
        low, high = low - pad, high + pad
    divisor, name = scale_of(max(abs(low), abs(high)), unit)
    step = nice_step((high - low) / divisor, most)
    first = math.floor(low / divisor / step + 1e-9)
    last = math.ceil(high / divisor / step - 1e-9)
    low, high = min(low, first * step * divisor), max(high, last * step * divisor)
    marks = [i * step for i in range(first, last + 1)]
    suffix = name if unit == "short" else ""
    labels = tuple(tick_label(mark, step) + (suffix if mark else "") for mark in marks)
    return Axis(low, high, tuple(mark * divisor for mark in marks), labels, "" if suffix else name)


def log_axis(low: float, high: float, most: int) -> Axis:
    """A log axis over positive low..high, with ticks at 1, 2 and 5 times powers of ten."""
    if not high > low:
        low, high = low / 1.25, high * 1.25
    bottom, top = math.log10(low), math.log10(high)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        marks = [
            factor * 10.0**power
            for power in range(math.floor(bottom), math.ceil(top) + 1)
            for factor in factors
            if low * (1 - 1e-9) <= factor * 10.0**power <= high * (1 + 1e-9)
        ]
        if len(marks) <= most + 1:
            break
    if len(marks) < 2:  # less than a decade: ticks as on a linear axis
        step = nice_step(high - low, most)
        marks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
        labels = tuple(tick_label(mark, step) for mark in marks)
    else:
        labels = tuple(tick_label(mark, min(1.0, mark)) for mark in marks)
    return Axis(bottom, top, tuple(math.log10(mark) for mark in marks), labels)


def steps_axis(low: float, high: float, most: int) -> Axis:
    """An axis of whole steps over low..high."""
    if not high > low:
        low, high = max(low - 1, min(low, 0.0)), high + 1  # there is no step before the first
    step = max(1.0, nice_step(high - low, most))
    marks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Axis(low, high, tuple(marks), tuple(f"{mark:.0f}" for mark in marks))


def quantity(value: float, unit: Unit) -> str:
    """A value for a legend: 2.31, 512 MiB, 6.5k; a dash when it is not finite."""
    if not math.isfinite(value):
        return UNKNOWN
    if unit == "bytes":
        return size(value)
    if unit == "short":
        return count(value).replace(" ", "") if abs(value) >= 999.5 else f"{value:.3g}"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def bounded(value: float) -> float:
    """The value, or NaN when no axis can hold it."""
    return value if abs(value) < MAX_VALUE else math.nan


def logarithm(value: float) -> float:
    """The logarithm to base 10, or NaN when there is none."""
    return math.log10(value) if MIN_SPAN < value < MAX_VALUE else math.nan
