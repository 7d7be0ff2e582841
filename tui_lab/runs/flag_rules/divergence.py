"""Rules on a training that fails: a loss or gradients that are not finite, a rising loss, spikes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tui_lab.runs.flag_rules.flag import Flag, median_of, window_of
from tui_lab.runs.state import RunState

#: The loss has risen when its median is above the lowest earlier one by this factor and by these nats.
RISEN_FACTOR, RISEN_NATS = 1.3, 0.3
#: So many logged steps in a row that the loss scaling skipped are no search for a scale any more: from its
#: first value, 65,536, sixteen halvings end at 1.
SKIPPED_STEPS = 20
#: A step is a spike if its gradient norm is above this multiple of the median and above the usual clipping
#: norm (late in training the median is tiny); this many spikes in the last steps raise a flag.
SPIKE_FACTOR, SPIKE_NORM, SPIKES, SPIKE_STEPS = 10.0, 1.0, 3, 100


def _computes_in_float16(state: RunState) -> bool:
    return any(choice.field == "compute_dtype" and choice.value == "float16" for choice in state.choices)


def not_finite(state: RunState) -> Iterator[Flag]:
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


def always_skipped(state: RunState) -> Iterator[Flag]:
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


def rising(state: RunState) -> Iterator[Flag]:
    values, width = state.loss.values, window_of(state.loss)
    if len(values) < 3 * width:
        return
    parts = [median_of(values[at : at + width]) for at in range(len(values) % width, len(values), width)]
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


def spikes(state: RunState) -> Iterator[Flag]:
    values, steps = state.grad_norm.values[-SPIKE_STEPS:], state.grad_norm.steps[-SPIKE_STEPS:]
    usual = median_of(values)
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
