"""How a recipe fills a GPU: the same rows a step, in the micro-batches that the forecast finds fastest.

A small model in small micro-batches leaves a GPU idle while Python launches kernels, and checkpointing
computes layers twice. Of all micro-batches that divide the recipe's rows a step, with and without
checkpointing, those whose upper bound fits are compared by their forecast time; the run measures the first
few. Keys in ``pinned`` stay as they are. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural, size
from tui_lab.forecast import cost
from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.memory import forecast
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.shapes import Shape
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedChoice, ResolvedValues

#: Forecast times within this share of the best count as equal; of these the smallest in memory is taken.
EQUAL_SHARE = 0.03
#: Settings that a run measures at most, its own among them.
MOST_TRIALS = 3
#: The batch, as one pin: a fixed micro-batch at the same rows a step fixes the accumulation.
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


@dataclass(frozen=True)
class Filled:
    """``recipe`` and ``values`` with what was chosen, each choice with its reason; ``trials`` are the
    settings worth measuring, the chosen one first."""

    recipe: Recipe
    values: ResolvedValues
    choices: tuple[ResolvedChoice, ...] = ()
    trials: tuple[Recipe, ...] = ()


@dataclass(frozen=True)
class _Setting:
    recipe: Recipe
    high_bytes: int
    seconds: float


def fill(
    recipe: Recipe,
    values: ResolvedValues,
    shape: Shape | None,
    device: DeviceFacts,
    free_bytes: int | None,
    data: DataFacts | None = None,
) -> Filled:
    """The settings of ``recipe`` that fill ``device``, of which ``free_bytes`` are free. Anywhere but on a
    GPU, and where the forecast does not know the model, the recipe's own."""
    if device.type != "cuda":
        return Filled(recipe, values, (), (recipe,))
    if reason := _why_not(recipe, shape, free_bytes):
        note = ResolvedChoice("fill_card", False, f"the settings of the recipe are used because {reason}")
        return Filled(recipe, values, (note,), (recipe,))
    assert shape is not None and free_bytes is not None
    choices: list[ResolvedChoice] = []
    if values.optim == "adamw_torch" and "optim" not in recipe.pins:
        values = replace(values, optim="adamw_torch_fused")
        recipe = recipe.model_copy(update={"optim": values.optim})
        choices.append(ResolvedChoice("optim", values.optim, "the same AdamW in one kernel"))
    try:
        known = data or DataFacts()
        settings = [_setting(each, shape, values, device, known) for each in _divisions(recipe)]
    except LabError:  # this architecture's activations are not known
        note = ResolvedChoice("fill_card", False, "the memory of this architecture is not known")
        return Filled(recipe, values, (*choices, note), (recipe,))
    own = settings[0]
    fitting = [each for each in settings if each.high_bytes <= free_bytes]
    if not fitting:
        note = ResolvedChoice("fill_card", False, "no division of the batch is certain to fit")
        return Filled(recipe, values, (*choices, note), (recipe,))
    best_s = min(each.seconds for each in fitting)
    near = [each for each in fitting if each.seconds <= best_s * (1 + EQUAL_SHARE)]
    best = own if own in near else min(near, key=lambda each: (each.high_bytes, each.seconds))
    others = sorted((each for each in fitting if each not in (best, own)), key=lambda each: each.seconds)
    trials = [best, *others[: MOST_TRIALS - 2]]
    if own in fitting and own is not best:
        trials.append(own)
    choices += _reasons(own, best, free_bytes)
    return Filled(best.recipe, values, tuple(choices), tuple(each.recipe for each in trials))


def _why_not(recipe: Recipe, shape: Shape | None, free_bytes: int | None) -> str:
    if not recipe.fill_card:
        return "it says fill_card = false"
    if recipe.num_processes > 1 or recipe.accelerate_config:
        return "several processes share a step"
    if shape is None:
        return "the sizes of the model are not known"
    if free_bytes is None:
        return "the free memory of the GPU is not known"
    return ""


def _divisions(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe, then its rows a step in all other micro-batches, with and without checkpointing."""
    yield recipe
    rows = recipe.effective_batch_size
    pinned = set(recipe.pins)
    # means over a micro-batch change with its size
    own_batch = pinned & set(_BATCH) or recipe.uncertainty_weighting or recipe.kl_weight
    batches = [each for each in range(1, rows + 1) if rows % each == 0]
    if own_batch:
        batches = [recipe.per_device_train_batch_size]
    ways = [False, True]
    if "gradient_checkpointing" in pinned or recipe.method == "prefix":
        ways = [recipe.gradient_checkpointing]
    for batch in batches:
        for checkpointing in ways:
            made = recipe.model_copy(
                update={
                    "per_device_train_batch_size": batch,
                    "gradient_accumulation_steps": rows // batch,
                    "gradient_checkpointing": checkpointing,
                }
            )
            if made != recipe:
                yield made


def _setting(
    recipe: Recipe, shape: Shape, values: ResolvedValues, device: DeviceFacts, data: DataFacts
) -> _Setting:
    high = forecast(shape, recipe, values, "cuda").high_bytes
    return _Setting(recipe, high, cost.step_seconds(shape, recipe, values, device, data))


def _reasons(own: _Setting, best: _Setting, free_bytes: int) -> list[ResolvedChoice]:
    """What differs from the recipe, and why, by the forecast."""
    before, after = own.recipe, best.recipe
    room = f"{size(best.high_bytes)} at most of {size(free_bytes)} free"
    if best is own:
        return [ResolvedChoice("fill_card", True, f"no other division of the batch is faster; {room}")]
    if own.high_bytes > free_bytes:
        why = f"as the recipe has it the step may take {size(own.high_bytes)}"
    else:
        why = f"a step takes about {own.seconds / best.seconds - 1:.0%} longer as the recipe has it"
    found = []
    if after.per_device_train_batch_size != before.per_device_train_batch_size:
        rows, times = after.per_device_train_batch_size, after.gradient_accumulation_steps
        reason = (
            f"{plural(rows, 'row')} at once, {times} times a step: the same "
            f"{after.effective_batch_size} rows; {why}; {room}"
        )
        found.append(ResolvedChoice("per_device_train_batch_size", rows, reason))
        found.append(ResolvedChoice("gradient_accumulation_steps", times, "by the batch size"))
    if after.gradient_checkpointing != before.gradient_checkpointing:
        what = (
            "layers are computed twice"
            if after.gradient_checkpointing
            else "layers need not be computed twice"
        )
        found.append(
            ResolvedChoice("gradient_checkpointing", after.gradient_checkpointing, f"{what}: {why}; {room}")
        )
    return found
