"""Strength without torch: why an adapter's strength cannot be changed exactly, which strengths are swept,
and which of the measured ones is recommended. The lab and the command line import this."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
KEEP = 0.95
#: Strengths closer than this need no other between them.
FINE = 0.05
#: The largest strength: beyond it a change has little to do with the trained one.
MAX_STRENGTH = 2.0

_PROPORTIONAL = ("LORA", "ADALORA", "LOHA", "IA3")
#: LoRA initialisations that leave the base weights unchanged; all others move a part of them.
_LEAVES_BASE = (None, True, False, "default", "gaussian", "eva", "orthogonal", "mica")
#: Variants of LoRA of which it is not known that the change is proportional to B.
_VARIANTS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
_VIRTUAL = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "ADAPTION_PROMPT")
#: Parts of an adapter that replace weights instead of adding to them.
_REPLACES = ("modules_to_save", "trainable_token_indices", "layer_replication")


def strength_refusal(config: Mapping[str, object], began: str | None = None) -> str:
    """Why the strength of an adapter with this ``adapter_config.json`` cannot be changed exactly; "" when it
    can. ``began`` is the initialisation that its run had: once converted to fit the original base, an
    adapter's own file no longer says it."""
    kind, init = str(config.get("peft_type")), config.get("init_lora_weights")
    if began not in _LEAVES_BASE:
        init = began
    if kind in _VIRTUAL:
        return "it consists of virtual tokens, which change the input and not the weights"
    if config.get("use_dora"):
        return "DoRA divides by the norm of the changed weights, so half the adapter is not half the change"
    if init not in _LEAVES_BASE:
        return moved_base(str(init))
    for key in _REPLACES:
        if config.get(key):
            return f"its {key} replaces weights, which the adapter alone cannot take back by a part"
    if config.get("bias") not in (None, "none"):
        return "it trains the model's own biases, which the adapter alone cannot take back by a part"
    unknown = next((key for key in _VARIANTS if config.get(key)), "")
    if kind not in _PROPORTIONAL or unknown:
        what = unknown or sanitize(kind)[:40]
        return f"whether its change of the weights is proportional to its strength is not known for {what}"
    return ""


def moved_base(init: str) -> str:
    """The reason for initialisations that change the base weights before training."""
    return (
        f"its initialisation ({sanitize(init)[:40]}) moves a part of the base weights into the adapter "
        "before the training, so the original base plus a part of the adapter is no exact step on its way"
    )


def check_strength(strength: float) -> float:
    """The strength, a factor between 0 and MAX_STRENGTH. Raises LabError for any other number."""
    if not math.isfinite(strength) or not 0 <= strength <= MAX_STRENGTH:
        raise LabError(f"a strength lies between 0 (the base) and {MAX_STRENGTH:g}, not at {strength:g}")
    return strength


@dataclass(frozen=True)
class PointSummary:
    """The measurements at one strength. ``retention`` is above chance where the suite has a chance level."""

    strength: float
    acquisition: float
    retention: float
    verdict: str


def recommend(points: Sequence[PointSummary], keep: float = KEEP) -> tuple[float | None, str]:
    """The recommended strength and the reason.

    It is the one with the best acquisition among those with a retention of at least ``keep`` (a share, 0 to
    1), else the one with the best retention; None where that cannot be determined. After WiSE-FT (Wortsman et
    al. 2021, arXiv 2109.01903)."""
    if not points:
        return None, "nothing was measured yet"
    if all(point.verdict == "cannot_tell" or math.isnan(point.retention) for point in points):
        return None, "the base is too near to guessing on this suite for its loss to be measured"
    able = [point for point in points if point.retention >= keep]
    if not able:
        # of equal losses the one that gains more
        best = max(points, key=lambda p: (_or_lowest(p.retention), _or_lowest(p.acquisition)))
        return best.strength, (
            f"no measured strength has a retention of {keep:.0%}; this one has the highest "
            f"({best.retention:.1%})"
        )
    if not any(math.isfinite(point.acquisition) for point in points):
        best = max(able, key=lambda point: point.strength)
        return best.strength, (
            f"it is the greatest with a retention of at least {keep:.0%} (it is {best.retention:.1%}); "
            "acquisition was not measured"
        )
    # of equal gains the one with more retention, then the smaller change
    best = max(able, key=lambda p: (_or_lowest(p.acquisition), p.retention, -p.strength))
    most = max(points, key=lambda p: _or_lowest(p.acquisition))
    if best.strength == 0:
        return 0.0, (
            f"no strength above 0 has a retention of {keep:.0%} and any acquisition; try replay or a lower "
            "learning rate"
        )
    reason = (
        f"it has the highest acquisition ({best.acquisition:.3f}) of those with a retention of at "
        f"least {keep:.0%} (retention {best.retention:.1%})"
    )
    if most.acquisition > best.acquisition:
        reason += (
            f"; the highest at any strength is {most.acquisition:.3f} at {most.strength:g}, with retention "
            f"{most.retention:.1%}"
        )
        after = min((p.strength for p in points if p.strength > best.strength), default=best.strength)
        if after - best.strength > 1.01 * FINE:
            reason += f"; between {best.strength:g} and {after:g} there may be a better one"
    return best.strength, reason


def _or_lowest(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
