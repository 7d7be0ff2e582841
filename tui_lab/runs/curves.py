"""Values by step: curves of a run, and bounded tracks of its telemetry."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

#: Points of a track at most; a plot has far fewer columns.
MOST_POINTS = 4_000


@dataclass
class Curve:
    """Values by step, for one plot. ``steps`` rises; NaN is a gap."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

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
        del self.steps[count:], self.values[count:]

    @property
    def last(self) -> float:
        """The newest value; NaN when there is none."""
        return self.values[-1] if self.values else math.nan


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
