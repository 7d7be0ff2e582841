"""Warnings about a run in progress: rules over its :class:`RunState`, each with a remedy. The rules compare
medians over windows, so that a single batch raises nothing, and are cheap enough to run every second. A rule
without its values yields nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from tui_lab.core.format import as_float, metric_name
from tui_lab.runs.curves import Curve
from tui_lab.runs.state import RunState

Severity = Literal["red", "amber"]

#: Steps in a window: a tenth of the logged steps, within these bounds.
WINDOW_LEAST, WINDOW_MOST = 5, 50
#: The loss has risen when its median is above the lowest earlier one by this factor and by these nats.
RISEN_FACTOR, RISEN_NATS = 1.3, 0.3
#: So many logged steps in a row that the loss scaling skipped are no search for a scale any more: from its
#: first value, 65,536, sixteen halvings end at 1.
SKIPPED_STEPS = 20
#: A step is a spike if its gradient norm is above this multiple of the median and above the usual clipping
#: norm (late in training the median is tiny); this many spikes in the last steps raise a flag.
SPIKE_FACTOR, SPIKE_NORM, SPIKES, SPIKE_STEPS = 10.0, 1.0, 3, 100
#: Share by which validation may lie above training loss, and by which a rise counts as one.
GAP, RISE = 0.10, 0.01
#: Training loss (nats per token) below which rows count as memorised, if validation loss is this many times
#: as high, and either above the third value or above its minimum by the last share (facts may be memorised).
MEMORISED_NATS, MEMORISED_FACTOR, MEMORISED_VALIDATION_NATS, MEMORISED_RISE = 0.05, 4.0, 0.5, 0.1
#: Loss above which the task is hardly learned, and the share of the run after which the rule applies.
HIGH_NATS, EARLY_SHARE = 2.0, 0.3
FLAT_SHARE, SLOW_SHARE = 0.02, 0.01
SLOWED_TO = 0.6
TRUNCATED_SHARE, MASKED_SHARE = 0.05, 0.2
#: Tolerated drop of a general benchmark, and the KL divergence from the base (nats per token) that is
#: flagged.
BENCHMARK_FALL, KL_NATS = 0.05, 0.1
FULL_MEMORY = 0.95
#: Fall of an answer's log-probability under a preference loss that is flagged, in nats.
BOTH_FALL_NATS = 5.0
#: distinct-2 (Li et al. 2016) below this share of the expected value is a loop; needs this many word pairs.
LESS_DISTINCT, FEWEST_PAIRS = 0.5, 16
MOST_CHARACTERS = 4_000  # of a text, to bound the time


@dataclass(frozen=True)
class Flag:
    """``name`` is stable (dismissed flags are stored by it); ``sentence``: the observation."""

    name: str
    severity: Severity
    step: int
    sentence: str
    remedy: str


def flags(state: RunState) -> list[Flag]:
    """The present flags, the worst first, one per name."""
    found: dict[str, Flag] = {}
    for rule in _RULES:
        try:
            for flag in rule(state):
                found.setdefault(flag.name, flag)
        except ArithmeticError:  # absurd numbers of a damaged log: overflow, or a count of zero
            continue
    return sorted(found.values(), key=lambda flag: flag.severity != "red")


# --- the loss -----------------------------------------------------------------------------------------


def _window(curve: Curve) -> int:
    return max(WINDOW_LEAST, min(WINDOW_MOST, len(curve.values) // 10))


def _middle(values: list[float]) -> float:
    """The median of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def _lowest(values: list[float]) -> float:
    return min((value for value in values if math.isfinite(value)), default=math.nan)


def _computes_in_float16(state: RunState) -> bool:
    return any(choice.field == "compute_dtype" and choice.value == "float16" for choice in state.choices)


def _not_finite(state: RunState) -> Iterator[Flag]:
    curves = [("loss", state.loss)]
    if not _computes_in_float16(state):  # there the loss is scaled, and a step that overflows is skipped
        curves.append(("gradient norm", state.grad_norm))
    for name, curve in curves:
        if math.isfinite(sum(curve.values)):  # one sum is faster than a test per value
            continue
        found = (step for step, v in zip(curve.steps, curve.values, strict=True) if not math.isfinite(v))
        if (at := next(found, None)) is not None:  # a sum of huge numbers overflows, too
            yield Flag(
                "divergence",
                "red",
                at,
                f"The {name} is not finite at step {at}: the training from there on is useless.",
                "Stop; resume from an earlier checkpoint with a lower learning rate, a longer warm-up and "
                "max_grad_norm = 1; compute in float32 or bfloat16 instead of float16.",
            )


