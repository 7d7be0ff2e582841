"""Rules on what the model loses: forgetting in the suites, the distance from the base."""

from __future__ import annotations

from collections.abc import Iterator

from tui_lab.core.format import as_float
from tui_lab.runs.flag_rules.flag import Flag, Severity
from tui_lab.runs.state import RunState

#: Tolerated drop of a general benchmark, and the KL divergence from the base (nats per token) that is
#: flagged.
BENCHMARK_FALL, KL_NATS = 0.05, 0.1
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


def forgetting(state: RunState) -> Iterator[Flag]:
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


def distance(state: RunState) -> Iterator[Flag]:
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
