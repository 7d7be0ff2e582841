"""The numbers behind a plot: axes with round ticks on even rows, the range of a curve after its steep start,
and values in words. Pure functions; a value that is not finite is a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tui_lab.core.format import UNKNOWN, count, size

Unit = Literal["number", "bytes", "short"]

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SHORT_UNITS = ("", "k", "M", "G", "T")


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
    if step < 1e-3 and abs(value) < 1:
        digits = max(1, math.floor(math.log10(abs(value))) - math.floor(math.log10(step) + 1e-9))
        mantissa, exponent = f"{value:.{digits}e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if abs(value) >= 1e5 and step >= abs(value) / 1e3:
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
    low, high = _widened(low, high)
    divisor, name = scale_of(max(abs(low), abs(high)), unit)
    step = nice_step((high - low) / divisor, most)
    first = math.floor(low / divisor / step + 1e-9)
    last = math.ceil(high / divisor / step - 1e-9)
    low, high = min(low, first * step * divisor), max(high, last * step * divisor)
    marks = [i * step for i in range(first, last + 1)]
    suffix = name if unit == "short" else ""
    labels = tuple(tick_label(mark, step) + (suffix if mark else "") for mark in marks)
    return Axis(low, high, tuple(mark * divisor for mark in marks), labels, "" if suffix else name)


#: Rows between two ticks of an axis with even rows.
TICKS_APART = range(1, 9)


def row_axis(
    low: float, high: float, rows: int, dots: int, *, from_zero: bool = False, unit: Unit = "number"
) -> Axis:
    """An axis over ``rows`` rows of ``dots`` dots each that holds low..high. Its ticks are round values, lie
    equally many rows apart, each on the lowest dot of its row, so that the row with a label holds the values
    from that label on. The axis begins at the lowest dot and ends at the highest."""
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    low, high = _widened(low, high)
    divisor, name = scale_of(max(abs(low), abs(high)), unit)
    low, high = low / divisor, high / divisor
    least = (high - low) / rows
    power = math.floor(math.log10(least))
    usual = max(1 if rows < 6 else 2, round(rows / 5))
    found: list[tuple[float, float, int, int]] = []
    for step in (factor * 10.0**exponent for exponent in range(power, power + 3) for factor in (1, 2, 5)):
        for apart in TICKS_APART:
            row = step / apart
            first = math.floor(low / row + 1e-6)
            if first * row + row * (rows - 1 / dots) < high - row * 1e-6:
                break  # more ticks' rows make a row hold less
            if rows - 1 >= -first % apart:  # the first tick is in view
                shown = (rows - 1 - -first % apart) // apart + 1
                score = (
                    least / row - 0.03 * abs(apart - usual) - 0.2 * max(0, min(3, max(2, rows // 3)) - shown)
                )
                found.append((score, step, apart, first))
    if not found:
        return linear_axis(low * divisor, high * divisor, max(1, rows // 3), unit=unit)
    _, step, apart, first = max(found)
    row = step / apart
    numbers = range(math.ceil(first / apart), (first + rows - 1) // apart + 1)
    suffix = name if unit == "short" else ""
    labels = tuple(tick_label(n * step, step) + (suffix if n else "") for n in numbers)
    ticks = tuple(n * step * divisor for n in numbers)
    top = (first + rows - 1 / dots) * row
    return Axis(first * row * divisor, top * divisor, ticks, labels, "" if suffix else name)


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range, or one around it where its ticks would be equal."""
    largest = max(abs(low), abs(high))
    if high - low > max(largest * MIN_RELATIVE_SPAN, MIN_SPAN):
        return low, high
    pad = largest * 0.05 if largest > MIN_RELATIVE_SPAN else 1.0
    return low - pad, high + pad


def place(value: float, axis: Axis, dots: int) -> int:
    """The dot of ``dots`` on an axis that a value lies on, from 0; outside of them where it is outside."""
    return math.floor(round(0.5 + (dots - 1) * (value - axis.low) / (axis.high - axis.low), 6))


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


def value_axis(low: float, high: float, most: int) -> Axis:
    """An axis over exactly low..high, with ticks at round values within."""
    if not high > low:
        pad = abs(low) * 0.05 or 1.0
        low, high = low - pad, high + pad
    step = nice_step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    marks = tuple(i * step for i in range(first, last + 1))
    return Axis(low, high, marks, tuple(tick_label(mark, step) for mark in marks))


#: A start is steep when it lies outside of the range of the rest, which is this share of all steps, widened
#: by this share of itself at both ends, and when leaving it out makes the range this many times smaller.
REST, MARGIN, SMALLER = 0.75, 0.25, 2.0
#: A curve with fewer points in the rest has no steep start.
FEWEST_POINTS = 6


def settled_from(curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float | None:
    """The first x from which on the y of all curves (each xs, ys) stay in the range that they settle in;
    None where the start is not steep: then the whole range is worth showing."""
    points = [(x, y) for xs, ys in curves for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    if not points:
        return None
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    rest = [y for x, y in points if x > left + (1 - REST) * (right - left)]
    if len(rest) < FEWEST_POINTS:
        return None
    low, high = min(rest), max(rest)
    span = max(high - low, 0.01 * max(abs(low), abs(high)))
    low, high = low - MARGIN * span, high + MARGIN * span
    outside = [x for x, y in points if not low <= y <= high]
    every = [y for _, y in points]
    if not outside or max(every) - min(every) < SMALLER * (high - low):
        return None
    last = max(outside)
    return min((x for x, _ in points if x > last), default=None)


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