def _always_skipped(state: RunState) -> Iterator[Flag]:
    """With float16 the scale of the loss is halved after a step that overflows: a few are normal."""
    last, steps = state.grad_norm.values[-SKIPPED_STEPS:], state.grad_norm.steps[-SKIPPED_STEPS:]
    overflows = len(last) == SKIPPED_STEPS and not any(math.isfinite(value) for value in last)
    if overflows and _computes_in_float16(state):
        yield Flag(
            "divergence",
            "red",
            steps[0],
            f"Gradients overflow float16 at every step since {steps[0]}: no weight has changed since.",
            "Stop; set compute_dtype = float32, or lower the learning rate and resume from an earlier "
            "checkpoint.",
        )


def _rising(state: RunState) -> Iterator[Flag]:
    values, width = state.loss.values, _window(state.loss)
    if len(values) < 3 * width:
        return
    parts = [_middle(values[at : at + width]) for at in range(len(values) % width, len(values), width)]
    now, lowest = parts[-1], min(parts[:-1])
    if now > RISEN_FACTOR * lowest and now > lowest + RISEN_NATS:
        yield Flag(
            "divergence",
            "red",
            state.loss.steps[-1],
            f"The training loss rose from {lowest:.2f} to {now:.2f} (medians of {width} steps).",
            "Lower the learning rate, clip gradients (max_grad_norm = 1) and warm up longer; if it starts "
            "at once, try another attention implementation.",
        )


def _spikes(state: RunState) -> Iterator[Flag]:
    values, steps = state.grad_norm.values[-SPIKE_STEPS:], state.grad_norm.steps[-SPIKE_STEPS:]
    usual = _middle(values)
    over = max(SPIKE_FACTOR * usual, SPIKE_NORM)
    high = [step for step, v in zip(steps, values, strict=True) if math.isfinite(v) and v > over]
    if len(values) >= 20 and len(high) >= SPIKES and usual > 0:
        yield Flag(
            "gradient_spikes",
            "amber",
            high[-1],
            f"The gradient norm was over {SPIKE_FACTOR:.0f} times its median ({usual:.3g}) in {len(high)} of "
            f"the last {len(values)} steps.",
            "Clip gradients (max_grad_norm = 1), halve the learning rate, or look for broken rows.",
        )


