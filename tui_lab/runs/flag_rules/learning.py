"""Rules on how well the task is learned: overfitting, memorised rows, underfitting, slow convergence."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tui_lab.core.format import metric_name
from tui_lab.runs.flag_rules.flag import WINDOW_LEAST, Flag, median_of, window_of
from tui_lab.runs.state import RunState

#: Share by which validation may lie above training loss, and by which a rise counts as one.
GAP, RISE = 0.10, 0.01
#: Training loss (nats per token) below which rows count as memorised, if validation loss is this many times
#: as high, and either above the third value or above its minimum by the last share (facts may be memorised).
MEMORISED_NATS, MEMORISED_FACTOR, MEMORISED_VALIDATION_NATS, MEMORISED_RISE = 0.05, 4.0, 0.5, 0.1
#: Loss above which the task is hardly learned, and the share of the run after which the rule applies.
HIGH_NATS, EARLY_SHARE = 2.0, 0.3
FLAT_SHARE, SLOW_SHARE = 0.02, 0.01
#: Fall of an answer's log-probability under a preference loss that is flagged, in nats.
BOTH_FALL_NATS = 5.0


def _lowest(values: list[float]) -> float:
    return min((value for value in values if math.isfinite(value)), default=math.nan)


def overfitting(state: RunState) -> Iterator[Flag]:
    validation, train = state.validation, state.loss
    if len(validation.values) < 3 or not train.values or state.trains_preferences:
        return
    before, middle, last = validation.values[-3:]
    width = window_of(train)
    now = median_of(train.values[-width:])
    then = median_of(
        [v for s, v in zip(train.steps, train.values, strict=True) if s <= validation.steps[-3]][-width:]
    )
    gap = (last - now) / now if now > 0 else math.nan
    rises = middle > before * (1 + RISE) and last > middle * (1 + RISE)
    if rises and now < then and gap > GAP:
        best = min(validation.values)
        at = validation.steps[validation.values.index(best)]
        yield Flag(
            "overfitting",
            "red" if last > 1.25 * best else "amber",
            validation.steps[-1],
            f"Validation loss rose to {last:.3f} while training loss fell to {now:.3f}: {gap:.0%} apart. It "
            f"was best at step {at} ({best:.3f}).",
            "Fewer epochs, dropout 0.1, more data; early_stopping_patience keeps the best checkpoint.",
        )


def memorising(state: RunState) -> Iterator[Flag]:
    if not state.validation.values or state.trains_preferences:
        return
    now, validation = median_of(state.loss.values[-window_of(state.loss) :]), state.validation.last
    lost = validation > MEMORISED_VALIDATION_NATS or validation > (1 + MEMORISED_RISE) * _lowest(
        state.validation.values
    )
    # a validation before the training says nothing about it
    if state.validation.steps[-1] and now < MEMORISED_NATS and validation > MEMORISED_FACTOR * now and lost:
        yield Flag(
            "memorising",
            "amber",
            state.validation.steps[-1],
            f"Training loss is {now:.3f}, and validation loss {validation:.3f}: the rows are memorised.",
            "Fewer epochs or more different rows; a lower rank or dropout 0.1 also help.",
        )


def underfitting(state: RunState) -> Iterator[Flag]:
    values, width = state.loss.values, window_of(state.loss)
    enough = max(4 * width, EARLY_SHARE * state.total_steps)
    if len(values) < enough or state.trains_preferences:
        return
    first, now, step = median_of(values[:width]), median_of(values[-width:]), state.loss.steps[-1]
    remedy = "Double the rank, train longer, raise the learning rate (adapters: to 5e-4); look at the rows."
    if now > (1 - FLAT_SHARE) * first and now > MEMORISED_NATS:
        yield Flag(
            "underfitting",
            "red",
            step,
            f"The loss is flat from the start: {first:.2f} at first, {now:.2f} after {step} steps.",
            remedy,
        )
    elif now > HIGH_NATS:
        yield Flag(
            "underfitting",
            "amber",
            step,
            f"The loss is still {now:.2f} after {step} steps; learned tasks go below {HIGH_NATS:.0f}.",
            remedy,
        )


def slow(state: RunState) -> Iterator[Flag]:
    values, rates = state.loss.values, state.learning_rate.values
    third = len(values) // 3
    if third < 2 * WINDOW_LEAST or len(values) < EARLY_SHARE * state.total_steps:
        return
    if rates and rates[-1] < 0.5 * max(rates):
        return  # the learning rate decays: a flat loss is expected
    first, before, now = (
        median_of(values[:third]),
        median_of(values[third : 2 * third]),
        median_of(values[-third:]),
    )
    # so close together, the noise of the steps decides: only a loss far from the floor counts
    if now > 1.0 and now > 0.5 * first and abs(before - now) < SLOW_SHARE * before:
        yield Flag(
            "slow_convergence",
            "amber",
            state.loss.steps[-1],
            f"The loss is {now:.2f}: it moved by {abs(before - now) / before:.1%} in the last {third} steps.",
            "Raise the learning rate (adapters: to 5e-4), or look at how the rows are rendered and masked.",
        )


def learned_nothing(state: RunState) -> Iterator[Flag]:
    start, end = state.score("start"), state.score("end")
    if math.isfinite(start) and end <= start < 1:
        yield Flag(
            "learned_nothing",
            "amber",
            state.scores[-1].step,
            f"Acquisition ({metric_name(state.score_name)}) did not rise: {start:.2f} before the "
            f"training, {end:.2f} after it.",
            "Train longer or with a higher learning rate or rank; look at the samples and at the rows.",
        )


def both_fall(state: RunState) -> Iterator[Flag]:
    """Preference losses look at the difference alone: it also grows where both answers become unlikely
    (Pal et al. 2024, Rafailov et al. 2024)."""
    curves = [state.parts.get(f"{side}_log_probability") for side in ("chosen", "rejected")]
    if any(curve is None or len(curve.values) < 4 * WINDOW_LEAST for curve in curves):
        return
    ends = []
    for curve in curves:
        assert curve is not None
        width = window_of(curve)
        ends.append((median_of(curve.values[:width]), median_of(curve.values[-width:])))
    (chosen_then, chosen_now), (rejected_then, rejected_now) = ends
    if chosen_now < chosen_then - BOTH_FALL_NATS and rejected_now < rejected_then - BOTH_FALL_NATS:
        yield Flag(
            "both_fall",
            "amber",
            state.step,
            f"Chosen answers have become less likely, too: {chosen_then:.0f} → {chosen_now:.0f} nats an "
            f"answer (rejected {rejected_then:.0f} → {rejected_now:.0f}).",
            "Set chosen_weight = 1 (dpo, simpo) or lower the learning rate; tuning on the chosen answers "
            "first (--from) helps, too.",
        )
