"""The plots of the Retention pane, and the list of suites, which is drawn for its width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from textual.message import Message
from textual.widgets import OptionList

from tui_lab.ui.views.retention_data import RetentionReport, RunPoint
from tui_lab.ui.views.retention_plots import (
    TITLES,
    acquired_range,
    curve_series,
    runs_series,
    strength_series,
)
from tui_lab.ui.widgets.plot import Plot


class RetentionPlot(Plot):
    """One of :data:`TITLES`."""

    def __init__(self, kind: str) -> None:
        super().__init__(replace(TITLES[kind], title=""))  # the panel names it
        self.kind = kind

    def show_run(self, report: RetentionReport, suite: str, points: Sequence[RunPoint]) -> None:
        """Shows a run."""
        if self.kind == "curve":
            made = curve_series(report, suite)
        elif self.kind == "strength":
            made = strength_series(report.strength)
        else:
            made = runs_series(points, report.run.id, report.threshold)
            low, high = acquired_range(points) if points else (math.nan, math.nan)
            self.set_options(x_low=low, x_high=high)
        self.show(
            lambda: made, (report.run.id, suite, tuple((s.name, *s.labels, *s.xs, *s.ys) for s in made))
        )


class SuiteList(OptionList):
    """Suites and categories; says when it has another width."""

    class Resized(Message):
        pass

    def on_resize(self) -> None:
        self.post_message(self.Resized())
