"""The charts of a report as data: named series with their steps, intervals and reference lines, thinned so
that the page of a long run is no larger than that of a short one. Each chart describes itself in words for
readers who do not see it. :mod:`tui_lab.report.svg` draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeVar

from tui_lab.core.format import UNKNOWN, as_float, memory_name, size
from tui_lab.retention.statistics import Interval
from tui_lab.retention.stored import StrengthCurve
from tui_lab.runs.curves import Curve, Track, smooth
from tui_lab.runs.state import RunState

Style = Literal["thin", "thick", "points", "dashed", "band"]
T = TypeVar("T")
#: The points that a series is drawn with; minima and maxima of what is left out are kept.
MAX_POINTS = 600
TABLE_ROWS = 12
#: As on the panes: shorter curves are not smoothed; the weight of the moving average.
SMOOTHED_FROM, SMOOTHING = 8, 0.8


@dataclass(frozen=True)
class Table:
    """Rows of cells under a caption; the first column names the row. ``right``: right-aligned columns."""

    kind: ClassVar[str] = "table"
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True)
class ChartSeries:
    """One series of a chart. ``colour`` is an index of the palette; ``lows`` and ``highs`` are an interval at
    every point, which the style "band" fills; NaN is a gap. ``described``: the series appears in the
    description and the table."""

    name: str
    colour: int
    xs: Sequence[float]
    ys: Sequence[float]
    style: Style = "thin"
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()
    described: bool = True

    def intervals(self) -> list[tuple[float, float, float]]:
        """Value, low and high of every point; NaN bounds where there is no interval."""
        none = [math.nan] * len(self.xs)
        return list(zip(self.ys, self.lows or none, self.highs or none, strict=True))

    def summary(self, show: Callable[[float], str], x_name: str) -> str:
        """First, last, lowest and highest value in words; "" where no value is known."""
        known = [(x, y) for x, y in zip(self.xs, self.ys, strict=True) if math.isfinite(y)]
        if not known:
            return ""
        (x, first), (end, last) = known[0], known[-1]
        (low_x, low), (high_x, high) = min(known, key=_y), max(known, key=_y)
        if low == high:
            return f"{self.name} is {show(first)}"
        return (
            f"{self.name} goes from {show(first)} at {x_name} {x:g} to {show(last)} at {end:g}; "
            f"lowest {show(low)} at {low_x:g}, highest {show(high)} at {high_x:g}"
        )


def _y(point: tuple[float, float]) -> float:
    return point[1]


@dataclass(frozen=True)
class Chart:
    """A picture of one quantity. ``unit`` is "bytes" or "number"."""

    id: str
    title: str
    y_name: str
    series: tuple[ChartSeries, ...]
    unit: str = "number"
    x_name: str = "step"
    from_zero: bool = True

    def show(self, value: float) -> str:
        """A value with its unit."""
        if not math.isfinite(value):
            return UNKNOWN
        return size(value) if self.unit == "bytes" else f"{value:.4g}"

    @cached_property
    def description(self) -> str:
        """The chart in words: the text alternative of the picture."""
        summaries = [one.summary(self.show, self.x_name) for one in self.series if one.described]
        return " ".join(f"{text[:1].upper()}{text[1:]}." for text in summaries if text)

    @cached_property
    def table(self) -> Table:
        """Values at the first, the last and evenly chosen steps between, of every described series."""
        shown = [one for one in self.series if one.described and any(map(math.isfinite, one.ys))]
        steps = _common_steps(shown)
        values = [
            {x: found for x, found in zip(one.xs, one.intervals(), strict=True) if x in steps}
            for one in shown
        ]
        rows = tuple(
            (f"{x:g}", *(self._cell(found.get(x)) for found in values))
            for x in steps
            if any(x in found for found in values)
        )
        headers = (self.x_name, *(one.name for one in shown)) if shown else ()
        return Table(f"{self.title} ({self.y_name})", headers, rows, tuple(range(len(headers))))

    def _cell(self, found: tuple[float, float, float] | None) -> str:
        if found is None:
            return ""
        value, low, high = found
        interval = f" ({self.show(low)} to {self.show(high)})" if not math.isnan(low + high) else ""
        return self.show(value) + interval


def _common_steps(series: Sequence[ChartSeries]) -> list[float]:
    """The rows of a table: the steps of rarely measured series, where values of all can be compared."""
    sparse = sorted({x for one in series if len(one.xs) <= TABLE_ROWS for x in one.xs})
    longest = max((one.xs for one in series), key=len, default=[])
    return some(sparse if len(sparse) > 2 else sorted(longest), TABLE_ROWS)


def some(values: Sequence[T], most: int) -> list[T]:
    """The first value, the last, and evenly chosen ones between."""
    if len(values) <= most:
        return list(values)
    return [values[round(at * (len(values) - 1) / (most - 1))] for at in range(most)]


def thinned(xs: Sequence[float], ys: Sequence[float], most: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most about ``most`` points of a series: the lowest and the highest of each stretch. Gaps are
    kept."""
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
    """Every chart that has values."""
    found = (
        _loss(state),
        _part(state, "margin", "Reward margin", "reward", "reward_margin"),
        _part(state, "accuracy", "Reward accuracy", "share of pairs", "reward_accuracy"),
        _sides(state),
        _sigma(state),
        _retention(state, threshold),
        _kl(state),
        _memory(state),
        _one("throughput", "Throughput", "tokens per second", state.tok_per_s, 5),
        _one("rate", "Learning rate", "rate", state.learning_rate, 4),
        _one("gradient", "Gradient norm", "norm before clipping", state.grad_norm, 6),
    )
    return [chart for chart in found if chart is not None]


