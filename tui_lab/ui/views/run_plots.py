"""The curves of a run's plots: loss, retention, KL divergence from the base, memory, throughput, learning
rate. Pure functions of the run's state; x is the training step in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from tui_lab.core.format import memory_name
from tui_lab.retention.statistics import Interval
from tui_lab.runs.curves import Curve, Track
from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.state import RunState
from tui_lab.ui.views.plot_series import LineStyle, PlotMark, PlotOptions, PlotSeries
from tui_lab.ui.views.run import MEMORY_ROLES

#: A smoothed curve is drawn from this many points on.
SMOOTHED_FROM = 8
#: Weight of the past in the exponential moving average: small enough to follow a short run.
SMOOTHING = 0.8

#: Names for a legend of four, and for a narrow one.
MEMORY_LEGEND = {
    "cuda_allocated": ("allocated", "alloc"),
    "cuda_reserved": ("reserved", "resv"),
    "gpu_used": ("device", "GPU"),
}
#: The peak is shown as text: as a curve it would hide the curve below it.
NOT_DRAWN = ("cuda_peak", "cuda_peak_outside")

#: Text of an empty plot after the run has ended.
EMPTY_AT_END = "The run ended before there was anything to draw here."

Maker = Callable[[RunState], Sequence[PlotSeries]]


def loss_series(state: RunState) -> list[PlotSeries]:
    """Training loss, raw and smoothed, and validation loss, in nats per token."""
    loss, validation = state.loss, state.validation
    series = [PlotSeries("train", "train", loss.steps, loss.values, outline=loss.outline)]
    if len(loss.values) >= SMOOTHED_FROM:
        smoothed = loss.smoothed(SMOOTHING)
        points = smoothed.steps, smoothed.values
        series.append(PlotSeries("smoothed", "smoothed", *points, "thick", outline=smoothed.outline))
    if validation.values:
        points = validation.steps, validation.values
        series.append(PlotSeries("validation", "validation", *points, "points", brief="valid"))
    return series if loss.values or validation.values else []


def part_series(state: RunState, name: str) -> list[PlotSeries]:
    """A figure of a preference loss: of each step, raw and smoothed, and on held-out answers."""
    curve, held_out = state.parts.get(name, Curve()), state.held_out_parts.get(name, Curve())
    series = [PlotSeries("train", "train", curve.steps, curve.values, outline=curve.outline)]
    if len(curve.values) >= SMOOTHED_FROM:
        smoothed = curve.smoothed(SMOOTHING)
        series.append(
            PlotSeries(
                "smoothed", "smoothed", smoothed.steps, smoothed.values, "thick", outline=smoothed.outline
            )
        )
    if held_out.values:
        points = held_out.steps, held_out.values
        series.append(PlotSeries("held out", "validation", *points, "points", brief="held"))
    return series if curve.values or held_out.values else []


def side_series(state: RunState) -> list[PlotSeries]:
    """Log-probability of chosen and rejected answers in nats an answer, smoothed."""
    series = []
    for side, role in (("chosen", "retained"), ("rejected", "forgotten")):
        curve = state.parts.get(f"{side}_log_probability", Curve())
        if curve.values:
            drawn = curve.smoothed(SMOOTHING) if len(curve.values) >= SMOOTHED_FROM else curve
            series.append(PlotSeries(side, role, drawn.steps, drawn.values, "thick", outline=drawn.outline))
    return series


def sigma_series(state: RunState) -> list[PlotSeries]:
    """The learned uncertainty σ of each task: its loss counts 1/(2σ²)."""
    styles: tuple[LineStyle, ...] = ("thin", "thick", "points", "dashed")
    roles = ("train", "validation", "retained", "forgotten")
    return [
        PlotSeries(name, roles[at % 4], curve.steps, curve.values, styles[at // 4 % 4], outline=curve.outline)
        for at, (name, curve) in enumerate(state.task_sigmas.items())
        if curve.values
    ]


def memory_series(state: RunState) -> list[PlotSeries]:
    """Every kind of memory that the run reports, in bytes, and the forecast of its peak.
    The use of the device comes from telemetry, which has more readings than steps."""
    styles: tuple[LineStyle, ...] = ("thin", "thick", "points")
    curves: dict[str, Curve | Track] = {
        label: curve for label, curve in state.memory.items() if label not in NOT_DRAWN
    }
    gpus = list(state.telemetry.gpus.values())
    if gpus and any(map(math.isfinite, gpus[0].used.values)):
        curves["gpu_used"] = gpus[0].used
    elif not curves and state.telemetry.resident.values:
        curves["resident"] = state.telemetry.resident
    total = state.forecast.total if state.forecast else None
    series = []
    if isinstance(total, int | float) and math.isfinite(total):
        ends = [0.0, float(max(state.total_steps, state.step, 1))]
        # first, so that measured curves are drawn over it
        series.append(PlotSeries("forecast", "forecast", ends, [float(total)] * 2, "dashed"))
    for number, (label, curve) in enumerate(curves.items()):
        name, brief = MEMORY_LEGEND.get(label) or (memory_name(label), "")
        role, style = MEMORY_ROLES.get(label, "memory"), styles[number % 3]
        series.append(
            PlotSeries(name, role, curve.steps, curve.values, style, brief=brief, outline=curve.outline)
        )
    return series


def one_series(name: str, role: str, curve: Curve) -> list[PlotSeries]:
    if not curve.values:
        return []
    return [PlotSeries(name, role, curve.steps, curve.values, outline=curve.outline)]


def bars(role: str, steps: Sequence[int], figures: Sequence[Interval]) -> PlotSeries:
    """95 % intervals as vertical lines with gaps between them."""
    xs = [float(step) for step in steps for _ in range(3)]
    ys = [value for one in figures for value in (one.high, one.low, math.nan)]
    return PlotSeries("95% interval", role, xs, ys, shows_last=False, brief="95%")


def retention_series(state: RunState) -> list[PlotSeries]:
    """Retention by item probes with its 95 % interval, and the threshold."""
    if not any(math.isfinite(probe.headline.value) for probe in state.item_probes):
        return []  # a base at chance has no retention
    steps = [probe.step for probe in state.item_probes]
    figures = [probe.headline for probe in state.item_probes]
    series = [
        bars("undecided", steps, figures),
        PlotSeries("retention", "retained", steps, [one.value for one in figures], "points"),
    ]
    threshold = state.probe_plan.threshold if state.probe_plan else None
    if isinstance(threshold, int | float):
        ends = [0.0, float(max(state.total_steps, steps[-1], 1))]
        series.append(PlotSeries("threshold", "forgotten", ends, [float(threshold)] * 2, "dashed"))
    return series


def kl_series(state: RunState) -> list[PlotSeries]:
    """KL divergence from the base in nats per token: on general text with its interval, and on the task."""
    if not state.kl_probes:
        return []
    steps = [probe.step for probe in state.kl_probes]
    general: list[Interval] = [probe.general for probe in state.kl_probes]
    return [
        PlotSeries("general", "retained", steps, [one.value for one in general], "thick", brief="gen"),
        PlotSeries("task", "tuned-model", steps, [probe.task.value for probe in state.kl_probes], "points"),
        bars("axis", steps, general),  # last: a narrow legend can do without it
    ]


#: Plots that show when checkpoints, probes and red flags were.
MARKED = ("loss", "margin", "accuracy", "sides", "sigma", "retention", "kl")
#: Ends of the x axis of a run that trains: round numbers, so that the axis seldom changes.
ROUND_ENDS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


def run_marks(state: RunState, flags: Sequence[Flag]) -> list[PlotMark]:
    """Probes, checkpoints and red flags, the most important last."""
    probes = [PlotMark(probe.step, "○", "retained", "probe") for probe in state.item_probes]
    saved = [PlotMark(each.step, "◆", "validation", "checkpoint") for each in state.checkpoints]
    roles = {"red": "state-failed", "amber": "state-paused"}
    flagged = [PlotMark(flag.step, "!", roles[flag.severity], flag.name) for flag in flags]
    return [*probes, *saved, *flagged]


def last_step(state: RunState, ended: bool) -> float:
    """The end of the x axis of all plots of a run: its last step, or a round number after it while it trains;
    never after the planned end."""
    step = float(max(state.step, 1))
    if not ended:
        power = 10.0 ** math.floor(math.log10(step))
        step = next((end * power for end in ROUND_ENDS if end * power >= step * 1.02), step)
    return max(float(state.step), min(step, float(state.total_steps))) if state.total_steps else step


PLOTS: dict[str, tuple[PlotOptions, Maker]] = {
    "loss": (
        PlotOptions("loss", "The loss appears here after the first step.", x_low=0.0, settle=True),
        loss_series,
    ),
    "margin": (
        PlotOptions("", "The reward margin appears here after the first step.", x_low=0.0),
        partial(part_series, name="reward_margin"),
    ),
    "accuracy": (
        PlotOptions("", "The reward accuracy appears here after the first step.", x_low=0.0),
        partial(part_series, name="reward_accuracy"),
    ),
    "sides": (
        PlotOptions("", "How likely both answers are appears here after the first step.", x_low=0.0),
        side_series,
    ),
    "sigma": (
        PlotOptions("", "The uncertainty of each task appears here after the first step.", x_low=0.0),
        sigma_series,
    ),
    "retention": (
        PlotOptions("", "What the model still knows appears here with the first probe.", x_low=0.0),
        retention_series,
    ),
    "kl": (
        PlotOptions(
            "KL", "The distance from the base appears here with the first probe.", from_zero=True, x_low=0.0
        ),
        kl_series,
    ),
    "memory": (
        PlotOptions(
            "memory", "Memory appears here after the first step.", unit="bytes", from_zero=True, x_low=0.0
        ),
        memory_series,
    ),
    "speed": (
        PlotOptions(
            "speed", "Tokens a second appear here after the first step.", unit="short", x_low=0.0, settle=True
        ),
        lambda state: one_series("tok/s", "throughput", state.tok_per_s),
    ),
    "rate": (
        PlotOptions(
            "learning rate", "The learning rate appears here after the first step.", from_zero=True, x_low=0.0
        ),
        lambda state: one_series("lr", "learning-rate", state.learning_rate),
    ),
}
