"""Counts the memory of a recipe's steps: the run's own trainer does two real optimiser steps over a model of
fake tensors, and every storage that lives meanwhile is counted. The second step has the optimiser's states
from its start and, where a step has several batches, the gradients of one before: later steps take no more.
Needs no weights, no GPU and no download; takes seconds. ``python -m tui_lab.training.memory_probe`` is the
job.

For a CUDA card the operations are CUDA's where they differ from the CPU's (:mod:`.cuda_stand_ins`): Triton's
fused output layer, dropout with a byte per value, AdamW over lists of tensors, 4-bit products over
dequantised weights. Rows have ``max_length`` tokens, all of them trained: the upper bound.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import torch
from msgspec.structs import replace
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.data.rows import TokenRow
from tui_lab.forecast.jobs import MemoryProbeAnswer, MemoryProbeRequest
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog, dynamic_4bit, target_modules
from tui_lab.models.loading import ModelSource, Precision, load_config
from tui_lab.models.meta_model import config_of, meta_model
from tui_lab.models.module_stats import linear_names
from tui_lab.models.rounded_layers import linears_of
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import Recipe, build
from tui_lab.recipes.resolve import METHODS_WITH_TARGETS, ResolvedValues, resolve
from tui_lab.training import fake_model, objective, packed_attention
from tui_lab.training.base_model import precision_of
from tui_lab.training.build_trainer import EncodedRows, build_trainer
from tui_lab.training.cuda_stand_ins import dequantized_bytes, operations_of
from tui_lab.training.live_storages import LiveStorages, rounded
from tui_lab.training.regularise import Dense, LowRank
from tui_lab.training.torch_internals import storage_key
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.types import Inputs, Model

FORWARD, LOSS, BACKWARD, OPTIMIZER = "forward", "loss", "backward", "optimizer"


def probe(config: PreTrainedConfig, recipe: Recipe, values: ResolvedValues, device: str) -> MemoryProbeAnswer:
    """Counts two steps of ``recipe`` on a model of ``config`` (transformers'), with the resolved ``values``,
    as ``device`` (``cuda`` or ``cpu``) would compute them."""
    began = time.monotonic()
    recipe = _without_preferences(recipe)
    values = replace(values)  # changed below
    if values.compute_dtype == "float16":
        values.compute_dtype = "bfloat16"  # of the same size; a CPU has no loss scaling
    # a paged optimiser takes as much while there is room
    values.optim = values.optim.removeprefix("paged_").replace("adamw_32bit", "adamw_torch")
    precision = precision_of(recipe, values.compute_dtype, values.quantization)
    if recipe.unquantized_budget and values.quantization == "nf4":
        plain = meta_model(
            config, dataclasses.replace(precision, quantization="none"), values.attn_implementation
        )
        sizes = [(name, weight.numel()) for name, _, weight in linears_of(plain)]
        names = dynamic_4bit.first_fit(sizes, recipe.unquantized_budget / 100)
        precision = dataclasses.replace(precision, unquantized_modules=names)
    model = meta_model(config, precision, values.attn_implementation)
    rows = recipe.per_device_train_batch_size
    length = values.max_length
    many = rows > 1 and not recipe.packing
    uniform = not (recipe.packing or many)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    counting = LiveStorages(uniform, dequantized_bytes)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(patch("peft.tuners.lora.dora.deepcopy", lambda module: module))
        stack.enter_context(
            patch("peft.tuners.lora.dora.dequantize_module_weight", fake_model.dequantized_weight)
        )
        made = _trainer(recipe, model, values, Path(folder))
        fake_model.make_fake(made.model, mode)
        stack.enter_context(operations_of(device))
        stack.enter_context(mode)
        counting.add(fake_model.tensors_of(made.model))
        trained = [each for each in made.model.parameters() if each.requires_grad]
        adapter = sum(rounded(each.nbytes) for each in trained) if recipe.is_adapter else 0
        weights = counting.live_bytes - adapter
        if objective.is_needed(recipe):
            _add_protections(made, recipe, config, values, mode, counting)
        protections = counting.live_bytes - adapter - weights
        result = _steps(made, recipe, counting, rows, length, device)
    return msgspec.structs.replace(
        result,
        weights_bytes=weights,
        adapter_bytes=adapter,
        protections_bytes=protections,
        seconds=round(time.monotonic() - began, 2),
    )


def _without_preferences(recipe: Recipe) -> Recipe:
    """A recipe without a preference loss that takes as much memory: both sides of a pair are rows of a batch,
    and the reference of full tuning is a frozen copy, as for KL to the base. Its forward pass holds less than
    that of the model, whose activations stay for the backward pass."""
    if recipe.preference_loss == "none":
        return recipe
    changes: dict[str, object] = {
        "preference_loss": "none",
        "per_device_train_batch_size": recipe.per_device_train_batch_size * recipe.sequences_per_row,
    }
    if recipe.needs_frozen_copy:
        changes["kl_weight"] = recipe.kl_weight or 1.0
    return recipe.model_copy(update=changes)


def _trainer(recipe: Recipe, model: Model, values: ResolvedValues, folder: Path) -> LabTrainer:
    """The run's trainer over two rows; what only acts on losses is added later."""
    rows: list[TokenRow] = [{"input_ids": [1, 1], "labels": [1, 1]}] * 2
    later = {
        "kl_weight": 0.0,
        "l2_to_start": 0.0,
        "ewc_lambda": 0.0,
        "uncertainty_weighting": False,
        "class_weights": "none",
    }
    plain = recipe.model_copy(
        update={"packing": False, "init_lora_weights": "default", "max_steps": 100, **later}
    )
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    return build_trainer(
        plain, model, tokenizer, EncodedRows(rows, rows), values, folder=folder, device="cpu"
    )


def _add_protections(
    made: LabTrainer,
    recipe: Recipe,
    config: PreTrainedConfig,
    values: ResolvedValues,
    mode: FakeTensorMode,
    counting: LiveStorages,
) -> None:
    """Adds the tensors of other losses and penalties."""
    frozen = None
    if recipe.kl_weight and not recipe.is_adapter:
        with unset_fake_temporarily():
            precision = Precision(values.compute_dtype)
            frozen = meta_model(config, precision, values.attn_implementation)
        fake_model.make_fake(frozen.requires_grad_(False), mode)
        counting.add(fake_model.tensors_of(frozen))
    uniform, counting.uniform = counting.uniform, False  # adapters start at zero
    with counting:
        # task weights are a handful of numbers, and need values of labels, which fake tensors lack
        plain = recipe.model_copy(update={"uncertainty_weighting": False, "class_weights": "none"})
        made.objective = objective.Objective(plain, made.model, frozen)
        if recipe.ewc_lambda:
            for name, change in made.objective.changes.items():
                if isinstance(change, Dense):
                    made.objective.importance[name] = torch.zeros(change.weight.shape)
                elif isinstance(change, LowRank):
                    made.objective.importance[name] = torch.zeros(len(change.b), change.a.shape[1])
    counting.uniform = uniform


def _steps(
    made: LabTrainer, recipe: Recipe, counting: LiveStorages, rows: int, length: int, device: str
) -> MemoryProbeAnswer:
    """Two optimiser steps; the answer with the figures that they determine."""
    accumulation = recipe.gradient_accumulation_steps
    made.current_gradient_accumulation_steps = accumulation
    optimizer = made.create_optimizer()
    if device == "cuda":
        for group in optimizer.param_groups:
            if "foreach" in group and not group.get("fused"):
                group["foreach"] = True
    if made.args.activation_checkpointing:  # as the Trainer does when training begins
        made.model.activation_checkpointing_enable()
    model = made.accelerator.prepare_model(made.model, device_placement=False)
    gradients, before = 0, counting.live_bytes
    with counting, _loss_phase(counting) as saved:
        for step in (1, 2):
            counting.phase = FORWARD
            inputs = _batch(recipe, rows, length)
            made.training_step(model, inputs, torch.tensor(rows * (length - 1) * accumulation))
            del inputs
            gradients = sum(
                rounded(each.grad.nbytes) for each in made.model.parameters() if each.grad is not None
            )
            counting.phase = OPTIMIZER
            if recipe.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(made.model.parameters(), recipe.max_grad_norm)
            optimizer.step()
            if step == 2 or accumulation == 1:
                made.model.zero_grad(set_to_none=True)
            # else they stay, as gradients of the first batch during the second one of a step
    states = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim()
    ]
    unique = {storage_key(each): rounded(each.untyped_storage().nbytes()) for each in states}
    return MemoryProbeAnswer(
        peak_bytes=max(counting.peaks.values()),
        peaks=dict(counting.peaks),
        saved_bytes=saved[0] - before,
        gradients_bytes=gradients,
        optimizer_bytes=sum(unique.values()),
    )