def _one(id: str, title: str, y_name: str, curve: Curve, colour: int) -> Chart | None:
    if not any(map(math.isfinite, curve.values)):
        return None
    return Chart(id, title, y_name, (ChartSeries(y_name, colour, curve.steps, curve.values),))


def _loss(state: RunState) -> Chart | None:
    train, validation = state.loss, state.validation
    series = []
    if train.values:
        series.append(ChartSeries("training", 0, train.steps, train.values))
    if len(train.values) >= SMOOTHED_FROM:
        values = smooth(train.values, SMOOTHING)
        series.append(ChartSeries("training, smoothed", 1, train.steps, values, "thick", described=False))
    if validation.values:
        series.append(ChartSeries("validation", 2, validation.steps, validation.values, "points"))
    if not any(math.isfinite(value) for one in series for value in one.ys):
        return None
    return Chart("loss", "Loss of training and validation", "nats per token", tuple(series))


def _part(state: RunState, id: str, title: str, y_name: str, name: str) -> Chart | None:
    """A figure of a preference loss: of each step, smoothed, and on held-out answers."""
    curve, held_out = state.parts.get(name, Curve()), state.held_out_parts.get(name, Curve())
    series = []
    if curve.values:
        values = smooth(curve.values, SMOOTHING) if len(curve.values) >= SMOOTHED_FROM else curve.values
        series.append(ChartSeries("training, smoothed", 1, curve.steps, values, "thick"))
    if held_out.values:
        series.append(ChartSeries("held out", 2, held_out.steps, held_out.values, "points"))
    if not any(math.isfinite(value) for one in series for value in one.ys):
        return None
    return Chart(id, title, y_name, tuple(series), from_zero=False)


def _sigma(state: RunState) -> Chart | None:
    """The learned uncertainty of each task."""
    series = [
        ChartSeries(name, colour, curve.steps, curve.values)
        for colour, (name, curve) in enumerate(state.task_sigmas.items())
        if any(map(math.isfinite, curve.values))
    ]
    title = "Uncertainty σ of each task, whose loss counts 1/(2σ²)"
    return Chart("sigma", title, "σ", tuple(series), from_zero=False) if series else None


