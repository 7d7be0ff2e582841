"""The charts of a report as plain data, out of a run's state: named series with their steps, intervals and
lines to compare with, thinned so that a run of a week makes no larger a page than one of a minute. Each has
its figures in words too, for those who cannot see it. Drawing is :mod:`tui_lab.report.svg`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tui_lab.core.format import memory_name, size
from tui_lab.runs.state import Curve, RunState, headline, smooth
from tui_lab.runs.telemetry import Track, figure

Style = Literal["thin", "thick", "points", "dashed", "band"]
#: Points a series is drawn with; the highest and the lowest of what lies between are kept.
MOST_POINTS = 600
#: Rows of the table that stands beside a chart.
TABLE_ROWS = 12
#: As on the panes: fewer points need no smoothing, and the past weighs so much.
SMOOTHED_FROM, SMOOTHING = 8, 0.8


@dataclass(frozen=True)
class Line:
    """One series. ``colour`` is a number of the palette. ``lows`` and ``highs`` are an interval at every
    point; a "band" is drawn between them alone. NaN is a gap. ``told``: whether it stands in the table."""

    name: str
    colour: int
    xs: Sequence[float]
    ys: Sequence[float]
    style: Style = "thin"
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    told: bool = True


@dataclass(frozen=True)
class Chart:
    """A picture of one quantity. ``unit`` is "bytes" or "number"."""

    id: str
    title: str
    y_name: str
    lines: tuple[Line, ...]
    unit: str = "number"
    x_name: str = "step"
    from_zero: bool = True

    def show(self, value: float) -> str:
        """A value of this chart in words."""
        if not math.isfinite(value):
            return "–"
        return size(value) if self.unit == "bytes" else f"{value:.4g}"

    def words(self) -> str:
        """What is to be seen, in words: the text alternative of the picture."""
        return self._words

    @cached_property
    def _words(self) -> str:
        said = []
        for line in self.lines:
            known = [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(y)]
            if not known or not line.told:
                continue
            (x, first), (end, last) = known[0], known[-1]
            if len(known) == 1 or first == last == max(y for _, y in known) == min(y for _, y in known):
                said.append(f"{line.name} is {self.show(first)}")
                continue
            low, high = min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])
            said.append(
                f"{line.name} goes from {self.show(first)} at {self.x_name} {x:g} to {self.show(last)} at "
                f"{end:g}; lowest {self.show(low[1])} at {low[0]:g}, highest {self.show(high[1])} at "
                f"{high[0]:g}"
            )
        return " ".join(f"{text[:1].upper()}{text[1:]}." for text in said)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Some of the figures: the first, the last and evenly between, of every series that is told."""
        return self._table

    @cached_property
    def _table(self) -> tuple[list[str], list[list[str]]]:
        told = [line for line in self.lines if line.told and any(map(math.isfinite, line.ys))]
        longest = max(told, key=lambda line: len(line.xs), default=None)
        if longest is None:
            return [], []
        # where series were measured at steps of their own, those of the rarer ones are what can be compared
        sparse = sorted({x for line in told if len(line.xs) <= TABLE_ROWS for x in line.xs})
        steps = some(sparse if len(sparse) > 2 else sorted(longest.xs), TABLE_ROWS)
        wanted = set(steps)
        values = [
            {x: found for x, found in zip(line.xs, zip_interval(line), strict=True) if x in wanted}
            for line in told
        ]
        rows = [
            [f"{x:g}", *(self._cell(found.get(x)) for found in values)]
            for x in steps
            if any(x in v for v in values)
        ]
        return [self.x_name, *(line.name for line in told)], rows

    def _cell(self, found: tuple[float, float, float] | None) -> str:
        if found is None:
            return ""
        value, low, high = found
        interval = f" ({self.show(low)} to {self.show(high)})" if not math.isnan(low + high) else ""
        return self.show(value) + interval


def zip_interval(line: Line) -> list[tuple[float, float, float]]:
    """Value, low and high of every point; NaN bounds where there is no interval."""
    none = [math.nan] * len(line.xs)
    return list(zip(line.ys, line.lows or none, line.highs or none, strict=True))


def some(values: Sequence[Any], most: int) -> list[Any]:
    """The first, the last and evenly chosen ones between."""
    if len(values) <= most:
        return list(values)
    return [values[round(at * (len(values) - 1) / (most - 1))] for at in range(most)]


