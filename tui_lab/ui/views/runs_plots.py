"""Curves of several runs in one plot. Each has a colour and a letter on its curve, so that no meaning depends
on colour alone. Pure functions of the curves in the logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_uppercase

from tui_lab.runs.curves import smooth
from tui_lab.runs.overlay import RunCurves
from tui_lab.ui.views.plot_series import PlotOptions, PlotSeries

ROLES = tuple(f"run-{number}" for number in range(1, 7))
#: Letters on each curve.
LETTERS_ON_CURVE = 4
#: Training loss with more points than this is smoothed, because several raw curves cannot be told apart.
SMOOTHED_FROM = 40
TITLES = {"loss": "training loss", "validation": "validation loss", "retention": "retention"}
EMPTY = {
    "loss": "None of these runs has finished a step yet.",
    "validation": "None of these runs has been evaluated on held-out rows yet.",
    "retention": "None of these runs has retention probes (recipe: probe).",
}


def letter(number: int) -> str:
    """A, B … Z, a, b … z, then from A again."""
    return (ascii_uppercase + ascii_uppercase.lower())[number % 52]


def role(number: int) -> str:
    return ROLES[number % len(ROLES)]


def time_unit(longest_s: float) -> tuple[float, str]:
    """(divisor, name) of the unit for a time axis."""
    return (1.0, "s") if longest_s < 180 else (60.0, "min") if longest_s < 3 * 3600 else (3600.0, "h")


def overlay(curves: Sequence[RunCurves], metric: str, axis: str) -> tuple[list[PlotSeries], str]:
    """(series, title) of the plot. ``axis``: "steps", "tokens" or "time"."""
    found = [each.points[metric] for each in curves]
    scale, unit = 1.0, ""
    if axis == "time":
        longest = max((points.seconds[-1] for points in found if points.seconds), default=0.0)
        scale, unit = time_unit(longest)
    series: list[PlotSeries] = []
    letters: list[PlotSeries] = []  # drawn after all curves, so that no curve hides a letter
    smoothed = metric == "loss" and any(len(points.steps) > SMOOTHED_FROM for points in found)
    for number, points in enumerate(found):
        if not points.values:
            continue
        xs = [x / scale for x in points.xs(axis)]
        ys = smooth(points.values) if smoothed else list(points.values)
        series.append(PlotSeries(letter(number), role(number), xs, ys))
        places = _letter_points(ys, number, len(found))
        letters.append(
            PlotSeries(
                "", role(number), [xs[i] for i in places], [ys[i] for i in places], mark=letter(number)
            )
        )
    title = f"{TITLES[metric]}{' (smoothed)' if smoothed else ''} by {axis}{f' ({unit})' if unit else ''}"
    return series + letters, title


def _letter_points(ys: Sequence[float], number: int, many: int) -> list[int]:
    """Indexes of the points with the letter: spread along the curve, different for each run, never in a
    gap."""
    fractions = [(turn + (number + 1) / (many + 1)) / LETTERS_ON_CURVE for turn in range(LETTERS_ON_CURVE)]
    found = dict.fromkeys(round(fraction * (len(ys) - 1)) for fraction in fractions)
    return [place for place in found if math.isfinite(ys[place])]


def options_for(metric: str, axis: str, title: str) -> dict[str, object]:
    """Options of the plot, for :meth:`Plot.set_options`."""
    return {
        "title": title,
        "empty": EMPTY[metric],
        "settle": metric != "retention",
        "whole_x": axis == "steps",
    }


FIRST = PlotOptions("curves", "Mark runs with {runs.mark} on the list to see their curves in one plot.")
