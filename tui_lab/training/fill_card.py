"""Two measured steps of each division of the batch that the forecast proposes, before training: the first
with the longest rows, whose peak has to fit, the second timed. The fastest that fits is used. Nothing of it
stays: gradients, figures and random states are as before. See :mod:`tui_lab.forecast.fill_card`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyarrow import compute

from tui_lab.core.format import size
from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.schema import ChoiceEvent
from tui_lab.training import micro_batches
from tui_lab.training.oom_ladder import disable_checkpointing, enable_checkpointing, why_no_checkpointing
from tui_lab.training.oom_restart import release_traceback
from tui_lab.training.rng import RandomStates
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.types import Batch

#: Measured times within this share count as equal; the forecast's choice stays then.
EQUAL_SHARE = 0.03


@dataclass(frozen=True)
class Meter:
    """How a device is measured: waits for it, forgets its peak, and says the peak in bytes since."""

    wait: Callable[[], None]
    forget_peak: Callable[[], None]
    peak_bytes: Callable[[], int]
    clock_s: Callable[[], float] = time.perf_counter

    @staticmethod
    def cuda() -> Meter:
        return Meter(
            torch.cuda.synchronize, torch.cuda.reset_peak_memory_stats, torch.cuda.max_memory_allocated
        )


@dataclass(frozen=True)
class Trial:
    """A division of the batch as it was measured; ``tok_per_s`` is NaN where memory ran out."""

    recipe: Recipe
    tok_per_s: float
    peak_bytes: int

    @property
    def fits(self) -> bool:
        return not math.isnan(self.tok_per_s)

    @property
    def text(self) -> str:
        """``16 × 1: 5,210 tok/s, 9.2 GiB``."""
        recipe = self.recipe
        way = f"{recipe.per_device_train_batch_size} × {recipe.gradient_accumulation_steps}"
        way += " with checkpointing" if recipe.gradient_checkpointing else ""
        if not self.fits:
            return f"{way}: out of memory"
        return f"{way}: {self.tok_per_s:,.0f} tok/s, {size(self.peak_bytes)}"


def measure(trainer: LabTrainer, trials: Sequence[Recipe], meter: Meter, reserve_bytes: float) -> list[Trial]:
    """Two steps of each of ``trials``. ``reserve_bytes``: what training takes besides, the optimiser's
    states, tried by holding as much."""
    states, tokens = RandomStates.now(), trainer.total_train_tokens
    trained = [each for each in trainer.model.parameters() if each.requires_grad]
    report = trainer.progress.of("evaluating", "ways") if trainer.progress is not None else None
    found: list[Trial] = []
    try:
        for recipe in trials:
            if report is not None:
                report(len(found), len(trials))
            held = torch.empty(int(reserve_bytes), dtype=torch.uint8, device=trainer.model.device)
            found.append(_trial(trainer, recipe, meter))
            del held
            for weight in trained:
                weight.grad = None
            free_memory()
    finally:
        trainer.train_metrics.clear()
        trainer.total_train_tokens = tokens
        states.restore()
    return found


def _trial(trainer: LabTrainer, recipe: Recipe, meter: Meter) -> Trial:
    if recipe.gradient_checkpointing and not why_no_checkpointing(trainer.model):
        enable_checkpointing(trainer.model)
    else:
        disable_checkpointing(trainer.model)
    longest, usual = _batches(trainer, recipe.per_device_train_batch_size)
    meter.forget_peak()
    try:
        _step(trainer, longest)
        meter.wait()
        began = meter.clock_s()
        tokens = _step(trainer, usual)
        meter.wait()
        return Trial(recipe, tokens / max(meter.clock_s() - began, 1e-9), meter.peak_bytes())
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        release_traceback(error)
    return Trial(recipe, math.nan, meter.peak_bytes())


def _batches(trainer: LabTrainer, rows: int) -> tuple[Batch, Batch]:
    """A micro-batch of the longest rows, and one of rows spread over the data."""
    data: Any = trainer.train_dataset
    column = data.select_columns("input_ids").with_format("arrow")[:]["input_ids"]
    lengths = compute.list_value_length(column).to_numpy()
    order = [int(at) for at in (-lengths).argsort(kind="stable")[:rows]]
    spread = [round(at * (len(lengths) - 1) / max(1, rows - 1)) for at in range(rows)]
    collate: Any = trainer.data_collator
    names = [each for each in data.column_names if each in ("input_ids", "labels", "seq_lengths", "task")]

    def batch(places: Sequence[int]) -> Batch:
        made: Batch = collate([{name: data[at][name] for name in names} for at in places])
        return made

    return batch((order * rows)[:rows]), batch(spread)


def _step(trainer: LabTrainer, batch: Batch) -> int:
    """Forward and backward of a micro-batch; returns its tokens without padding."""
    trainer.current_gradient_accumulation_steps = 1
    mask = batch.get("attention_mask")
    tokens = int(batch["input_ids"].numel() if mask is None else mask.sum())
    trained = torch.tensor(max(1, micro_batches.trained_tokens(batch)), device=trainer.model.device)
    with trainer.accelerator.autocast():
        trainer.training_step(trainer.model, dict(batch), trained)
    return tokens


def choose(trials: Sequence[Trial]) -> Trial | None:
    """The fastest that fits; the first where it is as fast. None where none fits."""
    fitting = [each for each in trials if each.fits]
    if not fitting:
        return None
    best = max(fitting, key=lambda each: each.tok_per_s)
    first = fitting[0]
    return first if first.tok_per_s * (1 + EQUAL_SHARE) >= best.tok_per_s else best


def fill(
    trainer: LabTrainer,
    trials: Sequence[Recipe],
    meter: Meter,
    reserve_bytes: float,
    write: Callable[[ChoiceEvent], None],
) -> Recipe:
    """Measures ``trials``, sets the trainer to the best and writes it with the figures of all. Where none
    fits the last, the recipe's own, is used, and the out-of-memory ladder goes on from there."""
    measured = measure(trainer, trials, meter, reserve_bytes)
    best = choose(measured)
    recipe = best.recipe if best else trials[-1]
    apply(trainer, recipe)
    figures = "; ".join(each.text for each in measured)
    write(
        ChoiceEvent(field="fill_card", value=division(recipe), reason=f"two measured steps each: {figures}")
    )
    return recipe


def apply(trainer: LabTrainer, recipe: Recipe) -> None:
    """Sets the trainer to the division of ``recipe``."""
    trainer.divide_steps(
        recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps, recipe.gradient_checkpointing
    )
    trainer.ladder.use(recipe)
    if not recipe.gradient_checkpointing:
        disable_checkpointing(trainer.model)


def division(recipe: Recipe) -> dict[str, int | bool]:
    """How the rows of a step are divided, as the event has it."""
    return {
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
        "gradient_checkpointing": recipe.gradient_checkpointing,
    }


def earlier_division(choices: Sequence[ChoiceEvent], recipe: Recipe) -> Recipe | None:
    """``recipe`` divided as an earlier attempt of the run was, so that a resume goes on alike; None where
    there was none, or of another number of rows a step."""
    for choice in reversed(choices):
        if choice.field == "fill_card" and isinstance(choice.value, dict):
            keys = division(recipe)
            values = {key: choice.value.get(key) for key in keys}
            if all(type(values[key]) is type(keys[key]) for key in keys):
                made = recipe.model_copy(update=values)
                return made if made.effective_batch_size == recipe.effective_batch_size else None
    return None
