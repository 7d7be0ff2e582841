"""The peak of a real trainer's real steps on the CPU, from the allocator's own record through torch's
profiler: what the memory probe is tested against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler import profile
from transformers import AutoModelForCausalLM, AutoTokenizer

from tui_lab.models.loading import DTYPES
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.training import fake_model
from tui_lab.training.base_model import weights_dtype
from tui_lab.training.build_trainer import EncodedRows, build_trainer

#: Batches of the two steps, as the probe takes them.
BATCHES = (1, 2)


def random_base(config: Any, recipe: Recipe, values: ResolvedValues) -> Any:
    """A model with random weights, not quantised."""
    dtype = DTYPES[weights_dtype(recipe, values.compute_dtype)]
    attention = values.attn_implementation
    base = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    base.config.use_cache = False
    return base


def trainer_of(base: Any, recipe: Recipe, values: ResolvedValues, folder: Path, device: str = "cpu") -> Any:
    """The run's trainer over a model, as it is when training begins."""
    rows = [{"input_ids": [1, 1], "labels": [1, 1]}] * 2
    made: Any = build_trainer(
        recipe.model_copy(update={"packing": False, "max_steps": 100}),
        base,
        AutoTokenizer.from_pretrained(MODEL_DIR),
        EncodedRows(rows, rows),
        values,
        folder=folder,
        device=device,
    )
    made.current_gradient_accumulation_steps = recipe.gradient_accumulation_steps
    if made.args.activation_checkpointing:
        made.model.activation_checkpointing_enable()
    return made


def two_steps(made: Any, recipe: Recipe, values: ResolvedValues, device: str = "cpu") -> None:
    """Two real optimiser steps, of at most two batches each."""
    optimizer = made.create_optimizer()
    model = made.accelerator.prepare_model(made.model)
    rows, length = recipe.per_device_train_batch_size * recipe.sequences_per_row, values.max_length
    for batches in BATCHES:
        for _ in range(min(batches, recipe.gradient_accumulation_steps)):
            inputs = {name: each.to(device) for name, each in _batch(recipe, rows, length).items()}
            tokens = torch.tensor(rows * length * recipe.gradient_accumulation_steps, device=device)
            made.training_step(model, inputs, tokens)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad(set_to_none=True)


def measured_peak(base: Any, recipe: Recipe, values: ResolvedValues, folder: Path) -> int:
    """Bytes that two optimiser steps on the CPU held at once, weights included."""
    made = trainer_of(base, recipe, values, folder)
    model = made.model
    storages = {
        each.untyped_storage()._cdata: each.untyped_storage().nbytes()
        for each in fake_model.tensors_of(model)
    }
    with profile(profile_memory=True) as recorded:
        two_steps(made, recipe, values)
    live = peak = 0
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return sum(storages.values()) + peak


def _batch(recipe: Recipe, rows: int, length: int) -> dict[str, torch.Tensor]:
    if recipe.packing:
        ids = torch.randint(3, 100, (1, rows * length))
        positions = torch.arange(length // 2).repeat(rows * 2)[None]
        return {"input_ids": ids, "labels": ids.clone(), "position_ids": positions}
    ids = torch.randint(3, 100, (rows, length))
    mask = torch.ones_like(ids)
    if rows > 1:
        mask[-1, -2:] = 0
    return {"input_ids": ids, "labels": ids.clone(), "attention_mask": mask}
