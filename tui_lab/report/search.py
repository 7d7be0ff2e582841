"""The search that chose the run, as blocks of the report: the choice and why, the gain and retention of
every pilot with intervals, the front, and the fresh seeds that confirm it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tui_lab.core.sanitize import sanitize
from tui_lab.report.blocks import Block, FigureBlock, Paragraph
from tui_lab.report.charts import Chart, Table, intervals
from tui_lab.report.content import ReportContent
from tui_lab.retention.statistics import Interval
from tui_lab.runs.searches import Pilot, PilotPoint, SearchResult, interval_text, values_text

HEADERS = ("run", "steps", "strength", "gain", "retention", "recipe")
FRESH_HEADERS = ("run", "seed", "strength", "gain", "retention")


def search(report: ReportContent) -> Iterator[Block]:
    """Nothing for a run that no search chose."""
    if (found := report.search) is None:
        return
    yield Paragraph(sanitize(found.sentence or f"In progress: {found.progress}."))
    if (chart := front_chart(found)) is not None:
        yield FigureBlock(chart, with_table=False)
    caption = "Pilots that no other beats in gain and in the lower end of retention at once"
    rows = tuple(_row(choice.pilot, choice.point) for choice in found.front)
    yield Table(caption, HEADERS, rows, right=(1, 2, 3))
    fresh = [(pilot, pilot.points[-1]) for pilot in found.confirmations if pilot.points]
    if fresh:
        caption = "The chosen recipe with fresh seeds, on the whole suite"
        yield Table(caption, FRESH_HEADERS, tuple(_fresh_row(*each) for each in fresh), right=(1, 2))


def front_chart(found: SearchResult) -> Chart | None:
    """Gain against the lower end of retention, of all pilots and of the front; None without two points."""
    points = sorted((p for pilot in found.pilots for p in pilot.points), key=lambda p: p.retention.low)
    points = [point for point in points if math.isfinite(point.retention.low)]
    front = sorted((choice.point for choice in found.front), key=lambda point: point.retention.low)
    if len(points) < 2:
        return None
    series = tuple(
        intervals(name, colour, [p.retention.low for p in some], [_gain(p) for p in some])
        for name, colour, some in (("all pilots", 5, points), ("front", 2, front))
    )
    return Chart("search", "Gain against retention", "gain", series, x_name="lower end of retention")


def _gain(point: PilotPoint) -> Interval:
    """The gain with its interval; without one in searches that stored none."""
    stored = math.isfinite(point.gain_interval.value)
    return point.gain_interval if stored else Interval(point.gain, math.nan, math.nan)


def _fresh_row(pilot: Pilot, point: PilotPoint) -> tuple[str, ...]:
    strength, retention = f"{point.strength:g}", interval_text(point.retention)
    return sanitize(pilot.run), str(pilot.seed), strength, gain_text(point), retention


def _row(pilot: Pilot, point: PilotPoint) -> tuple[str, ...]:
    steps, strength = str(pilot.steps), f"{point.strength:g}"
    retention = interval_text(point.retention)
    return sanitize(pilot.run), steps, strength, gain_text(point), retention, sanitize(values_text(pilot))


def gain_text(point: PilotPoint) -> str:
    """The gain with its interval where there is one."""
    known = math.isfinite(point.gain_interval.low)
    return interval_text(point.gain_interval) if known else f"{point.gain:.2f}"
