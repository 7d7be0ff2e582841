"""The verdict on a comparison, as a colour and a sentence.

Green: the whole interval of the retention is above the threshold. Red: the whole interval is below. Amber:
the interval contains the threshold. "Cannot tell": the base is not clearly above guessing, so no loss can be
measured. The point estimate alone never decides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from tui_lab.retention.statistics import (
    NO_INTERVAL,
    Interval,
    Paired,
    items_needed,
    mcnemar_exact,
    retention,
    retention_above_chance,
)

Colour = Literal["green", "amber", "red", "cannot_tell"]
#: The verdict where the base is not clearly above guessing: its retention says nothing and is not shown.
CANNOT_TELL: Final = "cannot_tell"
THRESHOLD = 0.9
#: The base must be this many standard errors above chance for a loss to be measurable.
CLEAR_OF_CHANCE = 3.0


@dataclass(frozen=True)
class Verdict:
    """`above_chance` is None where the suite has no chance level; `mcnemar_p` is nan where items are not
    right or wrong."""

    colour: Colour
    retention: Interval
    above_chance: Interval | None
    mcnemar_p: float
    sentence: str


def judge_paired(
    paired: Paired, chance: float | None, threshold: float = THRESHOLD, level: float = 0.95
) -> Verdict:
    """The verdict on right and wrong answers, above chance where the suite has a chance level. ``chance`` and
    ``threshold`` are shares, 0 to 1, ``level`` the confidence level."""
    retained = retention(paired, level)
    above = None if chance is None else retention_above_chance(paired, chance, level)
    p = mcnemar_exact(paired.b, paired.c)
    if _near_chance(paired.pre, paired.pre_se, chance or 0.0):
        return Verdict(
            "cannot_tell", retained, above, p, _cannot_tell(paired.pre, paired.pre_se, chance, paired.n)
        )
    deciding = retained if above is None else above
    colour = colour_of(deciding, threshold)
    flips = f"{paired.b} lost, {paired.c} gained of {paired.n:,} items"
    sentence = f"{_lead(colour, deciding, above is not None, threshold, level)}; {flips}."
    if colour == "amber":
        sentence += _more_items(paired, threshold, chance or 0.0)
    return Verdict(colour, retained, above, p, sentence)


def judge_interval(
    retained: Interval,
    pre: float,
    pre_se: float,
    chance: float | None = None,
    threshold: float = THRESHOLD,
    n: int = 0,
    level: float = 0.95,
) -> Verdict:
    """The verdict on a metric that is not right or wrong (mc2, mcc, f1, perplexity), from its interval, which
    is taken above chance when there is a chance level. ``pre_se`` 0 for perplexity: it has no chance."""
    above = None if chance is None else retained
    if _near_chance(pre, pre_se, chance or 0.0):
        return Verdict("cannot_tell", retained, above, math.nan, _cannot_tell(pre, pre_se, chance, n))
    colour = colour_of(retained, threshold)
    return Verdict(
        colour, retained, above, math.nan, _lead(colour, retained, above is not None, threshold, level) + "."
    )


def deciding(verdict: str, retained: Interval, above_chance: Interval | None) -> Interval:
    """The retention that a verdict is about: above chance where the suite has a chance level; none where the
    base is at chance."""
    return NO_INTERVAL if verdict == CANNOT_TELL else above_chance or retained


def colour_of(retained: Interval, threshold: float = THRESHOLD) -> Colour:
    """Green, red or amber by the position of the interval; "cannot_tell" for NaN."""
    if math.isnan(retained.low) or math.isnan(retained.high) or math.isnan(retained.value):
        return "cannot_tell"
    return "green" if retained.low > threshold else "red" if retained.high < threshold else "amber"


def _near_chance(pre: float, pre_se: float, chance: float) -> bool:
    margin = 0.0 if math.isnan(pre_se) else CLEAR_OF_CHANCE * pre_se
    return math.isnan(pre) or pre - chance <= margin


def _cannot_tell(pre: float, pre_se: float, chance: float | None, n: int) -> str:
    if math.isnan(pre):
        return "Cannot tell: no items were scored."
    of = f" of {n:,} items" if n else ""
    if chance is None:
        return f"Cannot tell: the base scored {pre:.1%}{of}, so there was too little that it could lose."
    needed = ""
    if pre > chance and 0 < pre < 1 and n:
        wanted = math.ceil(CLEAR_OF_CHANCE**2 * pre * (1 - pre) / (pre - chance) ** 2)
        needed = f"; if that is its true score, more than {max(wanted, n):,} items would show it"
    return (
        f"Cannot tell: the base scored {pre:.1%}{of}, not clearly above guessing ({chance:.1%}; three "
        f"standard errors are {CLEAR_OF_CHANCE * pre_se:.1%}){needed}."
    )


def _lead(colour: Colour, retained: Interval, above: bool, threshold: float, level: float) -> str:
    what = "of what it knew above chance" if above else "of its score"
    interval = f"the {level:.0%} interval, {retained.low:.1%} to {retained.high:.1%},"
    return {
        "green": f"Kept {retained.value:.1%} {what}: {interval} is above the {threshold:.0%} threshold",
        "red": f"Kept only {retained.value:.1%} {what}: {interval} is below the {threshold:.0%} threshold",
        "amber": f"Kept {retained.value:.1%} {what}: {interval} includes the {threshold:.0%} threshold",
        "cannot_tell": "Cannot tell: the scores are not numbers",
    }[colour]


def _more_items(p: Paired, threshold: float, chance: float) -> str:
    """The number of items that would distinguish the observed retention from the threshold, up to 20,000."""
    apart = abs((p.post - chance) - threshold * (p.pre - chance))
    if not 0 < apart <= p.flips:
        return ""
    needed = items_needed(p.flips, apart)
    return f" About {needed:,} items would decide." if p.n < needed <= 20_000 else ""