def _batch(recipe: Recipe, rows: int, length: int) -> Inputs:
    """Inputs as trl's collators make them: one long row of packed documents, or padded rows (B, T)."""
    if recipe.packing:
        ids = torch.zeros((1, rows * length), dtype=torch.int64)
        bounds = torch.zeros(rows + 1, dtype=torch.int32)
        return {
            "input_ids": ids,
            "labels": ids.clone(),
            "position_ids": ids.clone(),
            packed_attention.BOUNDS: bounds,
            packed_attention.LONGEST: length,
        }
    ids = torch.zeros((rows, length), dtype=torch.int64)
    return {"input_ids": ids, "labels": ids.clone(), "attention_mask": ids.clone()}


@contextmanager
def _loss_phase(counting: LiveStorages) -> Iterator[list[int]]:
    """Sets the phase around the output layer; yields the live bytes each time that it is reached."""
    function: Any = ChunkedLogProbFunction
    forward, backward, reached = function.forward, function.backward, []

    def to_loss(ctx: Any, *args: Any) -> Any:
        reached.append(counting.live_bytes)
        counting.phase = LOSS
        return forward(ctx, *args)

    def from_loss(ctx: Any, *gradients: Any) -> Any:
        found = backward(ctx, *gradients)
        counting.phase = BACKWARD
        return found

    with (
        patch.object(function, "forward", staticmethod(to_loss)),
        patch.object(function, "backward", staticmethod(from_loss)),
    ):
        yield reached


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses warnings about a model without weights."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# --------------------------------------------------------------------------------------------------
# the job


