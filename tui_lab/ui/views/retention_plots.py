"""The curves of the Retention pane: retention over steps, acquisition and retention over the adapter's
strength, all runs as points of retention over acquisition. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tui_lab.retention.stored import StrengthCurve
from tui_lab.ui.views.plot_series import LineStyle, PlotOptions, PlotSeries
from tui_lab.ui.views.retention_data import RetentionReport, RunPoint, front
from tui_lab.ui.views.run_plots import bars
from tui_lab.ui.views.run_time import run_time

TITLES = {
    "curve": PlotOptions(empty="Retention over the steps appears here when a run probes it."),
    # the pane sets the texts of these two while they are empty, because they name keys
    "strength": PlotOptions(whole_x=False, values=False),
    "runs": PlotOptions(whole_x=False, values=False),
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
    """Acquisition and retention at every strength, the share to keep, and the recommended strength."""
    points = sorted(curve.points, key=lambda point: point.strength)
    if not points:
        return []
    xs = [point.strength for point in points]
    retention = [point.headline for point in points]
    bars_xs = [x for x in xs for _ in range(3)]
    bars_ys = [value for found in retention for value in (found.high, found.low, math.nan)]
    series = [
        PlotSeries("keep", "forgotten", [xs[0], xs[-1]], [curve.keep] * 2, "dashed"),
        PlotSeries("95% interval", "undecided", bars_xs, bars_ys, brief="95%", shows_last=False),
        PlotSeries("acquisition", "tuned-model", xs, [point.acquisition for point in points], "thick"),
        PlotSeries("retention", "retained", xs, [found.value for found in retention], "points"),
    ]
    best = [point for point in points if point.strength == curve.recommended.strength]
    for point in best:
        at = [found for found in (point.acquisition, point.headline.value) if math.isfinite(found)]
        name = f"recommended {point.strength:g}"
        labels = [f"{point.strength:g}"] * len(at)
        series.append(
            PlotSeries(name, "changed", [point.strength] * len(at), at, "points", "★", labels=labels)
        )
    return series


#: Beside the outermost points, of the range of all.
MARGIN = 0.1


def acquired_range(points: Sequence[RunPoint]) -> tuple[float, float]:
    """The acquisition that the plot of all runs shows, with a margin for the names."""
    low, high = min(point.gained for point in points), max(point.gained for point in points)
    margin = (high - low) * MARGIN or 0.05
    return low - margin, high + margin


def runs_series(points: Sequence[RunPoint], run_id: str, threshold: float) -> list[PlotSeries]:
    """All runs with their names, their Pareto front, the threshold, and the selected run."""
    if not points:
        return []
    found = sorted(points, key=lambda point: point.gained)
    mine = [point for point in found if point.run_id == run_id]
    others = [point for point in found if point.run_id != run_id]
    names = _names(found)
    # a letter, because a colour alone does not distinguish a single point
    groups: tuple[tuple[str, str, list[RunPoint], LineStyle, str], ...] = (
        ("Pareto front", "retained", front(found), "thin", ""),
        ("this run", "tuned-model", mine, "points", "X"),
        ("runs", "base-model", others, "points", ""),
    )
    limit = PlotSeries("threshold", "forgotten", [*acquired_range(found)], [threshold] * 2, "dashed")
    return [
        limit,
        *(
            PlotSeries(
                name,
                role,
                [p.gained for p in group],
                [p.retention for p in group],
                style,
                mark,
                brief="front" if style == "thin" else "",
                labels=[names[p.run_id] for p in group] if style == "points" else (),
            )
            for name, role, group, style, mark in groups
            if group
        ),
    ]


def _names(points: Sequence[RunPoint]) -> dict[str, str]:
    """A name of each run; several of one name have their time behind it."""
    count = Counter(point.name for point in points)
    return {p.run_id: p.name if count[p.name] == 1 else f"{p.name} {run_time(p.run_id)}" for p in points}