def _overfitting(state: RunState) -> Iterator[Flag]:
    validation, train = state.validation, state.loss
    if len(validation.values) < 3 or not train.values or state.trains_preferences:
        return
    before, middle, last = validation.values[-3:]
    width = _window(train)
    now = _middle(train.values[-width:])
    then = _middle(
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


def _memorising(state: RunState) -> Iterator[Flag]:
    if not state.validation.values or state.trains_preferences:
        return
    now, validation = _middle(state.loss.values[-_window(state.loss) :]), state.validation.last
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


def _underfitting(state: RunState) -> Iterator[Flag]:
    values, width = state.loss.values, _window(state.loss)
    enough = max(4 * width, EARLY_SHARE * state.total_steps)
    if len(values) < enough or state.trains_preferences:
        return
    first, now, step = _middle(values[:width]), _middle(values[-width:]), state.loss.steps[-1]
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


def _slow(state: RunState) -> Iterator[Flag]:
    values, rates = state.loss.values, state.learning_rate.values
    third = len(values) // 3
    if third < 2 * WINDOW_LEAST or len(values) < EARLY_SHARE * state.total_steps:
        return
    if rates and rates[-1] < 0.5 * max(rates):
        return  # the learning rate decays: a flat loss is expected
    first, before, now = _middle(values[:third]), _middle(values[third : 2 * third]), _middle(values[-third:])
    # so close together, the noise of the steps decides: only a loss far from the floor counts
    if now > 1.0 and now > 0.5 * first and abs(before - now) < SLOW_SHARE * before:
        yield Flag(
            "slow_convergence",
            "amber",
            state.loss.steps[-1],
            f"The loss is {now:.2f}: it moved by {abs(before - now) / before:.1%} in the last {third} steps.",
            "Raise the learning rate (adapters: to 5e-4), or look at how the rows are rendered and masked.",
        )


def _learned_nothing(state: RunState) -> Iterator[Flag]:
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


# --- retention ------------------------------------------------------------------------------

#: Suites that probe behaviour: name of the flag, observation, remedy.
_BEHAVIOUR = {
    "format": (
        "format_corruption",
        "answers that must parse no longer do",
        "Put format examples in the data.",
    ),
    "refusals": (
        "safety_drift",
        "harmful requests are refused less often",
        "Put refusals of harmful requests in the data.",
    ),
    "diversity": ("mode_collapse", "different prompts get the same answer", "Lower rate, fewer epochs."),
}


def _forgetting(state: RunState) -> Iterator[Flag]:
    newest = {probe.suite: probe for probe in state.item_probes}
    for suite, probe in newest.items():
        verdict, figures = probe.verdict, probe.headline
        pre, post = as_float(probe.pre), as_float(probe.post)
        fell = pre - post
        significant = probe.mcnemar_p is not None and probe.mcnemar_p < 0.05
        if verdict == "cannot_tell" or not (verdict == "red" or (fell > BENCHMARK_FALL and significant)):
            continue
        seen = (
            f"retention {figures.value:.0%} ({figures.low:.0%} to {figures.high:.0%}) on {suite}: "
            f"{pre:.1%} right before, {post:.1%} now"
        )
        severity: Severity = "red" if verdict == "red" else "amber"
        if suite in _BEHAVIOUR:
            name, finding, remedy = _BEHAVIOUR[suite]
            yield Flag(name, severity, probe.step, f"{finding[0].upper()}{finding[1:]}: {seen}.", remedy)
        else:
            yield Flag(
                "forgetting",
                severity,
                probe.step,
                f"The model is forgetting: {seen}.",
                "Lower the learning rate, replay 5–25% general rows, add kl_weight; afterwards lower the "
                "adapter's strength.",
            )


def _distance(state: RunState) -> Iterator[Flag]:
    if len(state.kl_probes) < 3:
        return
    recent = [probe for probe in state.item_probes if probe.step >= state.kl_probes[-3].step]
    if recent and recent[-1].verdict == "green":
        return  # measured retention outweighs the distance
    before, middle, last = (probe.general for probe in state.kl_probes[-3:])
    # significant: the newest interval lies above the estimate of two probes ago
    if before.value < middle.value < last.value and last.low > max(KL_NATS, before.value):
        yield Flag(
            "drifting",
            "amber",
            state.kl_probes[-1].step,
            f"On general text the model is {last.value:.2f} nats a token from its base and still moves away "
            f"({before.value:.2f} two probes ago): forgetting usually follows.",
            "Lower the learning rate, add kl_weight = 0.1, or replay general rows.",
        )


def _both_fall(state: RunState) -> Iterator[Flag]:
    """Preference losses look at the difference alone: it also grows where both answers become unlikely
    (Pal et al. 2024, Rafailov et al. 2024)."""
    curves = [state.parts.get(f"{side}_log_probability") for side in ("chosen", "rejected")]
    if any(curve is None or len(curve.values) < 4 * WINDOW_LEAST for curve in curves):
        return
    ends = []
    for curve in curves:
        assert curve is not None
        width = _window(curve)
        ends.append((_middle(curve.values[:width]), _middle(curve.values[-width:])))
    (chosen_then, chosen_now), (rejected_then, rejected_now) = ends
    if chosen_now < chosen_then - BOTH_FALL_NATS and rejected_now < rejected_then - BOTH_FALL_NATS:
        yield Flag(
            "both_fall",
            "amber",
            state.step,
            f"Chosen answers have become less likely, too: {chosen_then:.0f} → {chosen_now:.0f} nats an "
            f"answer (rejected {rejected_then:.0f} → {rejected_now:.0f}).",
            "Lower the learning rate or raise preference_beta; orpo keeps chosen answers likely, and so does "
            "tuning on them first (--from).",
        )


def _collapse(state: RunState) -> Iterator[Flag]:
    scores = [score for score in state.scores if score.when != "start" and score.examples]
    if not scores:
        return
    shown = scores[-1].examples
    prompts = {example.prompt for example in shown}
    expected = {example.expected for example in shown}
    answers = {" ".join(example.answer.split()).casefold() for example in shown}
    if len(prompts) >= 3 and len(expected) >= 3 and len(answers) == 1:
        answer = shown[0].answer[:60]
        yield Flag(
            "mode_collapse",
            "red",
            scores[-1].step,
            f"{len(prompts)} different prompts get the same answer ({answer!r}).",
            "Lower the learning rate, train for fewer epochs, and look for one answer that fills the data.",
        )


def _repetition(state: RunState) -> Iterator[Flag]:
    remedy = (
        "Lower the learning rate, train for fewer epochs; look for rows that say the same again and again."
    )
    scores = [score for score in state.scores if score.when != "start" and score.examples]
    if scores:
        shown = scores[-1].examples
        now = _distinct([example.answer for example in shown])
        usual = _distinct([example.expected for example in shown])
        if now < LESS_DISTINCT * usual:
            yield Flag(
                "mode_collapse",
                "amber",
                scores[-1].step,
                f"The answers repeat themselves: {now:.0%} of their word pairs are distinct, {usual:.0%} "
                "in the expected ones.",
                remedy,
            )
    if len(state.samples) > 1:
        first, last = state.samples[0], state.samples[-1]
        now, usual = _distinct([last.text]), _distinct([first.text])
        if first.prompt == last.prompt and now < LESS_DISTINCT * usual:
            yield Flag(
                "mode_collapse",
                "amber",
                last.step,
                f"The sample repeats itself: {now:.0%} of its word pairs are distinct; it was {usual:.0%} at "
                f"step {first.step}.",
                remedy,
            )


def _distinct(texts: list[str]) -> float:
    """distinct-2: the share of distinct pairs of neighbouring words; NaN for too few pairs."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        pairs += pairwise(text[:MOST_CHARACTERS].casefold().split())
    return len(set(pairs)) / len(pairs) if len(pairs) >= FEWEST_PAIRS else math.nan


# --- the machine and the data -------------------------------------------------------------------------


def _slowed(state: RunState) -> Iterator[Flag]:
    values = state.tok_per_s.values
    if len(values) < 40:
        return
    now, usual = _middle(values[-10:]), _middle(values[-500:-10])
    if now < SLOWED_TO * usual:
        yield Flag(
            "slowed_down",
            "amber",
            state.tok_per_s.steps[-1],
            f"Training runs at {now:,.0f} tokens a second; {usual:,.0f} were usual.",
            "Look for another process on the device, a hot GPU, or memory that is swapped; a run that is "
            "paused and continued may recover.",
        )


def _memory(state: RunState) -> Iterator[Flag]:
    failed = state.end is not None and state.end.state == "failed"
    if state.ladder and not failed:
        # a smaller batch in validation matters less than a changed training step
        newest = ([rung for rung in state.ladder if rung.rung != "validation"] or state.ladder)[-1]
        costs = state.ladder_cost.text if state.ladder_cost else newest.cost
        yield Flag(
            "out_of_memory",
            "amber",
            newest.step,
            newest.text[:1].upper() + newest.text[1:] + ".",
            (f"What it costs: {costs}. " if costs else "")
            + "A smaller batch, a shorter max_length or the base in 4 bits would avoid it.",
        )
    texts = [state.end.message] if failed and state.end else []
    for text in [*texts, *state.warnings]:
        if "out of memory" in text.casefold():
            yield Flag(
                "out_of_memory",
                "red" if failed else "amber",
                state.step,
                text[:1].upper() + text[1:],
                "Halve the batch and double the accumulation, shorten max_length, switch on gradient "
                "checkpointing, or load the base in 4 bits.",
            )
    total = (state.started.device.memory_bytes or 0) if state.started and state.started.device else 0
    used = max(
        (curve.last for label, curve in state.memory.items() if "gpu" in label.casefold()), default=0.0
    )
    if total and used > FULL_MEMORY * total:
        yield Flag(
            "memory_almost_full",
            "amber",
            state.step,
            f"{used / total:.0%} of the GPU's memory is in use: a longer row may end the run.",
            "Halve the batch and double the accumulation, or shorten max_length.",
        )


def _data(state: RunState) -> Iterator[Flag]:
    data = state.data
    if data is None:
        return
    rows = data.rows_used + data.validation_rows_used or data.train_rows + data.validation_rows
    masked = data.fully_masked + data.refused_by_template
    nothing = data.train_trained_tokens == 0
    if nothing or masked:
        seen = (
            "No token of any row is trained: all labels are masked."
            if nothing
            else f"{masked:,} rows have nothing to learn: their labels are all masked, or the chat template "
            "refuses them."
        )
        share = masked / (rows + masked) if masked else 0.0
        yield Flag(
            "nothing_to_learn",
            "red" if nothing or share > MASKED_SHARE else "amber",
            0,
            seen,
            "`tui-lab data preview` shows the trained tokens of each row; give each row an assistant's "
            "answer.",
        )
    cut = data.truncated + data.too_long
    if rows and cut > TRUNCATED_SHARE * (rows + data.too_long):
        yield Flag(
            "truncated_rows",
            "amber",
            0,
            f"{cut:,} of {rows + data.too_long:,} rows are longer than max_length: their ends "
            "are lost, or they are left out.",
            "Raise max_length, or shorten the rows: a model that never sees an end does not learn to stop.",
        )


_RULES: tuple[Callable[[RunState], Iterator[Flag]], ...] = (
    _not_finite,
    _always_skipped,
    _rising,
    _memory,
    _data,
    _forgetting,
    _both_fall,
    _collapse,
    _repetition,
    _overfitting,
    _memorising,
    _underfitting,
    _slow,
    _learned_nothing,
    _distance,
    _spikes,
    _slowed,
)