def handle(request: MemoryProbeRequest, on_progress: OnProgress) -> MemoryProbeAnswer:
    """Answers a job's request. Raises LabError."""
    recipe = build(request.recipe)
    device = DeviceFacts(**msgspec.structs.asdict(request.device))
    entry = catalog.find(recipe.model, allow_large=recipe.allow_large)
    values = resolve(recipe, device, entry).values
    on_progress(f"building {entry.label} without its weights")
    config = _config(entry, recipe)
    if recipe.method in METHODS_WITH_TARGETS and not values.target_modules:
        with torch.device("meta"):
            names = linear_names(AutoModelForCausalLM.from_config(config))
        targets = target_modules.explain(config.model_type, recipe.target_modules, names)
        values.target_modules, values.feedforward_modules = list(targets.modules), list(targets.feedforward)
    kind = "cuda" if device.type == "cuda" else "cpu"
    on_progress(f"counting the memory of two steps of {entry.label}")
    count = probe(config, recipe, values, kind)
    worst = max(count.peaks, key=lambda name: count.peaks[name])
    return replace(count, phase=worst, device=kind)


def _config(entry: catalog.Entry, recipe: Recipe) -> PreTrainedConfig:
    """The model's configuration: its own file where that can be read, else from the catalog's sizes. Raises
    LabError."""
    if entry.path is None and entry.shape is not None:
        return config_of(entry.shape)
    try:
        return load_config(
            ModelSource(str(entry.path or entry.loadable), "" if entry.path else recipe.revision)
        )
    except LabError:
        if entry.shape is None:
            raise
        return config_of(entry.shape)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, MemoryProbeRequest))
