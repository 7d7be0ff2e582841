"""The training parts of :mod:`tests.benchmarks.real_model`: the run's trainer beside plain trl's on the same
rows, where the time of a step goes, and what the choices of a recipe cost on this processor."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainerCallback
from trl import SFTTrainer

from tests.benchmarks.real_model import MIB, Case, Figures, falling
from tui_lab.data.prepared_cache import prepare_recipe
from tui_lab.forecast import memory
from tui_lab.models import catalog
from tui_lab.models.loading import DTYPES, ModelSource
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues, resolve
from tui_lab.training import device as devices
from tui_lab.training.adapters import peft_config
from tui_lab.training.base_model import load_base
from tui_lab.training.build_trainer import EncodedRows, TrainerHooks, build_trainer
from tui_lab.training.trainer_config import as_dataset, training_arguments

#: Steps that are measured of each choice and by the profiler, after one that is not.
MEASURED_STEPS = 2
PROFILED_STEPS = 3
#: Operations that are named, the most costly first.
SHOWN_OPERATIONS = 12


@dataclass
class Clock(TrainerCallback):
    """The time and the tokens of the steps after the first."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    tokens: int = 0
    on_step: Callable[[int], None] = lambda _: None
    _began: tuple[float, float] = field(default=(0.0, 0.0))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > 1:
            self.wall_s += time.perf_counter() - self._began[0]
            self.cpu_s += time.process_time() - self._began[1]
        self.on_step(state.global_step)

    def figures(self, tokens: int) -> Figures:
        """The speed, with ``tokens`` read in the steps that are counted."""
        return {
            "tokens": tokens,
            "tok_per_s": tokens / self.wall_s,
            "tok_per_cpu_s": tokens / self.cpu_s,
        }


def prepared(case: Case, recipe: Recipe) -> tuple[ResolvedValues, Any, list[Any]]:
    """The resolved values, the tokenizer and the encoded rows of a recipe, padded by nothing yet."""
    values = resolve(recipe, devices.detect("cpu"), catalog.find(case.model)).values
    tokenizer = case.tokenizer()
    rows = prepare_recipe(recipe, tokenizer, values.max_length).train
    return values, tokenizer, list(rows)


def lab_trainer(case: Case, recipe: Recipe, clock: Clock, folder: str) -> Any:
    """The run's own trainer over the loaded model, which saves and validates nothing."""
    values, tokenizer, rows = prepared(case, recipe)
    torch.manual_seed(recipe.seed)
    made = build_trainer(
        recipe,
        load_base(ModelSource(case.model), recipe, devices.detect("cpu"), values),
        tokenizer,
        EncodedRows(rows, []),
        values,
        folder=case.work / folder,
        device="cpu",
        hooks=TrainerHooks(callbacks=[clock]),
    )
    made.args.save_strategy = "no"
    return made


def plain_trainer(case: Case, recipe: Recipe, clock: Clock) -> Any:
    """trl's SFTTrainer with the same arguments, rows and adapter over a model that transformers loads."""
    values, tokenizer, rows = prepared(case, recipe)
    torch.manual_seed(recipe.seed)
    dtype = DTYPES[values.compute_dtype]
    options: dict[str, Any] = {}
    if recipe.quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=recipe.double_quantization,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(case.model, dtype=dtype, device_map={"": "cpu"}, **options)
    adapter = peft_config(
        recipe,
        list(values.target_modules),
        list(values.feedforward_modules),
        model.config.get_text_config().hidden_size,
        recipe.max_steps,
    )
    arguments = training_arguments(recipe, case.work / "trl", device="cpu", values=values, validates=False)
    arguments.save_strategy = "no"
    return SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=as_dataset(rows),
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[clock],
    )


def trained(trainer: Any, clock: Clock) -> Figures:
    """Trains, and measures the steps after the first."""
    seen: list[int] = []
    collate = trainer.data_collator

    def counting(rows: list[Any]) -> Any:
        seen.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = counting
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    steps = trainer.state.global_step
    # a batch may be fetched ahead of its step: only those that were trained on count
    return {**clock.figures(sum(seen[1:steps])), "losses": losses}


