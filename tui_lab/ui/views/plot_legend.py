"""The line above a plot: its title, and the sample, name and value of each curve. Pure functions."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from tui_lab.ui.views.plot_data import quantity
from tui_lab.ui.views.plot_series import PlotOptions, PlotRow, PlotSeries, cut_row, plain
from tui_lab.ui.views.spans import fit


def heading(series: Sequence[PlotSeries], width: int, most: int, options: PlotOptions) -> list[PlotRow]:
    """Title, then sample, name and newest value of each series, in at most ``most`` rows. A heading with too
    little room has no values, then brief names, then an ellipsis in place of the last series."""
    named = [one for one in series if one.name]
    if not named and not options.title and math.isnan(options.cursor):
        return [cut_row([], width)]
    pointed = math.isfinite(options.cursor)
    styles = (
        (options.values or pointed, False),
        (options.values or pointed, True),
        (False, False),
        (False, True),
    )
    for shown in _groups(named, pointed):
        for rows in range(1, most + 1):
            for values, brief in styles[: 2 if rows < most or pointed else 4]:
                found = _wrapped(_legend(shown, options, values, brief), width)
                if 0 < len(found) <= rows:
                    return [cut_row(row, width) for row in found]
    row = [span for part in _legend(named, options, False, True) for span in part]
    while len(row) > 1 and len(plain([row]).rstrip()) >= width:
        row.pop()
    if row[-1][1] not in ("legend", "title") and len(row) > 1:
        row.pop()
    text, role = row[-1]
    return [cut_row([*row[:-1], (fit(f"{text.rstrip()}…", min(width, len(text) + 1)), role)], width)]


def _groups(named: Sequence[PlotSeries], pointed: bool) -> list[Sequence[PlotSeries]]:
    """What a heading names, the most first: at a cursor values count more than the names of limits, intervals
    and single points."""
    if not pointed:
        return [named]
    curves = [one for one in named if one.style != "dashed" and one.shows_last]
    groups = [named, curves, [one for one in curves if not one.labels]]
    return [group for group in groups if group]


def _wrapped(parts: Sequence[PlotRow], width: int) -> list[PlotRow]:
    """The parts of a legend in as few rows as they need; none where a part is too long."""
    rows: list[PlotRow] = [[]]
    for part in parts:
        if rows[-1] and len(plain([[*rows[-1], *part]]).rstrip()) > width:
            rows.append([])
            part = [(part[0][0].lstrip(), part[0][1]), *part[1:]]
        rows[-1] = [*rows[-1], *part]
    too_long = any(len(plain([row]).rstrip()) > width for row in rows)
    return [] if too_long else rows


def _legend(named: Sequence[PlotSeries], options: PlotOptions, values: bool, brief: bool) -> list[PlotRow]:
    pointed = math.isfinite(options.cursor)
    title = f"{options.title} " if options.title else ""
    parts: list[PlotRow] = [[(title, "title")]] if title else []
    if pointed:
        at = f"step {options.cursor:.0f}" if options.whole_x else f"at {quantity(options.cursor, 'number')}"
        parts.append([(f"{' ' if title else ''}{at} ", "title")])
    for one in named:
        shown, label = _shown(one, options)
        if pointed and one.labels and math.isnan(shown):
            continue
        value = f"{label} {quantity(shown, options.unit)}" if values and math.isfinite(shown) else ""
        gap = " " if not brief and parts else ""
        sample = (f"{gap}{one.mark or options.glyph(one.style)} ", one.role)
        parts.append([sample, (f"{(brief and one.brief) or one.name}{value} ", "legend")])
    return parts


def _shown(one: PlotSeries, options: PlotOptions) -> tuple[float, str]:
    """The value of a series in the legend, NaN for none, and the label of its point."""
    if not math.isfinite(options.cursor):
        return one.last if one.shows_last else math.nan, ""
    if one.labels:  # points of their own: none stands for what lies beyond it
        here = bisect_left(one.xs, options.cursor)
        is_point = here < len(one.xs) and one.xs[here] == options.cursor
        return (one.ys[here], f" {one.labels[here]}") if is_point else (math.nan, "")
    return one.at(options.cursor), ""
