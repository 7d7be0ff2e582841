"""The probes and red flags of a run as text: the newest verdict in one line, the worst flag in one line, and
all of both for the About tab. Functions of the run's state. The widgets sanitize texts from logs."""

from __future__ import annotations

from collections.abc import Sequence

from tui_lab.core.format import decimal, interval
from tui_lab.retention.statistics import Interval
from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.state import RunState
from tui_lab.runs.verdicts import BASELINE, VERDICTS
from tui_lab.ui.views.spans import TextSpan, labelled

ROLES = {
    "green": "retained",
    "amber": "undecided",
    "red": "forgotten",
    "cannot_tell": "undecided",
    BASELINE: "",
}


def verdict_look(verdict: str) -> tuple[str, str, str]:
    """(glyph, word, role) of a verdict. An unknown verdict of a newer log keeps its name."""
    glyph, word = VERDICTS.get(verdict, ("·", verdict.replace("_", " ")))
    return glyph, word, ROLES.get(verdict, "")


def _interval(metric: Interval) -> str:
    return interval(metric.value, metric.low, metric.high)


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)


def verdict_line(state: RunState) -> list[TextSpan]:
    """The newest item probe and the newest KL divergence, in one line; [] before the first."""
    parts: list[TextSpan] = []
    if state.item_probes:
        probe = state.item_probes[-1]
        glyph, word, role = verdict_look(state.verdict)
        parts.append((f"{glyph} {word}", role))
        if state.retention:
            parts.append((f"  retention {_interval(state.retention)}", ""))
        if state.verdict == BASELINE:
            parts.append((f"  {_count(probe.n)} items of {probe.suite}", "axis"))
        elif state.retention:
            lost, gained = _count(probe.b), _count(probe.c)
            parts.append((f"  {lost} lost, {gained} gained of {_count(probe.n)}", "axis"))
    if state.kl_probes:
        last = state.kl_probes[-1]
        general, task = decimal(last.general.value, 2), decimal(last.task.value, 2)
        # two pieces: a narrow line does without the second
        parts += [(f"{'   ' if parts else ''}KL {general}", "axis"), (f", on the task {task}", "axis")]
    return parts


def about_probes(state: RunState) -> list[TextSpan]:
    """Plan and results of the probes, one line each."""
    parts: list[TextSpan] = []
    if state.armed:
        parts += labelled("stop on forgetting", "the run stops once it has forgotten too much", "undecided")
    if state.item_probes:
        parts += [*verdict_line(state), ("\n", "")]
        if change := state.item_probes[-1].logprob_change:
            parts += labelled("right answers", f"log-probability {_interval(change)} nats against the base")
    if state.probe_plan:
        parts += labelled("probes", state.probe_plan.reason)
    return parts


FLAG_ROLES = {"red": "forgotten", "amber": "undecided"}


def flag_line(flags: Sequence[Flag], key: str) -> list[TextSpan]:
    """The worst flag with its remedy, and the key that shows all; [] without flags. ``flags``: worst
    first."""
    if not flags:
        return []
    worst = flags[0]
    more = f"({key}: all {len(flags)}) " if len(flags) > 1 else f"({key}: more) "
    return [(f"⚑ {worst.name.replace('_', ' ')}", FLAG_ROLES[worst.severity]), (f" {more}{worst.remedy}", "")]


def about_flags(flags: Sequence[Flag]) -> list[TextSpan]:
    """Every flag with its observation and its remedy."""
    parts: list[TextSpan] = []
    for flag in flags:
        parts.append((f"⚑ {flag.name.replace('_', ' ')}", FLAG_ROLES[flag.severity]))
        parts.append((f" at step {flag.step}: {flag.sentence}\n", ""))
        parts.append((f"  → {flag.remedy}\n", ""))
    return parts
