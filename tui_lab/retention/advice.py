"""What to try next, in order, each with its reason: rules over what was measured and how the model was tuned.

Sources of the reasons: replay arXiv 2502.06042 and 2510.11842, LoRA against full tuning 2405.09673, strength
2109.01903 (WiSE-FT), KL to the base 2509.04259. Pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass

#: A gain in acquisition below this counts as little.
SMALL_GAIN = 0.1
#: The share by which the held-out loss may exceed the training loss.
OVERFITTING_GAP = 0.1
#: A replay fraction that is rarely exceeded in practice.
MAX_REPLAY = 0.25


@dataclass(frozen=True)
class AdviceInput:
    """What is known of one run on one suite; None where something was not measured.

    Scores and shares are 0 to 1, losses in nats per token, ``learning_rate`` as in the recipe."""

    verdict: str = ""  # green, amber, red, cannot_tell; "" before any measurement
    method: str = "lora"
    learning_rate: float = 0.0
    replay_fraction: float = 0.0
    kl_weight: float = 0.0
    gained: float | None = None  # acquisition after less before
    losses: tuple[float, float] | None = None  # of training and of held-out rows at the end
    strength_tried: bool = False
    strength: float | None = None  # the recommended one
    strength_refused: str = ""  # why strength cannot be changed
    worst_category: str = ""
    worst_lost: int = 0  # items lost there


@dataclass(frozen=True)
class Advice:
    """One action, and why it should help. ``command``: the lab's action that does it, if one does."""

    action: str
    reason: str
    command: str = ""


def advise(run: AdviceInput) -> tuple[Advice, ...]:
    """The advice, the most useful and cheapest first."""
    match run.verdict:
        case "":
            return (
                Advice("Measure retention", "it is not known yet what this run forgot", "retention.measure"),
            )
        case "cannot_tell":
            return (
                Advice(
                    "Use a suite that the base model can solve",
                    "the base is within three standard errors of guessing here, so no loss can be measured",
                ),
            )
        case "green":
            return _advise_green(run)
    found = [*_strength(run), *_replay(run)]
    if run.losses is not None and run.losses[1] > run.losses[0] * (1 + OVERFITTING_GAP):
        training, held_out = run.losses
        reason = (
            f"its loss is {training:.2g} on training rows, {held_out:.2g} on validation rows: it memorises"
        )
        found.append(Advice("Train for fewer steps", reason))
    if run.learning_rate:
        found.append(
            Advice(
                f"Halve the learning rate, to {run.learning_rate / 2:.1e}".replace("e-0", "e-"),
                "smaller steps stay closer to the base and keep most of the acquisition",
            )
        )
    if run.method == "full":
        found.append(
            Advice("Train an adapter instead", "LoRA forgets less at the same acquisition on most tasks")
        )
    if not run.kl_weight:
        reason = "forgetting follows the distance from the base on general text, which the penalty limits"
        found.append(Advice("Add KL to the base, kl_weight 0.1", reason))
    if run.worst_category and run.worst_lost > 1:
        reason = f"{run.worst_lost} items were lost there, more than in any other category"
        found.append(Advice(f"Replay rows about {run.worst_category}", reason))
    if run.verdict == "amber":
        reason = "the interval includes the threshold; more items make it narrower"
        found.append(Advice("Measure more items, or also another suite", reason))
    return tuple(found)


def _advise_green(run: AdviceInput) -> tuple[Advice, ...]:
    if run.gained is not None and run.gained < SMALL_GAIN:
        reason = f"retention is high, but acquisition rose by {run.gained:.2f} only"
        return (Advice("Double the rank, train longer, or raise the learning rate (to 5e-4)", reason),)
    return (
        Advice("Export this run", "the whole interval of its retention is above the threshold", "app.export"),
    )


def _strength(run: AdviceInput) -> list[Advice]:
    if run.strength_refused:
        return []
    if not run.strength_tried:
        reason = "a weaker adapter often retains more; no training is needed"
        return [Advice("Measure the strength curve", reason, "retention.sweep")]
    if run.strength is not None and 0 < run.strength < 1:
        reason = "it has the best acquisition with enough retention"
        return [Advice(f"Save strength {run.strength:g}", reason, "retention.save")]
    return []


def _replay(run: AdviceInput) -> list[Advice]:
    if run.replay_fraction >= MAX_REPLAY:
        return []
    if run.replay_fraction == 0:
        reason = "5 to 10 % rows of general text sufficed at 1.7 B parameters"
        return [Advice("Train again with replay_fraction 0.1 (or the preset keeper)", reason)]
    more = min(MAX_REPLAY, run.replay_fraction * 2.5)
    return [Advice(f"Raise replay_fraction to {more:g}", f"{run.replay_fraction:g} was not enough")]