def thinned(xs: Sequence[float], ys: Sequence[float], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """The points of a series, of each stretch its lowest and its highest in their order; a gap stays one."""
    points = list(zip(map(float, xs), ys, strict=True))
    if len(points) <= most:
        return points
    per = math.ceil(len(points) / (most // 2))
    found: list[tuple[float, float]] = []
    for at in range(0, len(points), per):
        part = points[at : at + per]
        known = [point for point in part if math.isfinite(point[1])]
        if not known:
            found.append((part[0][0], math.nan))
            continue
        chosen = {min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])}
        gap = [(known[-1][0], math.nan)] if len(known) < len(part) else []
        found += [*sorted(chosen), *gap]
    if found[-1] != points[-1]:
        found.append(points[-1])
    return found


# --------------------------------------------------------------------------------------------------
# the charts of a run


def charts(state: RunState, threshold: float | None) -> list[Chart]:
    """Every chart that there are figures for. One that a damaged log breaks is left out."""
    makers: list[Callable[[], Chart | None]] = [
        lambda: _loss(state),
        lambda: _retention(state, threshold),
        lambda: _kl(state),
        lambda: _memory(state),
        lambda: _one("throughput", "Throughput", "tokens a second", state.tok_per_s, 5),
        lambda: _one("rate", "Learning rate", "rate", state.learning_rate, 4),
        lambda: _one("gradient", "Gradient norm", "norm before clipping", state.grad_norm, 6),
    ]
    found = []
    for make in makers:
        try:
            if (chart := make()) is not None:
                found.append(chart)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            continue
    return found


def _one(id: str, title: str, y_name: str, curve: Curve, colour: int) -> Chart | None:
    if not any(map(math.isfinite, curve.values)):
        return None
    return Chart(id, title, y_name, (Line(y_name, colour, curve.steps, curve.values),))


def _loss(state: RunState) -> Chart | None:
    train, held = state.loss, state.validation
    lines = []
    if train.values:
        lines.append(Line("training", 0, train.steps, train.values))
    if len(train.values) >= SMOOTHED_FROM:
        values = smooth(train.values, SMOOTHING)
        lines.append(Line("training, smoothed", 1, train.steps, values, "thick", told=False))
    if held.values:
        lines.append(Line("validation", 2, held.steps, held.values, "points"))
    if not any(math.isfinite(value) for line in lines for value in line.ys):
        return None
    return Chart("loss", "Loss of training and validation", "nats a token", tuple(lines))


def _intervals(
    name: str, colour: int, probes: Sequence[Mapping[str, Any]], figures: Sequence[Mapping[str, float]]
) -> Line:
    steps = [float(probe["step"]) for probe in probes]
    values, lows, highs = ([float(one[key]) for one in figures] for key in ("value", "low", "high"))
    return Line(name, colour, steps, values, "points", lows, highs)


def _retention(state: RunState, threshold: float | None) -> Chart | None:
    probes = state.item_probes
    if not probes:
        return None
    lines = [_intervals("retention", 3, probes, [headline(probe) for probe in probes])]
    if threshold is not None:
        ends = [0.0, float(max(state.total_steps, probes[-1]["step"], 1))]
        lines.append(Line(f"threshold {threshold:g}", 7, ends, [threshold] * 2, "dashed", told=False))
    name = "share kept of what the base knew"
    return Chart("retention", "Retention by probes of items", name, tuple(lines), from_zero=False)


def _kl(state: RunState) -> Chart | None:
    probes = state.kl_probes
    if not probes:
        return None
    lines = (
        _intervals("general text", 3, probes, [probe["general"] for probe in probes]),
        _intervals("the task's own text", 2, probes, [probe["task"] for probe in probes]),
    )
    return Chart("kl", "Distance from the base (KL divergence)", "nats a token", lines)


def _memory(state: RunState) -> Chart | None:
    curves: dict[str, Curve | Track] = dict(state.memory)
    gpus = list(state.telemetry.gpus.values())
    if gpus and any(map(math.isfinite, gpus[0].used.values)):
        curves["gpu_used"] = gpus[0].used  # looked at more often than once a step
    elif not curves and state.telemetry.resident.values:
        curves["resident"] = state.telemetry.resident
    lines = [
        Line(memory_name(label), place % 7, curve.steps, curve.values)
        for place, (label, curve) in enumerate(curves.items())
        if any(map(math.isfinite, curve.values))
    ]
    if not lines:
        return None
    total, low, high = (figure(state.forecast.get(name)) for name in ("total", "low", "high"))
    if math.isfinite(total):
        ends = [0.0, float(max(state.total_steps, state.step, 1))]
        if math.isfinite(low) and math.isfinite(high):
            lines.append(
                Line("forecast, its bounds", 7, ends, [total] * 2, "band", [low] * 2, [high] * 2, told=False)
            )
        lines.append(Line("forecast of the peak", 7, ends, [total] * 2, "dashed"))
    title = "Memory against the forecast" if math.isfinite(total) else "Memory"
    return Chart("memory", title, "bytes", tuple(lines), unit="bytes")


def strength_chart(sweep: Mapping[str, Any]) -> Chart | None:
    """Gain and retention by strength; None without two points that can be read."""
    points = []
    for point in sweep.get("points") or ():
        try:
            kept = tuple(float(point["retention"][key]) for key in ("value", "low", "high"))
            gain = point.get("acquisition_interval") or {}
            gained = [float(gain.get(key, math.nan)) for key in ("value", "low", "high")]
            points.append((float(point["strength"]), *gained, *kept))
        except (TypeError, KeyError, ValueError, AttributeError):
            continue
    if len(points) < 2:
        return None
    columns = [list(column) for column in zip(*sorted(points), strict=True)]
    lines = (
        Line("score on the new task", 2, columns[0], columns[1], "points", columns[2], columns[3]),
        Line("retention", 3, columns[0], columns[4], "points", columns[5], columns[6]),
    )
    shown = tuple(line for line in lines if any(map(math.isfinite, line.ys)))
    return Chart("strength", "Gain and retention by strength", "share", shown, x_name="strength")
