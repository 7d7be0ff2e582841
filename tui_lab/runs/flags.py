"""Warnings about a run in progress: rules over its :class:`RunState`, each with a remedy. They are cheap
enough to run every second. A rule without its values yields nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tui_lab.runs.flag_rules import answers, data, device, divergence, learning, retention
from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.state import RunState

_RULES: tuple[Callable[[RunState], Iterator[Flag]], ...] = (
    divergence.not_finite,
    divergence.always_skipped,
    divergence.rising,
    device.memory,
    data.prepared_rows,
    retention.forgetting,
    learning.both_fall,
    answers.collapse,
    answers.repetition,
    learning.overfitting,
    learning.memorising,
    learning.underfitting,
    learning.slow,
    learning.learned_nothing,
    retention.distance,
    divergence.spikes,
    device.slowed,
)


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
