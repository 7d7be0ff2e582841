"""How an attempt divides its steps on a GPU: by the forecast, then by two measured steps a candidate."""

from __future__ import annotations

from msgspec.structs import replace

from tui_lab.data.prepare import PreparedData
from tui_lab.forecast import fill_card as planned
from tui_lab.forecast import memory
from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.fill_card import Filled
from tui_lab.hardware.memory_budget import free_bytes
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.runs.schema import ChoiceEvent, PhaseEvent
from tui_lab.training import fill_card
from tui_lab.training.attempt_records import AttemptContext, ResolvedRecipe
from tui_lab.training.trainer import LabTrainer

#: Rows whose lengths are looked at.
MOST_LENGTHS = 5_000


def with_real_length(values: ResolvedValues, packing: bool, prepared: PreparedData) -> ResolvedValues:
    """``values`` with the length of the longest row, for forecasts of memory."""
    if packing:
        return values
    longest = max(int(rows.lengths.max(initial=0)) for rows in (prepared.train, prepared.validation))
    return replace(values, max_length=min(values.max_length, longest))


def plan(context: AttemptContext, resolved: ResolvedRecipe, prepared: PreparedData) -> Filled:
    """The recipe as the forecast divides it for the free memory of the GPU, each choice as an event. A
    resumed run goes on as its last attempt did."""
    recipe, values = context.recipe, resolved.values
    earlier = fill_card.earlier_division(context.before.choices, recipe)
    if earlier is not None and recipe.fill_card and resolved.device.type == "cuda":
        context.events.write(
            ChoiceEvent(
                field="fill_card",
                value=fill_card.division(earlier),
                reason="as the attempt before measured it",
            )
        )
        return Filled(earlier, values, (), (earlier,))
    free = free_bytes("cuda") if resolved.device.type == "cuda" else None
    found = planned.fill(
        recipe,
        with_real_length(values, recipe.packing, prepared),
        resolved.entry.shape,
        resolved.device,
        # what this process has of the card already is part of the forecast
        None if free is None else free + memory.CONTEXT_BYTES[0],
        facts_of(prepared),
    )
    values.optim = found.values.optim
    for choice in found.choices:
        context.events.write(ChoiceEvent(field=choice.field, value=choice.value, reason=choice.reason))
    return found


def facts_of(prepared: PreparedData) -> DataFacts:
    """The lengths of the training rows, of at most :data:`MOST_LENGTHS` of them one by one."""
    rows = prepared.train
    tokens = max(1, int(rows.lengths.sum()))
    every = max(1, len(rows) // MOST_LENGTHS)
    return DataFacts(
        rows=prepared.summary.train_rows,
        mean_tokens=tokens / max(1, prepared.summary.train_rows),
        trained_share=int(rows.trained.sum()) / tokens,
        lengths=tuple(rows.lengths[::every].tolist()),
    )


def measure(
    context: AttemptContext,
    resolved: ResolvedRecipe,
    filled: Filled,
    trainer: LabTrainer,
    meter: fill_card.Meter | None = None,
) -> None:
    """Measures the candidates, where there are several, and sets the trainer to the fastest."""
    shape = resolved.entry.shape
    if len(filled.trials) < 2 or shape is None:
        return
    context.events.write(PhaseEvent(name="evaluating", detail="two steps of each way to fill the card"))
    kind = "cuda" if resolved.device.type == "cuda" else "cpu"
    found = memory.forecast(shape, filled.recipe, filled.values, kind)
    fill_card.fill(
        trainer,
        filled.trials,
        meter or fill_card.Meter.cuda(),
        found.part("optimizer"),
        context.events.write,
    )
