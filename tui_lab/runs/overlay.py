"""Curves of a run over steps, tokens or time, and the recipe fields in which runs differ. No torch."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from tui_lab.core.format import as_float
from tui_lab.recipes.recipe import FIELDS, Recipe
from tui_lab.runs.events import EventTail
from tui_lab.runs.folder import Run
from tui_lab.runs.queue.sweep import format_value
from tui_lab.runs.schema import ItemProbeEvent, ResumedEvent, RunEvent, StepEvent, ValidationEvent

METRICS = ("loss", "validation", "retention")
AXES = ("steps", "tokens", "time")
#: Fields that do not affect the training.
NOT_COMPARED = frozenset({"allow_large"})


@dataclass
class MetricCurve:
    """One curve with all three axes. ``tokens`` and ``seconds`` count over all attempts; steps increase."""

    steps: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: float, tokens: float, seconds: float, value: float) -> None:
        if self.steps and step <= self.steps[-1]:
            self.cut(step - 1)
        for place, each in zip(self._all(), (step, tokens, seconds, value), strict=True):
            place.append(each)

    def cut(self, last_step: float) -> None:
        """Removes the points after ``last_step``."""
        keep = bisect_right(self.steps, last_step)
        for place in self._all():
            del place[keep:]

    def _all(self) -> tuple[list[float], ...]:
        return self.steps, self.tokens, self.seconds, self.values

    def xs(self, axis: str) -> list[float]:
        """The coordinates on one of :data:`AXES`."""
        return {"steps": self.steps, "tokens": self.tokens, "time": self.seconds}[axis]


@dataclass
class RunCurves:
    """A run's curves by name, see :data:`METRICS`."""

    points: dict[str, MetricCurve] = field(default_factory=lambda: {name: MetricCurve() for name in METRICS})


class CurveReader:
    """Reads a run's log incrementally. ``seconds`` is the time of its processes, crashed attempts included,
    without the time between attempts."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.curves = RunCurves()
        self._tail = EventTail(run.events_path)
        self._restarts = 0
        self._seconds = 0.0
        self._at: float | None = None
        self._tokens = 0.0

    def read(self, max_records: int = 20_000) -> RunCurves:
        """Reads at most ``max_records`` new events; :attr:`at_end`: whether the log was read to its end."""
        events = self._tail.read(max_records, math.inf)
        if self._tail.restarts != self._restarts:
            self._restarts, self.curves = self._tail.restarts, RunCurves()
            self._seconds, self._at, self._tokens = 0.0, None, 0.0
        for event in events:
            self._apply(event)
        return self.curves

    @property
    def at_end(self) -> bool:
        """Whether the newest read reached the end of the log."""
        return self._tail.at_end

    def _apply(self, event: RunEvent) -> None:
        points = self.curves.points
        if isinstance(event, ResumedEvent):
            self._at = event.t
            for each in points.values():
                each.cut(event.from_step)
        if self._at is not None:
            self._seconds += max(0.0, event.t - self._at)
        self._at = event.t
        match event:
            case StepEvent():
                self._tokens = event.tokens or self._tokens
                points["loss"].add(event.step, self._tokens, self._seconds, as_float(event.loss))
            case ValidationEvent():
                points["validation"].add(event.step, self._tokens, self._seconds, event.loss)
            case ItemProbeEvent():
                points["retention"].add(event.step, self._tokens, self._seconds, event.headline.value)


def differing(recipes: Sequence[Recipe | None]) -> list[tuple[str, list[str]]]:
    """The fields in which the recipes differ, in the order of the schema, with the value of each recipe; "?"
    for a recipe that cannot be read."""
    found = []
    for name in FIELDS:
        values = [None if recipe is None else getattr(recipe, name) for recipe in recipes]
        known = [value for value, recipe in zip(values, recipes, strict=True) if recipe is not None]
        if name not in NOT_COMPARED and any(value != known[0] for value in known):
            shown = [
                "?" if recipe is None else format_value(value) or "–"
                for value, recipe in zip(values, recipes, strict=True)
            ]
            found.append((name, shown))
    return found
