"""The four plots of a run: loss, memory, throughput, learning rate; each knows what to take from the run's
state and when that has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tui_lab.runs.state import Curve, RunState, smooth
from tui_lab.ui.run_text import MEMORY_ROLES
from tui_lab.ui.widgets.plot import Plot
from tui_lab.ui.widgets.plot_draw import Look, Options, Series
from tui_lab.units import memory_name

#: Below this many points a smoothed curve says nothing that the raw one does not.
SMOOTHED_FROM = 8
#: Weight of the past: follows a short run without trailing far behind it.
SMOOTHING = 0.8

Maker = Callable[[RunState], Sequence[Series]]


def loss_series(state: RunState) -> list[Series]:
    """Training loss as measured and smoothed, and validation."""
    loss, validation = state.loss, state.validation
    series = [Series("train", "train", loss.steps, loss.values)]
    if len(loss.values) >= SMOOTHED_FROM:
        series.append(Series("smoothed", "smoothed", loss.steps, smooth(loss.values, SMOOTHING), "thick"))
    if validation.values:
        series.append(Series("validation", "validation", validation.steps, validation.values, "points"))
    return series if loss.values or validation.values else []


def memory_series(state: RunState) -> list[Series]:
    """Every kind of memory that the run reports, named as what it is."""
    looks: tuple[Look, ...] = ("thin", "thick", "points")
    return [
        Series(memory_name(label), MEMORY_ROLES.get(label, "memory"), curve.steps, curve.values, looks[i % 3])
        for i, (label, curve) in enumerate(state.memory.items())
    ]


def one_series(name: str, role: str, curve: Curve) -> list[Series]:
    return [Series(name, role, curve.steps, curve.values)] if curve.values else []


PLOTS: dict[str, tuple[Options, Maker]] = {
    "loss": (Options("loss", "The loss appears here after the first step.", from_zero=True), loss_series),
    "memory": (
        Options("memory", "Memory appears here after the first step.", unit="bytes", from_zero=True),
        memory_series,
    ),
    "speed": (
        Options("speed", "Tokens a second appear here after the first step.", unit="short", from_zero=True),
        lambda state: one_series("tok/s", "throughput", state.tok_per_s),
    ),
    "rate": (
        Options("learning rate", "The learning rate appears here after the first step.", from_zero=True),
        lambda state: one_series("rate", "learning-rate", state.learning_rate),
    ),
}


class RunPlot(Plot):
    """One of :data:`PLOTS`, fed with a run's state."""

    def __init__(self, kind: str, **kwargs: object) -> None:
        options, self._make = PLOTS[kind]
        super().__init__(options, **kwargs)

    def take(self, key: str, state: RunState) -> None:
        """Shows the state of run ``key``."""
        if state.total_steps:
            self.set_options(x_high=float(state.total_steps))
        lengths = tuple(len(curve.steps) for curve in state.curves())
        self.show(lambda: self._make(state), (key, state.attempt, state.step, lengths))
