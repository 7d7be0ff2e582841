"""The decisions of ``tui-lab search``: what a pilot is worth under the promise, when the budget allows
another one, which recipe is chosen, and whether fresh seeds confirm it. Pure functions; no torch, no
Optuna."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from tui_lab.core.errors import LabError
from tui_lab.core.format import JOULES_PER_KWH, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast.cost import Prices
from tui_lab.retention.statistics import Interval
from tui_lab.runs.searches import (
    Choice,
    Pilot,
    PilotPoint,
    SearchResult,
    budget_text,
    interval_text,
    mean_power_w,
    values_text,
)

#: Steps of the rungs of successive halving, as multiples of those of the first: each keeps a third.
RUNGS = (1, 3)
REDUCTION = 3
#: Fresh seeds that confirm the choice.
CONFIRMATIONS = 2
#: A pilot of the first rung that costs a larger share of one of the last is left out.
SHORT_SHARE = 0.5
#: Gains that differ by this share are taken for equal.
GAIN_TIE = 0.02
#: More items than these times as many are not advised.
MOST_ITEMS_TIMES = 10
#: A pilot and the confirmations that follow take at most this times their prediction from the ones before.
SPREAD = 1.1
_BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|kwh)?\s*$", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "": 60.0, "h": 3600.0}


class Budget(NamedTuple):
    """In seconds; ``kwh``: in energy, where it was given so, with the power that makes it those seconds."""

    seconds: float
    kwh: float | None = None
    watts: float = 0.0


def parse_budget(text: str, prices: Prices, watts: float = 0.0) -> Budget:
    """A budget: a time ("40min", "2h", "90s"; minutes without a unit), an amount of money with the currency
    of the settings before or after it, or an energy ("0.3kWh") at ``watts``, 0 where the power is not known.
    Raises LabError."""
    money = text.replace(prices.currency, "", 1) if prices.currency and prices.currency in text else ""
    found = _BUDGET.match(money or text)
    unit = (found[2] or "").lower() if found else ""
    if found is None or (money and unit):
        raise LabError(
            f"--budget is a time such as 40min or 2h, money such as 3{prices.currency}, or energy such as "
            f"0.3kWh; not {sanitize(text)[:40]!r}"
        )
    amount = float(found[1])
    if amount <= 0:
        raise LabError("--budget must be more than nothing")
    if unit == "kwh":
        if not watts:
            raise LabError(
                "a budget in energy needs the power of this machine, and no card here measures it: set "
                "machine_watts in the settings"
            )
        return Budget(amount * JOULES_PER_KWH / watts, amount, watts)
    if money:
        if not prices.per_hour:
            raise LabError("a budget in money needs the price of an hour: set price_per_hour in the settings")
        amount, unit = amount / prices.per_hour, "h"
    return Budget(amount * _SECONDS[unit])


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
    """The best pilot: one that keeps the promise before one that does not, then the higher gain. Of those
    within :data:`GAIN_TIE` of the highest gain, which differ by luck, the one that keeps most, then the one
    with fewer steps. None without a measured pilot."""
    found = [choice for pilot in pilots if (choice := best_point(pilot, keep)) is not None]
    kept = [choice for choice in found if choice.kept]
    if not kept:
        return max(found, key=lambda c: (worth(c.pilot, keep), -c.pilot.steps, -c.pilot.trial), default=None)
    least = (1 - GAIN_TIE) * max(choice.point.gain for choice in kept)
    near = [choice for choice in kept if choice.point.gain >= least]
    return max(near, key=lambda c: (c.point.retention.low, -c.pilot.steps, -c.pilot.trial))


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
    """How long a pilot of ``steps`` takes: as the slowest of those whose steps are nearest, of which the part
    that is training grows with the steps. None without a pilot."""
    measured = [pilot for pilot in pilots if not pilot.problem]
    if not measured:
        return None
    distance = {pilot.steps: abs(math.log(steps / pilot.steps)) for pilot in measured}
    nearest = min(distance, key=lambda each: (distance[each], -each))
    return max(_scaled(pilot, steps) for pilot in measured if pilot.steps == nearest)


def _scaled(pilot: Pilot, steps: int) -> float:
    """The seconds of ``pilot`` with as many ``steps``: start and measuring take the same. One whose share of
    training is not known takes the same for fewer steps."""
    times = steps / pilot.steps
    if math.isnan(pilot.train_share):
        return pilot.seconds * max(1.0, times)
    return pilot.seconds * (1 + pilot.train_share * (times - 1))


def short_pays(pilots: Sequence[Pilot], steps: int) -> bool:
    """Whether a pilot of the first rung, of ``steps``, costs less than :data:`SHORT_SHARE` of one of the last
    rung. It does until it is known."""
    short, long = (predicted_seconds(pilots, steps * times) for times in (RUNGS[0], RUNGS[-1]))
    return short is None or long is None or short <= SHORT_SHARE * long


def budget_seconds(result: SearchResult) -> float:
    """The budget in seconds; one in energy lasts as long as the mean power allows."""
    if result.budget_kwh is None:
        return result.budget_s
    return result.budget_kwh * JOULES_PER_KWH / mean_power_w(result)


def fits(pilots: Sequence[Pilot], steps: int, left_s: float, reserved_s: float) -> bool:
    """Whether a pilot of ``steps`` fits into what is left when ``reserved_s`` stays for the confirmations.
    The first pilot always does: it is ended when the budget is."""
    predicted = predicted_seconds(pilots, steps)
    return predicted is None or predicted * SPREAD + reserved_s <= left_s


def reserve(pilots: Sequence[Pilot], keep: float, steps: int) -> float:
    """Seconds that stay for the confirmations: of what would be chosen now, or of a pilot of ``steps`` that
    may be chosen instead."""
    chosen = choose(pilots, keep)
    longest = max(steps, chosen.pilot.steps if chosen is not None and chosen.kept else 0)
    return CONFIRMATIONS * SPREAD * (predicted_seconds(pilots, longest) or 0.0)


# --- sentences ----------------------------------------------------------------------------------------


def is_kept(point: PilotPoint, keep: float) -> bool:
    """Whether the lower end of retention keeps the promise."""
    return point.retention.low >= keep


def is_confirmed(confirmations: Sequence[Pilot], keep: float) -> bool:
    """Whether every fresh seed keeps the promise at the same strength, that of its last point."""
    measured = [pilot.points[-1] for pilot in confirmations if pilot.points]
    same = len({point.strength for point in measured}) == 1
    return len(measured) == CONFIRMATIONS and same and all(is_kept(point, keep) for point in measured)


def sentence(result: SearchResult) -> str:
    """The result in words: the choice and why, whether it was confirmed, or what was missing."""
    keep, chosen = result.keep, result.chosen
    ended = "the search was stopped" if result.stopped else f"the budget of {budget_text(result)} ended"
    if chosen is None:
        failed = next((f" ({pilot.problem})" for pilot in result.pilots if pilot.problem), "")
        more = "--resume goes on" if result.stopped else "give several times as much"
        return f"{ended[0].upper()}{ended[1:]} before one pilot was measured{failed}: {more}."
    at = f"{recipe_text(chosen.pilot)}, strength {chosen.point.strength:g}"
    low = f"retention {interval_text(chosen.point.retention)}"
    if not chosen.kept:
        return (
            f"No pilot kept {keep:.0%} for sure before {ended}. The nearest: {at}, gain "
            f"{chosen.point.gain:.3f}, {low}. {_would_take(chosen.point.retention, keep)}"
        )
    of = plural(len(result.pilots), "pilot")
    text = f"Chosen: {at}. It has {_why(chosen, result)} of {of} whose {low} lies above {keep:.0%}."
    if result.refuted:
        text += f" Fresh seeds did not confirm {plural(len(result.refuted), 'better pilot')}."
    fresh = [pilot.points[-1] for pilot in result.confirmations if pilot.points]
    refuted = any(not is_kept(point, keep) for point in fresh)
    if len(fresh) < CONFIRMATIONS and not refuted:
        return f"{text} It is not confirmed: {ended} before {CONFIRMATIONS} fresh seeds were measured."
    shown = " and ".join(f"gain {p.gain:.3f}, retention {interval_text(p.retention)}" for p in fresh)
    if result.confirmed:
        strength = fresh[0].strength
        lower = "" if strength == chosen.point.strength else f" at strength {strength:g}"
        return f"{text} Confirmed{lower} by {len(fresh)} fresh seeds on the whole suite: {shown}."
    return (
        f"{text} Not confirmed: with fresh seeds, on the whole suite, it has {shown}. The best of many "
        "pilots is partly luck (the winner's curse), so search longer."
    )


def _why(chosen: Choice, result: SearchResult) -> str:
    """What the choice has before the other pilots that keep the promise."""
    gain = chosen.point.gain
    kept = [choice for pilot in result.pilots if (choice := best_point(pilot, result.keep)) and choice.kept]
    others = [each.point.gain for each in kept if each.pilot.run not in result.refuted]
    highest = max(others, default=gain)
    if highest <= gain:
        return f"the highest gain ({gain:.3f})"
    return f"the gain {gain:.3f}, within {GAIN_TIE:.0%} of the highest ({highest:.3f}), and keeps more,"


def _would_take(retention: Interval, keep: float) -> str:
    """What would keep the promise that was missed."""
    if retention.value > keep and retention.value > retention.low:
        times = ((retention.value - retention.low) / (retention.value - keep)) ** 2
        if times < MOST_ITEMS_TIMES:
            return f"About {times:.1f} times as many items of the suite (--items) would make it sure."
    lower = f"--keep {math.floor(retention.low * 100) / 100:g} is kept" if retention.low > 0 else ""
    return "; ".join(
        filter(None, [lower, "a smaller learning rate, fewer steps or more replay would forget less."])
    )


def recipe_text(pilot: Pilot) -> str:
    """The values and steps of a pilot."""
    return f"{values_text(pilot)}, {pilot.steps} steps"
