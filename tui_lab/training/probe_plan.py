"""When a run is probed and when it is stopped: pure functions of measured costs and results.

All probes together may take a share of the training time (3% by default). Items come first: at least four
item probes a run, of as many items as fit; more probes only when each covers all items of the suite. The
rest goes to the KL divergence from the base. Where the share is too small for the minimum, the minimum is
done, and the reason says what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tui_lab.core.format import duration

LEAST_PROBES = 4
#: Probes at most.
MOST_ITEM_PROBES = 12
MOST_KL_PROBES = 40
#: Items at least: with 16 the interval of an unchanged model reaches from 0.8 to 1 already.
LEAST_ITEMS = 16
MOST_ITEMS = 500
#: Part of the share that is planned: costs are measured on the base, and an adapter adds to them.
PLANNED_PART = 0.75
#: Part of the planned time that items get before KL.
ITEMS_PART = 0.65
#: The minimum for KL: sequences (whose number decides the interval) and tokens of each.
LEAST_SEQUENCES, LEAST_TOKENS = 4, 16
#: Sizes of the text for KL, largest first: sequences and tokens of each.
KL_SIZES = ((32, 256), (32, 128), (32, 64), (32, 32), (16, 32), (8, 32), (4, 32))
#: Seconds that measuring the base may take however short the run seems: the time of a forward pass predicts
#: that of a step poorly where a step is mostly overhead.
BASE_KL_S, BASE_ITEMS_S = 0.25, 1.0
#: One-sided error of stopping a run, divided among the planned probes (Bonferroni).
ALPHA = 0.05
CONSECUTIVE = 2


@dataclass(frozen=True)
class ProbeCosts:
    """Measured seconds. An item probe of n items takes ``item_fixed_s + n · item_s`` seconds."""

    step_s: float
    item_s: float
    item_fixed_s: float
    kl_token_s: float  # per general token, with the proportional tokens of the task's text
    kl_sequences: int  # general ones that the base was read on
    kl_length: int  # tokens of each

    def kl_s(self, sequences: int, length: int) -> float:
        """Seconds of a KL measurement on so many sequences of so many tokens."""
        return self.kl_token_s * sequences * length

    def items_s(self, items: int) -> float:
        """Seconds of an item probe."""
        return self.item_fixed_s + items * self.item_s if items else 0.0


@dataclass(frozen=True)
class ProbeSchedule:
    """What is probed at which steps. ``expected_share``: of the training time."""

    items: int
    item_at: tuple[int, ...]
    kl_sequences: int
    kl_length: int
    kl_at: tuple[int, ...]
    expected_share: float
    reason: str


def steps_of(total: int, count: int) -> tuple[int, ...]:
    """``count`` steps spread evenly over ``total``, the last one included."""
    count = max(0, min(count, total))
    return tuple(math.ceil((i + 1) * total / count) for i in range(count))


def make_schedule(
    total_steps: int, costs: ProbeCosts, items: int, share: float, suite_items: int = 0, spent_s: float = 0.0
) -> ProbeSchedule:
    """The schedule of a run of ``total_steps``. ``items``: number that the base was scored on, of
    ``suite_items``; ``share``: of the training time; ``spent_s``: seconds of the probes before the first
    step."""
    train_s = total_steps * costs.step_s
    budget_s = max(0.0, PLANNED_PART * share * train_s - spent_s)
    least = min(LEAST_PROBES, total_steps)
    # the minimum of KL comes before more than the minimum of items
    kl_least_s = least * costs.kl_s(min(LEAST_SEQUENCES, costs.kl_sequences), LEAST_TOKENS)
    items_budget_s = max(0.0, min(budget_s * ITEMS_PART, budget_s - kl_least_s))

    affordable = (items_budget_s / least - costs.item_fixed_s) / max(costs.item_s, 1e-9)
    count = min(items, max(LEAST_ITEMS, int(min(affordable, MOST_ITEMS)) if affordable > 0 else 0))
    probes = least
    if count == items and items:
        fits = int(items_budget_s / max(costs.items_s(count), 1e-9))
        probes = max(least, min(fits, MOST_ITEM_PROBES, total_steps))
    items_s = probes * costs.items_s(count) if count else 0.0

    remaining_s = budget_s - items_s
    sequences, length, kl_probes, kl_s = _kl(total_steps, costs, remaining_s, least)
    probe_s = spent_s + items_s + kl_s
    expected = probe_s / train_s if train_s > 0 else math.inf
    item_at = steps_of(total_steps, probes) if count else ()
    return ProbeSchedule(
        items=count,
        item_at=item_at,
        kl_sequences=sequences,
        kl_length=length,
        kl_at=steps_of(total_steps, kl_probes),
        expected_share=expected,
        reason=_reason(
            len(item_at), count, max(items, suite_items), kl_probes, probe_s, train_s, expected, share
        ),
    )


def _kl(total_steps: int, costs: ProbeCosts, remaining_s: float, least: int) -> tuple[int, int, int, float]:
    """Sequences, tokens of each, measurements and seconds of KL. More sequences come before longer ones, and
    both before more measurements."""
    if not costs.kl_sequences:
        return 0, 0, 0, 0.0
    tokens = remaining_s / least / max(costs.kl_token_s, 1e-12)
    sequences = min(costs.kl_sequences, max(LEAST_SEQUENCES, int(min(tokens / LEAST_TOKENS, 1e6))))
    length = min(costs.kl_length, max(LEAST_TOKENS, int(min(tokens / sequences, 1e6))))
    one_s = costs.kl_s(sequences, length)
    probes = max(least, min(int(remaining_s / one_s), MOST_KL_PROBES, total_steps))
    return sequences, length, probes, probes * one_s


def _reason(
    probes: int,
    count: int,
    items: int,
    kl_probes: int,
    probe_s: float,
    train_s: float,
    expected: float,
    share: float,
) -> str:
    """The schedule in a sentence."""
    of = f"{count} of {items} items" if count < items else f"all {items} items"
    what = f"{probes} probes of {of}" if probes else "no items"
    text = (
        f"{what} and {kl_probes} measurements of the distance from the base take about "
        f"{_time(probe_s)} of {_time(train_s)} ({expected:.1%})"
    )
    if expected > share * 1.001:
        text += f", more than probe_share ({share:.1%}), because the run is short"
    elif count < items:
        text += f"; more items would cost more than the share of {share:.1%}"
    return text


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def kl_size(train_s: float, token_s: float, share: float) -> tuple[int, int]:
    """Sequences and tokens of each that the base is recorded on: the largest size whose minimal number of
    measurements fits the share that items do not take. ``train_s``: seconds of the training, estimated;
    ``token_s``: seconds a token."""
    budget_s = max(PLANNED_PART * share * train_s * (1 - ITEMS_PART) / LEAST_PROBES, BASE_KL_S)
    return next((size for size in KL_SIZES if size[0] * size[1] * token_s <= budget_s), KL_SIZES[-1])


def items_to_score(train_s: float, item_s: float, share: float) -> int:
    """Number of items that the base is scored on before any step was timed: twice what seems to fit: the
    estimate from a forward pass may be off and later items cannot be paired without the base's answers."""
    fits = PLANNED_PART * share * train_s * ITEMS_PART / LEAST_PROBES / max(item_s, 1e-9)
    return max(LEAST_ITEMS, min(MOST_ITEMS, int(max(2 * fits, BASE_ITEMS_S / max(item_s, 1e-9)))))


@dataclass(frozen=True)
class ItemProbeResult:
    """An item probe as the stop rule needs it. ``retention``: above chance where the suite has a chance
    level; ``certain``: whether the base is significantly better than chance."""

    step: int
    retention: float
    mcnemar_p: float
    certain: bool


def stop_reason(results: Sequence[ItemProbeResult], threshold: float, planned: int) -> str:
    """Why an armed run has to stop now, "" when it does not: retention under ``threshold`` at two consecutive
    item probes, significantly so at the latest (McNemar, corrected for ``planned`` probes)."""
    last = results[-CONSECUTIVE:]
    if len(last) < CONSECUTIVE or not all(result.certain for result in last):
        return ""
    if not all(result.retention < threshold for result in last):
        return ""
    tests = max(planned, len(results))
    if not last[-1].mcnemar_p < ALPHA / tests:
        return ""
    before, now = last
    return (
        f"retention was {before.retention:.2f} at step {before.step} and {now.retention:.2f} at step "
        f"{now.step}, under {threshold:.2f}, and chance explains it with p = {now.mcnemar_p:.1g} only"
    )
