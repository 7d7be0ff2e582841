"""What to change so that a recipe fits the memory of a device, and the largest batch and length that fit.

Changes are tried alone, then in the smallest combinations: batch to accumulation at the same effective
batch, checkpointing, 8-bit states, 4-bit weights, LoRA in place of full tuning, shorter rows. The search
uses the formula of :mod:`tui_lab.forecast.memory` and takes a fraction of a second. Changes are ordered by
their effect on the result: first what only splits the work, then what rounds, last what trains less. No
torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.format import count
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
    """One change: ``text`` names it, ``cost`` says in a sentence what it costs."""

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
        """Of the recipe with changes, without the checks that make recipes slow to build."""
        resolved = {key: changes[key] for key in ("max_length", "optim") if key in changes}
        values = replace(self.values, **resolved)
        return forecast(self.shape, self.recipe.model_copy(update=dict(changes)), values, self.kind)

    def checked(self, changes: Values) -> MemoryForecast | None:
        """The same through every check; None where the recipe would be refused."""
        try:
            changed = self.recipe.changed(**changes)
            values = resolve(changed, self.device, self.entry).values
        except LabError:
            return None
        return forecast(self.shape, changed, values, self.kind)

    def operations(self, changes: Values) -> float:
        """Operations a token, with what is computed twice."""
        changed = self.recipe.model_copy(update=dict(changes))
        return operations(self.shape, changed, float(self.length)).hardware


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
    """The smallest changes that make the recipe fit in ``free_bytes``, the least of them first: those with
    which it surely does, before them those that change less and with which it may. None where it surely fits
    as it is, or where nothing helps. ``lengths``: tokens of some rows of the data, to say what a shorter
    ``max_length`` would cut. Raises LabError where the recipe or its forecast cannot be."""
    search = _Search(shape, recipe, device, entry)
    if free_bytes is None or (now := verdict(search.forecast({}), free_bytes)) == FITS:
        return []
    sure = _search(search, free_bytes, lambda each: each.high_bytes, lengths)
    likely: list[tuple[int, Remedy]] = []
    if now == OVER:
        # what changes less than all that is sure, and by the forecast itself fits
        least = min((number for number, _ in sure), default=1 << 30)
        found = _search(search, free_bytes, lambda each: each.total_bytes, lengths)
        likely = [(number, remedy) for number, remedy in found if number < least and not remedy.sure]
    return [remedy for _, remedy in (likely + sure)[:MOST_REMEDIES]]


def _search(
    search: _Search, free_bytes: int, taken: Callable[[MemoryForecast], int], lengths: Sequence[int]
) -> list[tuple[int, Remedy]]:
    """The smallest sets of moves with which what is ``taken`` fits, each with a number that grows with what
    it changes."""
    moves = _moves(search, lengths)
    found: list[tuple[int, Remedy]] = []

    def fits(changes: Values) -> bool:
        return taken(search.forecast(changes)) <= free_bytes

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
        if checked is not None and taken(checked) <= free_bytes:
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
    # the move that changes most is eased first: rows are cut as little as can be
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
    """What can be changed of the recipe, what changes the result least first."""
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
                {
                    "per_device_train_batch_size": smaller,
                    "gradient_accumulation_steps": accumulation * times,
                },
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
    if search.recipe.quantization != "none" or search.recipe.method == "loha":
        return []
    cost = "the frozen weights are rounded to 4 bits, for a little accuracy, and unpacked in every pass"
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
    trained, whole = trainable_count(search.shape, changed), parameter_count(search.shape)
    rate = f" at a rate of {LORA_RATE:g}" if "learning_rate" in changes else ""
    return [
        RemedyStep(
            "lora",
            changes,
            f"LoRA r {changed.lora_r} in place of all weights{rate}",
            f"{count(trained)} of {count(whole)} parameters are trained: it learns less, and forgets less",
        )
    ]


def _shorter(search: _Search, lengths: Sequence[int]) -> _Move:
    first = (search.length - 1) // LENGTH_STEP * LENGTH_STEP
    return [
        RemedyStep(
            "length",
            {"max_length": length},
            f"max length {search.length} → {length}",
            what_is_cut(length, lengths),
        )
        for length in range(first, SHORTEST_REMEDY - 1, -LENGTH_STEP)
    ]


def what_is_cut(length: int, lengths: Sequence[int]) -> str:
    """What rows lose at ``max_length = length``, by the lengths of those that were looked at."""
    if not lengths:
        return f"rows over {length:,} tokens lose their end"
    cut = sum(each > length for each in lengths)
    lost = sum(max(0, each - length) for each in lengths) / max(1, sum(lengths))
    if not cut:
        return f"none of the {len(lengths)} rows looked at is longer: nothing of them is lost"
    rows = f"{cut / len(lengths):.0%} of the {len(lengths)} rows looked at"
    return f"{rows} lose their end, {lost:.0%} of all tokens"


# --------------------------------------------------------------------------------------------------
# the largest that fits


def largest(
    shape: Shape, recipe: Recipe, device: DeviceFacts, free_bytes: int | None, entry: ModelFacts
) -> LargestFit | None:
    """The largest batch at this length and the largest length at this batch whose upper bound fits in
    ``free_bytes``, so surely; None where that is not known. Raises LabError."""
    if free_bytes is None:
        return None
    search = _Search(shape, recipe, device, entry)
    longest = resolve(recipe.model_copy(update={"max_length": MOST_LENGTH}), device, entry)
    limit = longest.values.max_length

    def most(key: str, least: int, top: int) -> int:
        """Bisection: what holds at a size holds at all smaller ones."""
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
