"""trl's configuration and data set for a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from trl import SFTConfig

from tui_lab.data.rows import TokenRow
from tui_lab.data.store import TokenRows
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.training import preferences, trackers
from tui_lab.training.trainer_seams import use_one_gpu

#: The column with the index of a row's task.
TASK_COLUMN = "task"


def training_arguments(
    recipe: Recipe, folder: Path, *, device: str, values: ResolvedValues, validates: bool = True
) -> SFTConfig:
    """trl's configuration for a recipe; ``values`` are the resolved ones, ``device`` is cuda, mps or cpu;
    ``validates``: there are validation rows. The steps between validations and checkpoints are set once the
    length of the run is known."""
    compute_dtype = values.compute_dtype
    on_cpu = device == "cpu"
    config = SFTConfig(
        output_dir=str(folder),
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=on_cpu,
        bf16=compute_dtype == "bfloat16",
        fp16=compute_dtype == "float16",
        # data: rows have their labels and are truncated already
        max_length=values.max_length,
        packing=recipe.packing,
        packing_strategy="bfd",
        eval_packing=recipe.packing,
        dataloader_pin_memory=not on_cpu,
        # from pinned memory: else the host waits at each upload until the GPU has done all work before it
        accelerator_config={"non_blocking": device == "cuda"},
        # optimisation
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        num_train_epochs=recipe.num_train_epochs,
        max_steps=recipe.max_steps or -1,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        per_device_eval_batch_size=recipe.per_device_train_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        optim=values.optim,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        activation_checkpointing=recipe.gradient_checkpointing,
        # measuring
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        save_strategy="steps",
        restore_callback_states_from_checkpoint=True,  # early stopping continues to count
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        disable_tqdm=True,
        report_to=list(recipe.trackers) or "none",
        run_name=folder.parent.name,
        project=trackers.PROJECT,
        trackio_static_space_id=False,
    )
    use_one_gpu(config)
    return config


def steps_planned(recipe: Recipe, rows: int) -> int:
    """Optimiser steps of a recipe over ``rows`` rows (packed sequences where it packs)."""
    if recipe.max_steps:
        return recipe.max_steps
    batches = math.ceil(math.ceil(rows / recipe.per_device_train_batch_size) / recipe.num_processes)
    return max(
        1, math.ceil(math.ceil(batches / recipe.gradient_accumulation_steps) * recipe.num_train_epochs)
    )


def as_dataset(
    rows: Sequence[TokenRow], numbers: Sequence[int] = (), preference_loss: str = "none"
) -> Dataset:
    """Encoded rows as a data set with the columns that trl takes as they are, the ``numbers`` of the rows'
    tasks or classes where there are any, and what a preference loss needs besides."""
    stored = rows if isinstance(rows, TokenRows) else TokenRows.of(rows)
    if preference_loss == "kto":
        return preferences.as_verdicts(stored)
    if preference_loss != "none":
        return preferences.as_pairs(stored)
    dataset: Dataset = stored.dataset()
    if numbers:
        dataset = dataset.add_column(TASK_COLUMN, numbers)
    return dataset