def beside_trl(case: Case) -> Figures:
    """QLoRA on a few rows with the run's trainer and with plain trl, one after the other."""
    recipe, found = case.recipe(), Figures()
    clock = Clock()
    found["lab"] = trained(lab_trainer(case, recipe, clock, "lab"), clock)
    gc.collect()
    clock = Clock()
    found["trl"] = trained(plain_trainer(case, recipe, clock), clock)
    found["lab"] |= falling(found["lab"]["losses"])
    for kind in ("tok_per_s", "tok_per_cpu_s"):
        found[f"ratio_{kind}"] = found["lab"][kind] / found["trl"][kind]
    pairs = zip(found["lab"]["losses"], found["trl"]["losses"], strict=True)
    found["largest_loss_difference"] = max(abs(a - b) for a, b in pairs)
    return found


# ------------------------------------------------------------------ where the time goes


def profiled(case: Case) -> Figures:
    """The share of the processor's time that each kind of operation takes in three steps."""
    recipe = case.recipe(max_steps=PROFILED_STEPS + 1)
    recorded = profile(activities=[ProfilerActivity.CPU], record_shapes=True)

    def on_step(step: int) -> None:
        if step == 1:
            recorded.start()
        elif step == PROFILED_STEPS + 1:
            recorded.stop()

    trainer = lab_trainer(case, recipe, Clock(on_step=on_step), "profile")
    config = trainer.model.config.get_text_config()
    heads = config.num_attention_heads * getattr(config, "head_dim", 1)
    widest = max(config.hidden_size, config.intermediate_size, heads, case.batch * case.max_length)
    trainer.train()
    kinds: dict[str, float] = {}
    operations: dict[str, float] = {}
    for event in recorded.key_averages(group_by_input_shape=True):
        spent = event.self_cpu_time_total / 1e6
        kind = kind_of(event.key, event.input_shapes, widest)
        kinds[kind] = kinds.get(kind, 0.0) + spent
        operations[event.key] = operations.get(event.key, 0.0) + spent
    total = sum(kinds.values())
    costly = sorted(operations.items(), key=lambda each: -each[1])[:SHOWN_OPERATIONS]
    return {
        "seconds_recorded": total,
        "shares": {name: spent / total for name, spent in sorted(kinds.items(), key=lambda one: -one[1])},
        "operations": {name: spent / total for name, spent in costly},
    }


def kind_of(operation: str, shapes: list[list[int]], widest: int) -> str:
    """The kind of work of an operation. ``widest``: the largest size in the blocks and their batches. The
    output layer and the loss have tiles of the vocabulary, which are larger."""
    name = operation.lower()
    if "optimizer" in name or "adam" in name or "foreach" in name:
        return "optimiser"
    if "bitsandbytes" in name or "4bit" in name:
        return "4-bit weights"
    if "scaled_dot_product" in name or "flash" in name:
        return "attention"
    if any(size > widest for shape in shapes if len(shape) == 2 for size in shape if isinstance(size, int)):
        return "output layer and loss"
    if any(part in name for part in ("mm", "matmul", "linear")):
        return "matrix products of the blocks"
    return "everything else"


# ------------------------------------------------------------------ what to choose


def choices(case: Case) -> Figures:
    """The speed and the forecast memory of a few recipes that differ in one thing."""
    common: dict[str, Any] = {"max_steps": MEASURED_STEPS + 1}
    recipes: dict[str, dict[str, Any]] = {
        "float32": {"quantization": "none"},
        "float32 nf4": {},
        "bfloat16": {"quantization": "none", "compute_dtype": "bfloat16"},
        "bfloat16 nf4": {"compute_dtype": "bfloat16"},
        "float32 checkpointing": {"quantization": "none", "gradient_checkpointing": True},
        "float32 half the length": {"quantization": "none", "max_length": max(80, case.max_length // 2)},
        "float32 four rows a step": {"quantization": "none", "per_device_train_batch_size": 4},
    }
    return {name: _choice(case, case.recipe(**common, **changes), name) for name, changes in recipes.items()}


def _choice(case: Case, recipe: Recipe, name: str) -> Figures:
    clock = Clock()
    trainer = lab_trainer(case, recipe, clock, name.replace(" ", "-"))
    found = trained(trainer, clock)
    del trainer
    gc.collect()
    entry = catalog.find(case.model)
    if entry.shape is not None:
        values = resolve(recipe, devices.detect("cpu"), entry).values
        found["forecast_mib"] = memory.forecast(entry.shape, recipe, values, "cpu").total_bytes / MIB
    return found
