"""The decisions of ``tui-lab search``: what a pilot is worth under the promise, when the budget allows
another one, which recipe is chosen, and whether fresh seeds confirm it. Pure functions; no torch, no
Optuna."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.format import duration, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast.cost import Prices
from tui_lab.retention.statistics import Interval

#: Steps of the rungs of successive halving, as multiples of those of the first: each keeps a third.
RUNGS = (1, 3)
REDUCTION = 3
#: Fresh seeds that confirm the choice.
CONFIRMATIONS = 2
#: A pilot takes at most this times its prediction from the ones before it.
SPREAD = 1.25
_BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|kwh)?\s*$", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "": 60.0, "h": 3600.0}


class PilotPoint(msgspec.Struct, frozen=True):
    """What a pilot measured at one strength of its adapter. ``gain``: the held-out score, 0 to 1."""

    strength: float
    gain: float
    retention: Interval
    gain_interval: Interval = Interval(math.nan, math.nan, math.nan)


class Pilot(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run. ``trial`` has ``values`` of the recipe; ``rung`` counts from 0; ``seed`` is the
    run's. ``base``: the held-out score of the base; ``energy_j``: of its run, where power is measured.
    ``problem``: why it has no points."""

    trial: int
    rung: int
    steps: int
    seed: int
    values: dict[str, float | int | str | bool]
    run: str
    seconds: float
    points: list[PilotPoint] = []
    problem: str = ""
    base: float = math.nan
    energy_j: float | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A pilot at the strength that serves it best; ``kept``: it keeps the promise."""

    pilot: Pilot
    point: PilotPoint
    kept: bool


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``search.json``. ``front``: the pilots that no other beats in gain and retention at
    once; ``confirmations``: the chosen recipe with fresh seeds, at the chosen strength."""

    search: str
    model: str
    data: str
    keep: float
    budget_s: float
    spent_s: float = 0.0
    suite: str = ""
    pilots: list[Pilot] = []
    front: list[Choice] = []
    chosen: Choice | None = None
    confirmations: list[Pilot] = []
    confirmed: bool = False
    sentence: str = ""
    v: int = 1


def parse_budget(text: str, prices: Prices) -> float:
    """A budget in seconds: a time ("40min", "2h", "90s"; minutes without a unit) or an amount of money with
    the currency of the settings before or after it. Raises LabError."""
    money = text.replace(prices.currency, "", 1) if prices.currency and prices.currency in text else ""
    found = _BUDGET.match(money or text)
    unit = (found[2] or "").lower() if found else ""
    if found is None or (money and unit):
        raise LabError(
            f"--budget is a time such as 40min or 2h, or money such as 3{prices.currency}; not "
            f"{sanitize(text)[:40]!r}"
        )
    amount = float(found[1])
    if unit == "kwh":
        raise LabError("an energy budget is not supported: give a time, such as --budget 40min")
    if money:
        if not prices.per_hour:
            raise LabError("a budget in money needs the price of an hour: set price_per_hour in the settings")
        amount, unit = amount / prices.per_hour, "h"
    seconds = amount * _SECONDS[unit]
    if seconds <= 0:
        raise LabError("--budget must be more than nothing")
    return seconds


def check_keep(keep: float) -> float:
    """The promise, a share above 0 and at most 1. Raises LabError."""
    if not math.isfinite(keep) or not 0 < keep <= 1:
        raise LabError(f"--keep is the share of retention to keep, above 0 and at most 1, not {keep:g}")
    return keep


# --- what a pilot is worth ----------------------------------------------------------------------------


def best_point(pilot: Pilot, keep: float) -> Choice | None:
    """The strength with the highest gain whose interval of retention lies above ``keep``; where there is
    none, the one that comes nearest to it. None for a pilot without points. Strength 0 is the base: not a
    choice."""
    points = [point for point in pilot.points if point.strength > 0 and not math.isnan(point.retention.low)]
    if not points:
        return None
    kept = [point for point in points if point.retention.low >= keep]
    if kept:
        best = max(kept, key=lambda point: (_number(point.gain), point.retention.low, -point.strength))
        return Choice(pilot=pilot, point=best, kept=True)
    best = max(points, key=lambda point: (point.retention.low, _number(point.gain)))
    return Choice(pilot=pilot, point=best, kept=False)


def worth(pilot: Pilot, keep: float) -> float:
    """The objective of the sampler: the gain where the promise is kept, else how far it is missed, below
    0."""
    found = best_point(pilot, keep)
    if found is None:
        return -1.0
    return _number(found.point.gain) if found.kept else min(found.point.retention.low - keep, -1e-6)


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def choose(pilots: Sequence[Pilot], keep: float) -> Choice | None:
    """The best pilot: one that keeps the promise before one that does not, then the higher worth, then the
    fewer steps. None without a measured pilot."""
    found = [choice for pilot in pilots if (choice := best_point(pilot, keep)) is not None]
    return max(
        found,
        key=lambda c: (c.kept, worth(c.pilot, keep), -c.pilot.steps, -c.pilot.trial),
        default=None,
    )


