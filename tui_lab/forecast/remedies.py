"""The changes with which a recipe fits the memory of a device, and the largest batch and length that fit.

Changes are tried alone, then in the smallest combinations: a smaller batch with more accumulation,
checkpointing, 8-bit optimiser states, 4-bit weights, LoRA instead of full tuning, shorter rows. They are
ordered by their effect on the result: exact changes first, then rounding, then training less. The search uses
the formula of :mod:`tui_lab.forecast.memory` and takes a fraction of a second. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.format import count
from tui_lab.forecast.cost import attended_tokens
from tui_lab.forecast.flops import operations
from tui_lab.forecast.memory import MemoryForecast, forecast
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.shapes import Shape, parameter_count
from tui_lab.models.trainable import trainable_count
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import SHORTEST_ROW, ModelFacts, resolve
from tui_lab.recipes.rules import TINY_MODEL_PARAMETERS
from tui_lab.recipes.schema import Values

#: Rows are not shortened below this: an instruction and its answer would hardly fit.
SHORTEST_REMEDY = 128
LENGTH_STEP = 64
MOST_BATCH, MOST_ACCUMULATION, MOST_LENGTH = 4096, 4096, 131_072
#: The most remedies that are offered.
MOST_REMEDIES = 6
#: The learning rate for LoRA where the recipe has the far lower one of full tuning.
LORA_RATE, LEAST_LORA_RATE = 2e-4, 5e-5

FITS, TIGHT, OVER, UNKNOWN = "fits", "tight", "over", "unknown"


def verdict(found: MemoryForecast, free_bytes: int | None) -> str:
    """ "fits" (the upper bound fits), "tight" (the forecast fits, its upper bound does not), "over", or
    "unknown" where the free memory is not known."""
    if free_bytes is None:
        return UNKNOWN
    if found.high_bytes <= free_bytes:
        return FITS
    return TIGHT if found.total_bytes <= free_bytes else OVER


@dataclass(frozen=True)
class RemedyStep:
    """One change; ``cost`` is a sentence about its effect."""

    name: str
    changes: dict[str, Any]
    text: str
    cost: str


@dataclass(frozen=True)
class Remedy:
    """A minimal set of changes with which the recipe fits, and its ``forecast`` then. ``sure``: the upper
    bound fits, too."""

    steps: tuple[RemedyStep, ...]
    forecast: MemoryForecast
    free_bytes: int
    sure: bool

    @property
    def changes(self) -> dict[str, Any]:
        return {key: value for step in self.steps for key, value in step.changes.items()}

    @property
    def text(self) -> str:
        return "; ".join(step.text for step in self.steps)

    @property
    def cost(self) -> str:
        return "; ".join(step.cost for step in self.steps)

    @property
    def spare_bytes(self) -> int:
        return self.free_bytes - self.forecast.total_bytes


@dataclass(frozen=True)
class LargestFit:
    """The largest ``batch`` at the recipe's length and ``length`` (in steps of 64) at its batch whose upper
    bounds fit; 0 where none does. ``length_limit`` is the model's context."""

    batch: int
    length: int
    length_limit: int


class _Search:
    """A recipe on a device, and its forecast with changes."""

    def __init__(self, shape: Shape, recipe: Recipe, device: DeviceFacts, entry: ModelFacts) -> None:
        self.shape, self.recipe, self.device, self.entry = shape, recipe, device, entry
        self.values = resolve(recipe, device, entry).values
        self.kind = "cuda" if device.type == "cuda" else "cpu"
        self.length = self.values.max_length

    def forecast(self, changes: Values) -> MemoryForecast:
        """Of the recipe with changes. Skips validation, which is slow."""
        resolved = {key: changes[key] for key in ("max_length", "optim", "quantization") if key in changes}
        values = replace(self.values, **resolved)
        return forecast(self.shape, self.recipe.model_copy(update=dict(changes)), values, self.kind)

    def checked(self, changes: Values) -> MemoryForecast | None:
        """The same with validation; None for a recipe that is refused."""
        try:
            changed = self.recipe.changed(**changes)
            values = resolve(changed, self.device, self.entry).values
        except LabError:
            return None
        return forecast(self.shape, changed, values, self.kind)

    def operations(self, changes: Values) -> float:
        """Operations per token, including recomputation."""
        changed = self.recipe.model_copy(update=dict(changes))
        document, keys = attended_tokens(changed, self.values)
        return operations(self.shape, changed, document, keys=keys).hardware


# --------------------------------------------------------------------------------------------------
# remedies