def _sides(state: RunState) -> Chart | None:
    curves = {side: state.parts.get(f"{side}_log_probability", Curve()) for side in ("chosen", "rejected")}
    series = [
        ChartSeries(
            side,
            colour,
            curve.steps,
            smooth(curve.values, SMOOTHING) if len(curve.values) >= SMOOTHED_FROM else curve.values,
            "thick",
        )
        for colour, (side, curve) in zip((3, 6), curves.items(), strict=True)
        if any(map(math.isfinite, curve.values))
    ]
    if not series:
        return None
    title = "Log-probability of chosen and rejected answers"
    return Chart("sides", title, "nats an answer", tuple(series), from_zero=False)


def intervals(name: str, colour: int, xs: Sequence[float], estimates: Sequence[Interval]) -> ChartSeries:
    """Points with their intervals."""
    lows, highs = [one.low for one in estimates], [one.high for one in estimates]
    return ChartSeries(name, colour, xs, [one.value for one in estimates], "points", lows, highs)


def _retention(state: RunState, threshold: float | None) -> Chart | None:
    probes = state.item_probes
    if not any(math.isfinite(probe.headline.value) for probe in probes):
        return None  # a base at chance has no retention
    series = [
        intervals("retention", 3, [probe.step for probe in probes], [probe.headline for probe in probes])
    ]
    if threshold is not None:
        ends = [0.0, float(max(state.total_steps, probes[-1].step, 1))]
        series.append(
            ChartSeries(f"threshold {threshold:g}", 7, ends, [threshold] * 2, "dashed", described=False)
        )
    return Chart(
        "retention", "Retention by probes of items", "share retained", tuple(series), from_zero=False
    )


def _kl(state: RunState) -> Chart | None:
    probes = state.kl_probes
    if not probes:
        return None
    steps = [probe.step for probe in probes]
    series = (
        intervals("general text", 3, steps, [probe.general for probe in probes]),
        intervals("the task's own text", 2, steps, [probe.task for probe in probes]),
    )
    return Chart("kl", "Distance from the base (KL divergence)", "nats per token", series)


def _memory(state: RunState) -> Chart | None:
    curves: dict[str, Curve | Track] = dict(state.memory)
    gpus = list(state.telemetry.gpus.values())
    if gpus and any(map(math.isfinite, gpus[0].used.values)):
        curves["gpu_used"] = gpus[0].used  # sampled more often than once per step
    elif not curves and state.telemetry.resident.values:
        curves["resident"] = state.telemetry.resident
    series = [
        ChartSeries(memory_name(label), place % 7, curve.steps, curve.values)
        for place, (label, curve) in enumerate(curves.items())
        if any(map(math.isfinite, curve.values))
    ]
    if not series:
        return None
    forecast = state.forecast
    total, low, high = (
        (as_float(forecast.total), as_float(forecast.low), as_float(forecast.high))
        if forecast
        else (math.nan,) * 3
    )
    if math.isfinite(total):
        ends = [0.0, float(max(state.total_steps, state.step, 1))]
        if math.isfinite(low) and math.isfinite(high):
            series.append(
                ChartSeries(
                    "forecast, its bounds",
                    7,
                    ends,
                    [total] * 2,
                    "band",
                    [low] * 2,
                    [high] * 2,
                    described=False,
                )
            )
        series.append(ChartSeries("forecast of the peak", 7, ends, [total] * 2, "dashed"))
    title = "Memory against the forecast" if math.isfinite(total) else "Memory"
    return Chart("memory", title, "bytes", tuple(series), unit="bytes")


def strength_chart(sweep: StrengthCurve) -> Chart | None:
    """Gain and retention by strength; None for fewer than two points."""
    points = sorted(sweep.points, key=lambda point: point.strength)
    if len(points) < 2:
        return None
    gains = [point.acquisition_interval for point in points]
    strengths = [point.strength for point in points]
    series = (
        intervals("acquisition", 2, strengths, gains),
        intervals("retention", 3, strengths, [point.headline for point in points]),
    )
    shown = tuple(one for one in series if any(map(math.isfinite, one.ys)))
    return Chart("strength", "Acquisition and retention by strength", "share", shown, x_name="strength")