def front(pilots: Sequence[Pilot]) -> list[Choice]:
    """The pilots, each at one strength, that no other beats in gain and in the lower end of retention; by
    gain."""
    every = [
        Choice(pilot=pilot, point=point, kept=False)
        for pilot in pilots
        for point in pilot.points
        if point.strength > 0 and math.isfinite(point.gain) and math.isfinite(point.retention.low)
    ]
    every.sort(key=lambda c: (-c.point.gain, -c.point.retention.low))
    found: list[Choice] = []
    for choice in every:
        if not found or choice.point.retention.low > found[-1].point.retention.low:
            found.append(choice)
    return found


# --- budget -------------------------------------------------------------------------------------------


def predicted_seconds(pilots: Sequence[Pilot], steps: int) -> float | None:
    """How long a pilot of ``steps`` takes: as the slowest of the shortest pilots that had as many steps, else
    as the slowest of the longest, scaled by its steps. None without a pilot."""
    measured = [pilot for pilot in pilots if not pilot.problem]
    if not measured:
        return None
    enough = [pilot.steps for pilot in measured if pilot.steps >= steps]
    nearest = min(enough) if enough else max(pilot.steps for pilot in measured)
    slowest = max(pilot.seconds for pilot in measured if pilot.steps == nearest)
    return slowest if enough else slowest * steps / max(1, nearest)


def fits(pilots: Sequence[Pilot], steps: int, left_s: float, reserved_s: float) -> bool:
    """Whether a pilot of ``steps`` fits into what is left when ``reserved_s`` stays for the confirmations.
    The first pilot always does: it is ended when the budget is."""
    predicted = predicted_seconds(pilots, steps)
    return predicted is None or predicted * SPREAD + reserved_s <= left_s


def reserve(pilots: Sequence[Pilot], keep: float) -> float:
    """Seconds that stay for the confirmations of what would be chosen now."""
    chosen = choose(pilots, keep)
    if chosen is None:
        return 0.0
    return CONFIRMATIONS * SPREAD * (predicted_seconds(pilots, chosen.pilot.steps) or 0.0)


# --- sentences ----------------------------------------------------------------------------------------


def is_confirmed(confirmations: Sequence[Pilot], keep: float) -> bool:
    """Whether every fresh seed keeps the promise at the chosen strength; the one point of each decides."""
    measured = [pilot.points[-1] for pilot in confirmations if pilot.points]
    return len(measured) == CONFIRMATIONS and all(point.retention.low >= keep for point in measured)


def sentence(result: SearchResult) -> str:
    """The result in words: the choice and why, whether it was confirmed, or what was missing."""
    keep, chosen = result.keep, result.chosen
    budget = duration(result.budget_s)
    if chosen is None:
        slowest = predicted_seconds(result.pilots, 1)
        takes = f"; one takes about {duration(slowest)}" if slowest else ""
        return f"The budget of {budget} ended before one pilot was measured{takes}: give more time."
    values = ", ".join(f"{key} {_shown(value)}" for key, value in chosen.pilot.values.items())
    at = f"{values}, {chosen.pilot.steps} steps, strength {chosen.point.strength:g}"
    low = f"retention {_interval(chosen.point.retention)}"
    if not chosen.kept:
        return (
            f"No pilot kept {keep:.0%} for sure within {budget}. The nearest: {at}, gain "
            f"{chosen.point.gain:.3f}, {low}. A lower --keep, a smaller learning rate, replay or more items "
            "of the suite would be needed."
        )
    of = plural(len(result.pilots), "pilot")
    text = (
        f"Chosen: {at}. It has the highest gain ({chosen.point.gain:.3f}) of {of} whose {low} lies above "
        f"{keep:.0%}."
    )
    fresh = [pilot.points[-1] for pilot in result.confirmations if pilot.points]
    if len(fresh) < CONFIRMATIONS:
        return (
            f"{text} It is not confirmed: the budget ended before {CONFIRMATIONS} fresh seeds were measured."
        )
    shown = " and ".join(f"gain {point.gain:.3f}, retention {_interval(point.retention)}" for point in fresh)
    if result.confirmed:
        return f"{text} Confirmed by {len(fresh)} fresh seeds on the whole suite: {shown}."
    return (
        f"{text} Not confirmed: on fresh seeds and the whole suite it has {shown}. The best of many pilots "
        "is partly luck (the winner's curse), so take a smaller strength or search longer."
    )


def _interval(value: Interval) -> str:
    return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"


def _shown(value: float | int | str) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