def remedies(
    shape: Shape,
    recipe: Recipe,
    device: DeviceFacts,
    free_bytes: int | None,
    entry: ModelFacts,
    lengths: Sequence[int] = (),
) -> list[Remedy]:
    """The smallest changes with which the recipe fits in ``free_bytes``, the mildest first. Changes with
    which only the forecast fits, not its upper bound, are included where they are milder than all others.
    Empty where the recipe's upper bound fits, or where no change helps. ``lengths``: tokens of some rows of
    the data, for the effect of a shorter ``max_length``. Raises LabError for a recipe that cannot be resolved
    or forecast."""
    search = _Search(shape, recipe, device, entry)
    if free_bytes is None or (now := verdict(search.forecast({}), free_bytes)) == FITS:
        return []
    sure = _smallest_sets(search, free_bytes, lambda each: each.high_bytes, lengths)
    likely: list[tuple[int, Remedy]] = []
    if now == OVER:
        # milder than every sure change, and the forecast itself fits
        least = min((number for number, _ in sure), default=1 << 30)
        found = _smallest_sets(search, free_bytes, lambda each: each.total_bytes, lengths)
        likely = [(number, remedy) for number, remedy in found if number < least and not remedy.sure]
    return [remedy for _, remedy in (likely + sure)[:MOST_REMEDIES]]


def _smallest_sets(
    search: _Search, free_bytes: int, bytes_of: Callable[[MemoryForecast], int], lengths: Sequence[int]
) -> list[tuple[int, Remedy]]:
    """The smallest sets of moves with which ``bytes_of`` the forecast fits, each with a number that grows
    with its effect."""
    moves = _moves(search, lengths)
    found: list[tuple[int, Remedy]] = []

    def fits(changes: Values) -> bool:
        return bytes_of(search.forecast(changes)) <= free_bytes

    # a set's number is larger than that of all its parts: the first move is the lowest bit
    for number in range(1, 1 << len(moves)):
        if len(found) >= MOST_REMEDIES:
            break
        if any(smaller & number == smaller for smaller, _ in found):
            continue
        chosen = [move for place, move in enumerate(moves) if number >> place & 1]
        steps = _mildest(chosen, fits)
        if steps is None:
            continue
        checked = search.checked(Remedy(steps, search.forecast({}), 0, False).changes)
        if checked is not None and bytes_of(checked) <= free_bytes:
            sure = verdict(checked, free_bytes) == FITS
            found.append((number, Remedy(steps, checked, free_bytes, sure)))
    return found


#: A move: its steps from the mildest to the strongest.
_Move = Sequence[RemedyStep]


def _mildest(moves: Sequence[_Move], fits: Callable[[Values], bool]) -> tuple[RemedyStep, ...] | None:
    """The mildest step of each move with which all of them together fit; None where the strongest do not."""
    chosen = [len(move) - 1 for move in moves]

    def fitting() -> bool:
        changes: dict[str, Any] = {}
        for move, place in zip(moves, chosen, strict=True):
            changes |= move[place].changes
        return fits(changes)

    if not fitting():
        return None
    # the strongest move is weakened first, so that as little as possible is cut from the rows
    for index in reversed(range(len(moves))):
        low, high = 0, len(moves[index]) - 1  # all from high on fit
        while low < high:
            chosen[index] = (low + high) // 2
            if fitting():
                high = chosen[index]
            else:
                low = chosen[index] + 1
        chosen[index] = high
    return tuple(move[place] for move, place in zip(moves, chosen, strict=True))


def _moves(search: _Search, lengths: Sequence[int]) -> list[_Move]:
    """The possible changes of the recipe, the mildest first."""
    moves = (
        _smaller_batch(search), _checkpointing(search), _small_states(search), _four_bits(search),
        _lora(search), _shorter(search, lengths),
    )  # fmt: skip
    return [move for move in moves if move]


