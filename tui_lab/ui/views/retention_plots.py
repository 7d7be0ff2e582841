"""The curves of the Retention pane: retention over steps, gain and retention over adapter strength, all runs
as points of retention over gain. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui_lab.retention.stored import StrengthCurve
from tui_lab.ui.views.plot_draw import LineStyle, PlotOptions, PlotSeries
from tui_lab.ui.views.retention_data import RetentionReport, RunPoint, front
from tui_lab.ui.views.run_plots import bars

TITLES = {
    "curve": PlotOptions(
        "retention over steps", "Retention over the steps appears here when a run probes it."
    ),
    # the pane sets the texts of these two while they are empty, because they name keys
    "strength": PlotOptions("over strength", whole_x=False, values=False),
    "runs": PlotOptions("retention over gain", whole_x=False, values=False),
}


def curve_series(report: RetentionReport, suite: str) -> list[PlotSeries]:
    """Retention with its 95 % interval at every item probe, and the threshold."""
    probes = [probe for probe in report.state.item_probes if probe.suite == suite]
    if not any(math.isfinite(probe.headline.value) for probe in probes):
        return []  # a base at chance has no retention
    steps = [float(probe.step) for probe in probes]
    figures = [probe.headline for probe in probes]
    return [
        PlotSeries("retention", "retained", steps, [f.value for f in figures], "thick"),
        bars("undecided", [probe.step for probe in probes], figures),
        PlotSeries("threshold", "forgotten", [steps[0], steps[-1]], [report.threshold] * 2, "dashed"),
    ]


def strength_series(curve: StrengthCurve) -> list[PlotSeries]:
    """Score of the new task and retention at every adapter strength, and the share to keep."""
    points = sorted(curve.points, key=lambda point: point.strength)
    if not points:
        return []
    xs = [point.strength for point in points]
    retention = [point.headline for point in points]
    return [
        PlotSeries("new task", "tuned-model", xs, [point.acquisition for point in points], "thick"),
        PlotSeries("retention", "retained", xs, [r.value for r in retention], "points"),
        PlotSeries("its lower end", "undecided", xs, [r.low for r in retention]),
        PlotSeries("to keep", "forgotten", [xs[0], xs[-1]], [curve.keep] * 2, "dashed"),
    ]


def runs_series(points: Sequence[RunPoint], run_id: str) -> list[PlotSeries]:
    """All runs, their Pareto front, and the selected run."""
    found = sorted(points, key=lambda point: point.gained)
    mine = [point for point in found if point.run_id == run_id]
    # a letter, because a colour alone does not distinguish a single point
    groups: tuple[tuple[str, str, list[RunPoint], LineStyle, str], ...] = (
        ("front", "retained", front(found), "thin", ""),
        ("runs", "base-model", found, "points", ""),
        ("this run", "tuned-model", mine, "points", "X"),
    )
    return [
        PlotSeries(name, role, [p.gained for p in group], [p.retention for p in group], style, mark)
        for name, role, group, style, mark in groups
        if group
    ]
