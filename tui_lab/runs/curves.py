"""Values by step: curves of a run, and bounded tracks of its telemetry; and their reduction to a few points
for a plot, which keeps the lowest and the highest value of every part, so that no spike is lost."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Points of a track at most; a plot has far fewer columns.
MOST_POINTS = 4_000
#: Points of a curve in a part of its outline at first, and parts of an outline at most.
FIRST_PART, MOST_PARTS = 16, 1_000


@dataclass
class Curve:
    """Values by step, for one plot. ``steps`` rises; NaN is a gap."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    _smoothed: SmoothedCurve | None = field(default=None, init=False, repr=False, compare=False)
    _outline: Outline | None = field(default=None, init=False, repr=False, compare=False)

    def add(self, step: int, value: float | None) -> None:
        """Appends a value, in place of what lies at or after ``step``; nothing where there is none."""
        if value is None:
            return
        if self.steps and step <= self.steps[-1]:
            self.cut(step - 1)
        self.steps.append(step)
        self.values.append(float(value))

    def cut(self, last_step: int) -> None:
        """Drops everything after ``last_step``."""
        count = bisect_right(self.steps, last_step)
        if count < len(self.steps):
            del self.steps[count:], self.values[count:]
            self._smoothed = self._outline = None

    def smoothed(self, weight: float) -> SmoothedCurve:
        """The curve as :func:`smooth` makes it; a longer curve costs only its new points."""
        if self._smoothed is None or self._smoothed.weight != weight:
            self._smoothed = SmoothedCurve(weight=weight)
        self._smoothed.follow(self)
        return self._smoothed

    def outline(self) -> tuple[list[float], list[float]]:
        """The curve in at most a few thousand points that keep every spike and gap, see :func:`reduce`; a
        longer curve costs only its new points."""
        if self._outline is None:
            self._outline = Outline()
        return self._outline.follow(self.steps, self.values)

    @property
    def last(self) -> float:
        """The newest value; NaN when there is none."""
        return self.values[-1] if self.values else math.nan


@dataclass
class SmoothedCurve(Curve):
    """The exponential moving average of a curve that grows."""

    weight: float = 0.9
    _average: float = 0.0
    _norm: float = 0.0

    def follow(self, curve: Curve) -> None:
        """Takes the points that ``curve`` got since the last call."""
        for index in range(len(self.steps), len(curve.steps)):
            value = curve.values[index]
            if math.isfinite(value):
                self._average = self.weight * self._average + (1 - self.weight) * value
                self._norm = self.weight * self._norm + (1 - self.weight)
                value = self._average / self._norm
            else:
                value = math.nan
            self.steps.append(curve.steps[index])
            self.values.append(value)


class Outline:
    """A reduction of a curve that grows: parts of equally many points, each reduced. When there are too many
    parts, two become one."""

    def __init__(self) -> None:
        self._each = FIRST_PART  # points of the curve in a part
        self._ends = [0]  # of the whole parts among the points below
        self._xs: list[float] = []
        self._ys: list[float] = []

    def follow(self, xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
        """The reduced points of a curve that has grown since the last call."""
        count = min(len(xs), len(ys))
        while (start := (len(self._ends) - 1) * self._each) + self._each <= count:
            self._append(reduce_part(xs, ys, start, start + self._each))
            if len(self._ends) > MOST_PARTS:
                self._join()
        if start == count:
            return self._xs, self._ys
        rest = reduce_part(xs, ys, start, count)
        return self._xs + rest[0], self._ys + rest[1]

    def _append(self, part: tuple[list[float], list[float]]) -> None:
        self._xs += part[0]
        self._ys += part[1]
        self._ends.append(len(self._xs))

    def _join(self) -> None:
        xs, ys, ends = self._xs, self._ys, self._ends
        self._xs, self._ys, self._ends = [], [], [0]
        for start, end in zip(ends[:-1:2], ends[2::2], strict=True):
            self._append(reduce_part(xs, ys, start, end))
        self._each *= 2


@dataclass
class Track(Curve):
    """Values by step. Of several at one step, and of neighbours when thinned, the highest counts where
    ``highest``, else the newest; NaN is a gap."""

    highest: bool = False

    def add(self, step: int, value: float | None) -> None:
        """Appends a value, after dropping what lies after ``step``; nothing where there is none."""
        if value is None:
            return
        self.cut(step)
        if self.steps and self.steps[-1] == step:
            self.values[-1] = self._merged(self.values[-1], value)
        else:
            self.steps.append(step)
            self.values.append(value)
        if len(self.steps) > MOST_POINTS:
            self._thin()

    def _merged(self, first: float, second: float) -> float:
        if math.isnan(first) or math.isnan(second):
            return second if math.isnan(first) else first
        return max(first, second) if self.highest else second

    def _thin(self) -> None:
        values = self.values
        self.values = [self._merged(values[i], values[i + 1]) for i in range(0, len(values) - 1, 2)]
        if len(values) % 2:
            self.values.append(values[-1])
        self.steps = self.steps[1::2] + self.steps[-1:] * (len(values) % 2)

    @property
    def peak(self) -> float:
        """The highest value; NaN when there is none."""
        return max((value for value in self.values if math.isfinite(value)), default=math.nan)


def smooth(values: Iterable[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average with bias correction (Kingma and Ba 2015, section 3); NaN stays a gap
    and does not change what follows."""
    average, norm, out = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            average = weight * average + (1 - weight) * value
            norm = weight * norm + (1 - weight)
            out.append(average / norm)
        else:
            out.append(math.nan)
    return out


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
        return reduce_part(xs, ys, 0, count)
    out_x: list[float] = []
    out_y: list[float] = []
    start = 0
    for column in range(1, columns + 1):
        # the last column takes the rest, so that rounding of the edges never loses the last point
        edge = left + (right - left) * column / columns
        end = count if column == columns else bisect_left(xs, edge, start, count)
        if end > start:
            column_x, column_y = reduce_part(xs, ys, start, end)
            out_x += column_x
            out_y += column_y
            start = end
    return out_x, out_y


def reduce_part(
    xs: Sequence[float], ys: Sequence[float], start: int, end: int
) -> tuple[list[float], list[float]]:
    """The points ``start`` to ``end`` (excluded, at least one) as :func:`reduce` keeps them in one column."""
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