def _smaller_batch(search: _Search) -> _Move:
    batch, accumulation = (
        search.recipe.per_device_train_batch_size,
        search.recipe.gradient_accumulation_steps,
    )
    steps = []
    for smaller in range(batch - 1, 0, -1):
        if batch % smaller or accumulation * batch // smaller > MOST_ACCUMULATION:
            continue
        times = batch // smaller
        steps.append(
            RemedyStep(
                "batch",
                {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": accumulation * times},
                f"batch {batch} → {smaller}, accumulation {accumulation} → {accumulation * times}",
                f"exact: the same {batch * accumulation} rows a step, in {times} times as many passes, "
                "which keep the device less busy",
            )
        )
    return steps


def _checkpointing(search: _Search) -> _Move:
    if search.recipe.gradient_checkpointing or search.recipe.method == "prefix":
        return []
    changes = {"gradient_checkpointing": True}
    more = search.operations(changes) / search.operations({}) - 1
    return [
        RemedyStep("checkpointing", changes, "checkpointing on", f"exact, with {more:.0%} more operations")
    ]


def _small_states(search: _Search) -> _Move:
    optim = search.values.optim
    if "adamw" not in optim or "8bit" in optim:
        return []
    changes = {"optim": "paged_adamw_8bit" if search.kind == "cuda" else "adamw_8bit"}
    trained = count(trainable_count(search.shape, search.recipe))
    return [
        RemedyStep(
            "states",
            changes,
            f"optimiser {optim} → {changes['optim']}",
            f"nearly the same: the states of {trained} parameters are rounded to 8 bits",
        )
    ]


def _four_bits(search: _Search) -> _Move:
    # under full tuning only together with LoRA: alone it is refused when it is checked
    if search.recipe.quantization != "none" or search.recipe.method in ("loha", "osf"):
        return []
    cost = "the frozen weights are rounded to 4 bits (slightly less accurate) and unpacked in every pass"
    return [RemedyStep("nf4", {"quantization": "nf4"}, "4-bit weights (NF4)", cost)]


def _lora(search: _Search) -> _Move:
    if search.recipe.method != "full":
        return []
    changes: dict[str, Any] = {"method": "lora"}
    if (
        parameter_count(search.shape) >= TINY_MODEL_PARAMETERS
        and search.recipe.learning_rate < LEAST_LORA_RATE
    ):
        changes["learning_rate"] = LORA_RATE
    changed = search.recipe.model_copy(update=changes)
    trained, total = trainable_count(search.shape, changed), parameter_count(search.shape)
    rate = f" at a rate of {LORA_RATE:g}" if "learning_rate" in changes else ""
    return [
        RemedyStep(
            "lora",
            changes,
            f"LoRA r {changed.lora_r} in place of all weights{rate}",
            f"{count(trained)} of {count(total)} parameters are trained: it learns less and forgets less",
        )
    ]


def _shorter(search: _Search, lengths: Sequence[int]) -> _Move:
    first = (search.length - 1) // LENGTH_STEP * LENGTH_STEP
    return [
        RemedyStep(
            "length",
            {"max_length": length},
            f"max length {search.length} → {length}",
            cut_text(length, lengths),
        )
        for length in range(first, SHORTEST_REMEDY - 1, -LENGTH_STEP)
    ]


def cut_text(length: int, lengths: Sequence[int]) -> str:
    """The effect of ``max_length = length`` on rows of these ``lengths``, as a sentence."""
    if not lengths:
        return f"rows over {length:,} tokens lose their end"
    cut = sum(each > length for each in lengths)
    lost = sum(max(0, each - length) for each in lengths) / max(1, sum(lengths))
    if not cut:
        return f"none of the {len(lengths)} sampled rows is longer: nothing is cut"
    rows = f"{cut / len(lengths):.0%} of the {len(lengths)} sampled rows"
    return f"{rows} lose their end, {lost:.0%} of all tokens"


# --------------------------------------------------------------------------------------------------
# the largest that fits


def largest(
    shape: Shape, recipe: Recipe, device: DeviceFacts, free_bytes: int | None, entry: ModelFacts
) -> LargestFit | None:
    """The largest batch at this length and the largest length at this batch whose upper bound fits in
    ``free_bytes``; None where that is unknown. Raises LabError."""
    if free_bytes is None:
        return None
    search = _Search(shape, recipe, device, entry)
    longest = resolve(recipe.model_copy(update={"max_length": MOST_LENGTH}), device, entry)
    limit = longest.values.max_length

    def most(key: str, least: int, top: int) -> int:
        """By bisection: what fits at a size fits at all smaller sizes."""
        if search.forecast({key: least}).high_bytes > free_bytes:
            return 0
        low, high = least, top
        while low < high:
            middle = (low + high + 1) // 2
            if search.forecast({key: middle}).high_bytes <= free_bytes:
                low = middle
            else:
                high = middle - 1
        return low

    length = most("max_length", SHORTEST_ROW, limit)
    if LENGTH_STEP <= length < limit:
        length -= length % LENGTH_STEP
    return LargestFit(
        batch=most("per_device_train_batch_size", 1, MOST_BATCH), length=length, length_limit=limit
    )
