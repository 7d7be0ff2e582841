"""Builds the trainer of a recipe over a loaded base model and encoded rows."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from tui_lab.data.preferences import DESIRABLE
from tui_lab.data.rows import TokenRow
from tui_lab.data.store import TokenRows
from tui_lab.models.loading import DTYPES
from tui_lab.models.module_stats import cast_trainable_to_float32
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.training import layers, objective
from tui_lab.training.adapters import peft_config
from tui_lab.training.callbacks import ClearTaskGradients, RelocateBestCheckpoint
from tui_lab.training.class_weights import ClassWeights
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.objective import Objective
from tui_lab.training.oom_ladder import Ladder
from tui_lab.training.preferences import PreferenceCollator
from tui_lab.training.start_weights import FrozenRanks
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.trainer_config import TASK_COLUMN, as_dataset, steps_planned, training_arguments
from tui_lab.training.types import Inputs, Model, Tokenizer

#: Held-out pairs, or answers with a verdict, whose rewards are measured at each validation.
MOST_ANSWERS = 64
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedRows:
    """The rows that are trained on and those that are held out."""

    train: Sequence[TokenRow]
    validation: Sequence[TokenRow]
    classes: ClassWeights | None = None


@dataclass(frozen=True)
class TrainerHooks:
    """How a run takes part in its training. ``start`` is called with the model before its first step, for
    weights other than new ones; ``after_step`` after every optimiser step; ``ladder``: what changes when
    memory runs out (None: the same, without events); ``warn`` takes sentences."""

    callbacks: Sequence[TrainerCallback] = ()
    start: Callable[[Model], None] = lambda _: None
    after_step: Callable[[LabTrainer], None] = lambda _: None
    ladder: Ladder | None = None
    group: ProcessGroup | None = None
    warn: Callable[[str], None] = log.warning


def build_trainer(
    recipe: Recipe,
    base: Model,
    tokenizer: Tokenizer,
    rows: EncodedRows,
    values: ResolvedValues,
    *,
    folder: Path,
    device: str,
    hooks: TrainerHooks = TrainerHooks(),
) -> LabTrainer:
    """The trainer of a recipe, with its adapter, protections and callbacks.

    ``values``: the resolved ones (:mod:`tui_lab.recipes.resolve`); ``folder`` takes the checkpoints;
    ``device``: cuda, mps or cpu. Raises LabError for a recipe that does not fit the model.
    """
    config = None
    if recipe.is_adapter:
        config = peft_config(
            recipe,
            list(values.target_modules),
            list(values.feedforward_modules),
            base.config.get_text_config().hidden_size,
            steps_planned(recipe, len(rows.train) // recipe.sequences_per_row),
        )
    tasks = objective.task_names(rows.train) if recipe.uncertainty_weighting else []
    numbers = objective.task_numbers(rows.train, tasks) if tasks else []
    weights: Sequence[float] = ()
    if rows.classes is not None:
        numbers, weights = rows.classes.numbers, rows.classes.weights
    # copied before trl changes the model's forward
    frozen = None
    if recipe.needs_frozen_copy:
        frozen = frozen_copy(base, values)
        if recipe.preference_loss != "none":
            hooks.start(frozen)  # preferences are compared with the model that training begins with
    held_out = _held_out(rows.validation, recipe)
    trainer = LabTrainer(
        model=base,
        args=training_arguments(
            recipe, folder, device=device, values=values, validates=bool(rows.validation)
        ),
        train_dataset=as_dataset(rows.train, numbers, recipe.preference_loss),
        eval_dataset=as_dataset(held_out) if rows.validation else None,
        processing_class=tokenizer,
        peft_config=config,
        callbacks=list(hooks.callbacks),
        adalora=recipe.method == "adalora",
        after_step=hooks.after_step,
        ladder=hooks.ladder or Ladder(recipe, values),
        group=hooks.group,
        without_mask=values.packed_attention == "varlen",
        row_mask=values.row_mask,
    )
    if recipe.preference_loss != "none" and rows.validation:
        answers = _some(rows.validation, recipe.sequences_per_row, MOST_ANSWERS)
        trainer.held_out_answers = as_dataset(answers, preference_loss=recipe.preference_loss)
    trainer.checkpoints_kept = recipe.save_total_limit
    trainer.validation_sources = [] if recipe.packing else held_out.source.tolist()
    trainer.add_callback(RelocateBestCheckpoint(hooks.warn))
    if trainer.group.rank:  # the adapter starts the same (rank 0 sends it), dropout differs
        torch.manual_seed(recipe.seed + trainer.group.rank)
    cast_trainable_to_float32(trainer.model)
    hooks.start(trainer.model)
    if recipe.frozen_rank:
        trainer.frozen_ranks = FrozenRanks(trainer.model, recipe.frozen_rank)
    _set_layer_rates(trainer, recipe)
    if objective.is_needed(recipe):
        trainer.objective = Objective(recipe, trainer.model, frozen, tasks, bool(recipe.from_run), weights)
        trainer.objective.row_mask = values.row_mask
        if trainer.objective.raw_sigma is not None:
            trainer.add_callback(ClearTaskGradients(trainer.objective.raw_sigma))
    if numbers:
        trainer.data_collator = _TaskCollator(trainer.data_collator)
    if recipe.preference_loss != "none":
        trainer.data_collator = PreferenceCollator(trainer.data_collator, recipe.preference_loss)
    if recipe.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(recipe.early_stopping_patience))
    return trainer


def _held_out(validation: Sequence[TokenRow], recipe: Recipe) -> TokenRows:
    """The held-out rows whose loss is the validation loss: of the chosen answers, or the desirable ones."""
    rows = validation if isinstance(validation, TokenRows) else TokenRows.of(validation)
    if recipe.preference_loss == "none":
        return rows
    if recipe.preference_loss == "kto":
        desirable = [at for at, task in enumerate(rows.tasks()) if task == DESIRABLE]
        return rows.chosen(desirable) if desirable else rows
    return rows.chosen(range(0, len(rows), 2))


def _some(validation: Sequence[TokenRow], size: int, most: int) -> TokenRows:
    """At most ``most`` units of ``size`` rows, evenly out of all."""
    rows = validation if isinstance(validation, TokenRows) else TokenRows.of(validation)
    return rows.chosen(evenly(len(rows) // size, most, size))


def evenly(units: int, most: int, size: int = 1) -> list[int]:
    """The places of the rows of at most ``most`` of the units of ``size`` rows each, evenly out of all."""
    count = min(units, most)
    first = (number * units // count * size for number in range(count))
    return [at + offset for at in first for offset in range(size)]


def frozen_copy(base: Model, values: ResolvedValues) -> Model:
    """A frozen copy of the base in the compute type, which a fully tuned model is compared with."""
    frozen = copy.deepcopy(base).requires_grad_(False).eval()
    return frozen.to(DTYPES[values.compute_dtype])


def _set_layer_rates(trainer: LabTrainer, recipe: Recipe) -> None:
    """Freezes layers and sets the rate factors by depth. Raises LabError."""
    model, blocks = trainer.model, layers.block_count(trainer.model)
    if recipe.frozen_layers:
        layers.freeze_first(model, recipe.frozen_layers)
    depths = range(blocks + 2)
    if recipe.gradual_unfreezing:
        stages = layers.stages_for(recipe.num_train_epochs, recipe.max_steps, blocks)
        total = steps_planned(recipe, len(trainer.train_dataset))
        trainer.add_callback(layers.GradualUnfreezing(model, stages, total))
        trainer.rate_factors = {
            depth: layers.STAGE_RATE ** layers.stage_of(depth, blocks, stages) for depth in depths
        }
    if recipe.layer_lr_decay < 1:
        trainer.rate_factors = {
            depth: layers.rate_factor(depth, blocks, recipe.layer_lr_decay) for depth in depths
        }


class _TaskCollator:
    """A collator that keeps the column of tasks: (B,) indices into the list of tasks."""

    def __init__(self, collator: Callable[[list[Inputs]], Inputs]) -> None:
        self._collator = collator

    def __call__(self, rows: list[Inputs]) -> Inputs:
        batch = self._collator(rows)
        if rows and TASK_COLUMN in rows[0]:
            batch[TASK_COLUMN] = torch.tensor([row[TASK_COLUMN] for row in rows])
        return batch
