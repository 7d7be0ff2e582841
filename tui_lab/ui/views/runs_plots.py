"""Curves of several runs over each other: each by its colour and by a letter that stands on it, so that
colour never carries the meaning alone. Pure functions of what was read from the logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_uppercase

from tui_lab.runs.overlay import Curves
from tui_lab.runs.state import smooth
from tui_lab.ui.views.plot_draw import PlotOptions, Series

ROLES = tuple(f"run-{number}" for number in range(1, 7))
#: How often a run's letter stands on its curve.
LETTERS_ON_CURVE = 4
#: Training loss of more points than this is smoothed: raw, several lie over each other as one cloud.
SMOOTHED_FROM = 40
TITLES = {"loss": "training loss", "validation": "validation loss", "retention": "retention"}
EMPTY = {
    "loss": "None of these runs has made a step yet.",
    "validation": "None of these runs was measured on held-out rows yet.",
    "retention": "None of these runs was probed for what it keeps (recipe: probe).",
}


def letter(number: int) -> str:
    """A, B … Z, then a, b … z, and again: 52 curves can be told apart, more than can be seen."""
    return (ascii_uppercase + ascii_uppercase.lower())[number % 52]


def role(number: int) -> str:
    return ROLES[number % len(ROLES)]


def time_unit(longest_s: float) -> tuple[float, str]:
    """What seconds are divided by for an axis, and its name."""
    return (1.0, "s") if longest_s < 180 else (60.0, "min") if longest_s < 3 * 3600 else (3600.0, "h")


def overlay(curves: Sequence[Curves], metric: str, axis: str) -> tuple[list[Series], str]:
    """The series to draw, and the plot's title."""
    found = [each.points[metric] for each in curves]
    scale, unit = 1.0, ""
    if axis == "time":
        longest = max((points.seconds[-1] for points in found if points.seconds), default=0.0)
        scale, unit = time_unit(longest)
    series: list[Series] = []
    letters: list[Series] = []  # over all curves, so that none hides another's
    smoothed = metric == "loss" and any(len(points.steps) > SMOOTHED_FROM for points in found)
    for number, points in enumerate(found):
        if not points.values:
            continue
        xs = [x / scale for x in points.xs(axis)]
        ys = smooth(points.values) if smoothed else list(points.values)
        series.append(Series("", role(number), xs, ys))
        places = _places(ys, number, len(found))
        letters.append(
            Series("", role(number), [xs[i] for i in places], [ys[i] for i in places], mark=letter(number))
        )
    words = f"{TITLES[metric]}{' (smoothed)' if smoothed else ''} by {axis}{f' ({unit})' if unit else ''}"
    return series + letters, words


def _places(ys: Sequence[float], number: int, many: int) -> list[int]:
    """Where the letter stands: a few places along the curve, others for each run, and never in a gap."""
    fractions = [(turn + (number + 1) / (many + 1)) / LETTERS_ON_CURVE for turn in range(LETTERS_ON_CURVE)]
    found = dict.fromkeys(round(fraction * (len(ys) - 1)) for fraction in fractions)
    return [place for place in found if math.isfinite(ys[place])]


def options_for(metric: str, axis: str, title: str) -> dict[str, object]:
    """How the plot looks, for :meth:`Plot.set_options`."""
    return {
        "title": title,
        "empty": EMPTY[metric],
        "from_zero": metric != "retention",
        "whole_x": axis == "steps",
        "x_high": 0.0,
    }


FIRST = PlotOptions("curves", "Mark runs with {runs.mark} on the list to see their curves over each other.")
