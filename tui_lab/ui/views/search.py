"""A search under a promise as lines for Runs and Setup: its state, the front of gain against retention with
intervals, the choice and why; and what a new one will take. Pure functions; texts are sanitized."""

from __future__ import annotations

import math

from tui_lab.core.format import duration, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.search_plan import CONFIRMATIONS, REDUCTION, RUNGS, Budget
from tui_lab.evaluation.search_start import first_steps
from tui_lab.forecast.cost import planned_steps
from tui_lab.forecast.estimate import RunEstimate
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.statistics import Interval
from tui_lab.runs.searches import FoundSearch, SearchResult, budget_text, interval_text, values_text
from tui_lab.ui.views.run_time import run_time
from tui_lab.ui.views.spans import fit
from tui_lab.ui.views.states import state_text

#: Of retention: where the bars begin and end.
LOWEST, HIGHEST = 0.5, 1.1
MOST_BAR, LEAST_BAR = 24, 12


def state_line(found: SearchResult, state: str) -> str:
    """State, what is done now, pilots and time left of a search."""
    left = max(0.0, found.budget_s - found.spent_s)
    parts = [f"{sanitize(found.search)}: {state_text(state)}"]
    if state == "running" and found.progress:
        parts.append(sanitize(found.progress))
    parts.append(f"{plural(len(found.pilots), 'pilot')}, {duration(found.spent_s)} of {budget_text(found)}")
    if state != "finished":
        parts.append(f"{duration(left)} left")
    return "   ".join(parts)


def head(found: FoundSearch, key: str) -> str:
    """The state of a search, and what the key does; nothing more for one that has used its budget."""
    if found.state == "finished":
        return state_line(found.result, found.state)
    does = "stops it" if found.state == "running" else "lets it go on"
    return f"{state_line(found.result, found.state)}   ({key} {does})"


def search_lines(found: SearchResult, state: str, width: int) -> list[tuple[str, bool]]:
    """The search below its state: (line, whether it is the chosen pilot)."""
    lines: list[tuple[str, bool]] = []
    if found.problem:
        lines.append((sanitize(found.problem), False))
    elif found.sentence and state != "running":
        lines.append((sanitize(found.sentence), False))
    if not found.front:
        return [*lines, ("No pilot is measured yet.", False)]
    cells = min(MOST_BAR, width - 54)
    bar = f"  {'retention, ' + str(LOWEST) + ' to ' + str(HIGHEST):<{cells}}" if cells >= LEAST_BAR else ""
    lines.append((f"{'run':<11}  steps  strength   gain  {'retention':<16}{bar}  recipe"[:width], False))
    chosen = found.chosen
    for choice in found.front:
        pilot, point = choice.pilot, choice.point
        is_chosen = (
            chosen is not None and chosen.pilot.run == pilot.run and chosen.point.strength == point.strength
        )
        drawn = f"  {retention_bar(point.retention, found.keep, cells)}" if cells >= LEAST_BAR else ""
        line = (
            f"{fit(run_time(pilot.run), 11)}  {pilot.steps:>5}  {point.strength:>8g}  {point.gain:>5.3f}  "
            f"{_interval(point.retention):<16}{drawn}  {values_text(pilot)}"
        )
        lines.append((fit(sanitize(line), width).rstrip(), is_chosen))
    for pilot in found.confirmations:
        for point in pilot.points[-1:]:
            line = (
                f"fresh seed {pilot.seed}: strength {point.strength:g}, gain {point.gain:.3f}, retention "
                f"{interval_text(point.retention)}"
            )
            lines.append((line[:width], False))
    return lines


def _interval(value: Interval) -> str:
    return f"{value.value:.2f} ({value.low:.2f}–{value.high:.2f})"


def retention_bar(value: Interval, keep: float, cells: int) -> str:
    """An interval on the axis, with the promise as a line through it."""

    def place(x: float) -> int:
        share = (min(HIGHEST, max(LOWEST, x)) - LOWEST) / (HIGHEST - LOWEST)
        return min(cells - 1, round(share * (cells - 1)))

    if not all(map(math.isfinite, (value.low, value.value, value.high))):
        return " " * cells
    row = ["─" if place(value.low) <= at <= place(value.high) else " " for at in range(cells)]
    row[place(keep)] = "┿" if row[place(keep)] == "─" else "┊"
    row[place(value.value)] = "●"
    return "".join(row)


def long_pilot_seconds(recipe: Recipe, estimate: RunEstimate | None, rows: int | None) -> float | None:
    """How long a pilot of the last rung trains by the forecast; None where the speed, or how many steps the
    forecast is of, is not known. ``rows``: of the data."""
    cost = estimate.cost if estimate is not None else None
    if estimate is None or cost is None or cost.hours is None:
        return None
    steps = planned_steps(estimate.as_run(recipe), rows)
    return cost.hours.value * 3600 * first_steps(recipe) * RUNGS[-1] / steps if steps else None


def expected(budget: Budget, long_s: float | None) -> str:
    """How many pilots fit the budget; ``long_s``: the seconds of one of the last rung."""
    if long_s is None:
        return (
            f"{duration(budget.seconds)} in all. How many pilots fit is not known: the speed of this recipe "
            "is not measured yet, or its rows are not counted yet."
        )
    # each trial is a short run, and every third of them a long one, too
    trial_s = long_s * (RUNGS[0] / RUNGS[-1] + 1 / REDUCTION)
    left = budget.seconds - CONFIRMATIONS * long_s
    fits = int(left / trial_s) if trial_s > 0 else 0
    if fits < 1:
        return (
            f"A run takes about {duration(long_s)} by the forecast: {duration(budget.seconds)} is too little "
            f"for a pilot and {CONFIRMATIONS} confirmations."
        )
    return (
        f"{duration(budget.seconds)} in all: at most about {plural(fits, 'pilot')} and {CONFIRMATIONS} "
        f"confirmations of {duration(long_s)} each by the forecast. Loading and measuring come on top."
    )
