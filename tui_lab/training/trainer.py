"""trl's SFTTrainer with what a run of the lab needs on top of it.

- Validation is a token-weighted mean over the rows, so it does not depend on how they fall into batches.
- Looking (validation, samples) leaves no trace in random states (:mod:`.quiet`).
- AdaLoRA's regulariser and rank schedule, which neither trl nor transformers call.
- Losses and terms of one's own (:mod:`.objective`), rates and freezing by layer (:mod:`.layers`).
- Checkpoints without ``training_args.bin`` (a pickle) and without copies of the tokenizer.
- Steps that do not fit in memory are done again in smaller parts (:mod:`.restart`, :mod:`.ladder`).
- A hook after each step, once its loss is logged: the place where people's commands are heard.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainerState
from transformers.trainer_utils import rotate_checkpoints
from trl import SFTConfig

from tui_lab.data.rows import TokenRow
from tui_lab.models.loading import DTYPES
from tui_lab.models.module_stats import cast_trainable_to_float32
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import checkpoints
from tui_lab.training import adalora_state, layers, objective, trackers
from tui_lab.training.adapters import orthogonality, peft_config
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.micro_batches import BatchPart
from tui_lab.training.objective import Objective
from tui_lab.training.oom_ladder import Ladder
from tui_lab.training.oom_trainer import RestartingTrainer
from tui_lab.training.recorder import PART
from tui_lab.training.rng import preserve_rng_state

log = logging.getLogger(__name__)

#: The column with the place of a row's task.
TASK = "task"


class LabTrainer(RestartingTrainer):
    """See the module's docstring. ``after_step`` is called with the trainer after every optimiser step."""

    model: Any
    train_dataset: Any

    def __init__(
        self,
        *args: Any,
        adalora: bool,
        after_step: Callable[[LabTrainer], None],
        ladder: Ladder,
        group: ProcessGroup | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.ladder = ladder
        self.group = group or ProcessGroup()
        #: How many checkpoints stay beside the best. The Trainer itself knows of no limit: it would delete
        #: the one before too early, and with a limit of one the last when a run is only stopped.
        self.checkpoints_kept: int | None = None
        self.remove_callback(PrinterCallback)
        self._after_step = after_step
        self._adalora = adalora
        self.objective: Objective | None = None
        #: Rate of a depth against the recipe's, where depths differ (:func:`.layers.depth_of`).
        self.rate_factors: dict[int, float] = {}
        if adalora:
            self.add_callback(_AdaLoraSchedule())

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tasks = inputs.pop(TASK, None)
        tokens = num_items_in_batch
        if tokens is not None and self.group.size > 1:
            tokens = tokens / self.group.size  # counted over all processes, whose gradients are averaged
        loss: Any
        if self.objective is not None and model.training:
            compute = super().compute_loss
            loss = self.objective.loss(
                lambda: compute(model, inputs, num_items_in_batch=num_items_in_batch),
                inputs,
                tasks,
                tokens=tokens,
                accumulation=max(1, self.current_gradient_accumulation_steps),
                share=self.share,
            )
            for name, value in self.objective.parts.items():
                self._metrics["train"][PART + name].append(value)
        else:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._adalora and model.training:
            config = self.model.peft_config["default"]
            # the Trainer leaves the accumulation to the loss: each micro-batch brings its share
            share = config.orth_reg_weight / max(1, self.current_gradient_accumulation_steps)
            term = orthogonality(self.model).to(self.args.device) * share
            loss = (loss[0] + term, loss[1]) if return_outputs else loss + term
        return loss

    def weight_of(self, name: str, part: BatchPart) -> float:
        match name.removeprefix(PART).split(" ", 1):
            case ["kl_to_base"]:
                return part.share.tokens
            case ["l2_to_start" | "ewc"]:
                return 1.0
            case ["task", task] if self.objective is not None:
                return part.share.tasks.get(self.objective.tasks.index(task), 0.0)
        return super().weight_of(name, part)

    def validation_loss(self) -> float:
        """Mean negative log-likelihood of a trained token over the validation rows, in nats."""

        def look(inputs: dict[str, Any]) -> tuple[float, int]:
            outputs = self.model(**self._prepare_inputs(inputs), use_cache=False, fused_lm_head=True)
            return -float(outputs.log_probs.double().sum()), int(outputs.label_mask.sum())

        total, tokens = 0.0, 0
        with preserve_rng_state(self.model), self.compute_loss_context_manager():
            for loss, counted in self.looked_at(iter(self._held_out()), look):
                total += loss
                tokens += counted
        totals = [(total, tokens)] if self.group.is_sharded else self.group.all_gather((total, tokens))
        total, tokens = sum(each[0] for each in totals), sum(each[1] for each in totals)
        return total / tokens if tokens else math.nan

    def _held_out(self) -> Any:
        """Batches of held-out rows; with several processes each has its share, every row once. (accelerate
        would fill the last batches up with rows that were there already.)"""
        if self.group.size == 1:
            return self.get_eval_dataloader()
        dataset: Any = self.eval_dataset
        own = dataset
        if not self.group.is_sharded:  # where each forward is the work of all, all look at every row
            own = dataset.select(range(self.group.rank, len(dataset), self.group.size))
        return DataLoader(own, batch_size=self.args.per_device_eval_batch_size, collate_fn=self.data_collator)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The validation loss, through the Trainer's own callbacks (best checkpoint, early stopping)."""
        metrics = {"eval_loss": self.validation_loss()}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        if self.rate_factors:
            layers.split_groups(optimizer, self.model, self.rate_factors)
        if self.objective is not None and self.objective.raw_sigma is not None:
            group = {"params": [self.objective.raw_sigma], "lr": objective.SIGMA_RATE, "weight_decay": 0.0}
            optimizer.add_param_group(group)
        return optimizer

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if TASK not in columns:
            columns.append(TASK)

    # ------------------------------------------------------------------ steps and checkpoints

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._after_step(self)

    def checkpoint_now(self) -> None:
        """Saves a checkpoint of the step in hand, unless it was saved already."""
        folder = self._checkpoint_folder
        if not self.group.broadcast((folder / checkpoints.MANIFEST).exists()):
            self._save_checkpoint(self.model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    @property
    def _checkpoint_folder(self) -> Path:
        return Path(str(self.args.output_dir)) / f"{checkpoints.PREFIX}{self.state.global_step}"

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """As the Trainer does, and then sealed; the ones before are deleted only once this one is whole."""
        super()._save_checkpoint(*args, **kwargs)
        self.group.all_gather(None)  # every process has written its part
        if self.group.is_main:
            checkpoints.seal(self._checkpoint_folder)
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(self.args.output_dir), self.checkpoints_kept, best)
        self.group.all_gather(None)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints are the run's own: they need no card."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.model, folder, state_dict)
        if self._adalora:
            adalora_state.save(self.model, folder)
        if self.objective is not None:
            self.objective.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._adalora:
            adalora_state.load(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.objective is not None:
            self.objective.load(Path(resume_from_checkpoint))

    def restore_finished(self, checkpoint: Path) -> None:
        """Takes weights and state of a checkpoint whose training had come to its end, without training."""
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self._load_from_checkpoint(str(checkpoint))
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            self._load_best_model()

    def _load_callback_state(self) -> None:
        """How long early stopping has waited comes from the checkpoint; how long it may wait is the recipe's,
        which may have been changed since."""
        wanted = [c.early_stopping_patience for c in self._early_stopping()]
        super()._load_callback_state()
        for callback, patience in zip(self._early_stopping(), wanted, strict=True):
            callback.early_stopping_patience = patience

    def _early_stopping(self) -> list[EarlyStoppingCallback]:
        return [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]

    def _load_best_model(self) -> None:
        if self._adalora:
            adalora_state.load(self.model, Path(str(self.state.best_model_checkpoint)))
        else:
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The optimiser's states come from the checkpoint; rates and weight decay are the recipe's, which may
        have been changed since."""
        optimizer = _bare(self.optimizer)
        scheduler: Any = self.lr_scheduler
        wanted = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        rates = list(getattr(scheduler, "base_lrs", []))
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or len(wanted) != len(optimizer.param_groups):
            return
        for group, (_, decay) in zip(optimizer.param_groups, wanted, strict=True):
            group["weight_decay"] = decay
        if rates and rates != scheduler.base_lrs:
            scheduler.base_lrs = rates
            shares = [share(scheduler.last_epoch) for share in scheduler.lr_lambdas]
            for group, rate, share in zip(optimizer.param_groups, rates, shares, strict=True):
                group["initial_lr"], group["lr"] = rate, rate * share
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def _bare(optimizer: Any) -> Any:
    """torch's own optimiser inside of accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)


def save_weights(model: Any, folder: Path, state_dict: dict[str, Any] | None = None) -> None:
    """Saves an adapter as peft does, or a full model, in safetensors."""
    extra: dict[str, Any] = {}
    if hasattr(model, "peft_config"):
        extra["save_embedding_layers"] = False  # they are frozen; "auto" would ask the hub whether they grew
    model.save_pretrained(folder, state_dict=state_dict, safe_serialization=True, **extra)


class _AdaLoraSchedule(TrainerCallback):
    """Calls peft's rank allocation between the optimiser's step and the clearing of the gradients."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        model.base_model.update_and_allocate(state.global_step + 1)


def training_arguments(recipe: Recipe, folder: Path, *, device: str, values: Mapping[str, Any]) -> SFTConfig:
    """trl's configuration for a recipe. Steps between validations are set once the data is known."""
    compute_dtype = values["compute_dtype"]
    on_cpu = device == "cpu"
    config = SFTConfig(
        output_dir=str(folder),
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=on_cpu,
        bf16=compute_dtype == "bfloat16",
        fp16=compute_dtype == "float16",
        # data: rows come with their labels, cut and checked already
        max_length=int(values["max_length"]),
        packing=recipe.packing,
        packing_strategy="bfd",
        eval_packing=recipe.packing,
        dataloader_pin_memory=not on_cpu,
        # optimisation
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_steps,
        num_train_epochs=recipe.num_train_epochs,
        max_steps=recipe.max_steps or -1,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        per_device_eval_batch_size=recipe.per_device_train_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        optim=str(values["optim"]),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        activation_checkpointing=recipe.gradient_checkpointing,
        # measuring
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        save_strategy="steps",
        restore_callback_states_from_checkpoint=True,  # how long early stopping has waited already
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        disable_tqdm=True,
        report_to=list(recipe.trackers) or "none",
        run_name=folder.parent.name,
        project=trackers.PROJECT,
        trackio_static_space_id=False,
    )
    if config.n_gpu > 1:  # where no driver told which GPU to show: never DataParallel behind everybody's back
        config._n_gpu = 1
    return config


def build_trainer(
    recipe: Recipe,
    base: Any,
    tokenizer: Any,
    train: list[TokenRow],
    validation: list[TokenRow],
    values: Mapping[str, Any],
    *,
    folder: Path,
    device: str,
    callbacks: list[TrainerCallback],
    after_step: Callable[[LabTrainer], None],
    ladder: Ladder | None = None,
    group: ProcessGroup | None = None,
    warn: Callable[[str], None] = log.warning,
) -> LabTrainer:
    """The trainer of a recipe over a loaded base model and encoded rows.

    ``values`` are the resolved ones (:mod:`tui_lab.recipes.resolve`); ``folder`` takes the checkpoints;
    ``ladder``: what to do when memory runs out (without one, the same in silence).
    """
    config = None
    if recipe.is_adapter:
        config = peft_config(
            recipe,
            list(values["target_modules"]),
            list(values["feedforward_modules"]),
            base.config.get_text_config().hidden_size,
            steps_planned(recipe, len(train)),
        )
    tasks = objective.task_names(train) if recipe.uncertainty_weighting else []
    # made before trl changes the model's forward
    frozen = copy_of(base, values) if recipe.kl_weight and not recipe.is_adapter else None
    trainer = LabTrainer(
        model=base,
        args=training_arguments(
            recipe,
            folder,
            device=device,
            values=values,
        ),
        train_dataset=as_dataset(train, tasks),
        eval_dataset=as_dataset(validation),
        processing_class=tokenizer,
        peft_config=config,
        callbacks=callbacks,
        adalora=recipe.method == "adalora",
        after_step=after_step,
        ladder=ladder or Ladder(recipe, values),
        group=group,
    )
    trainer.checkpoints_kept = recipe.save_total_limit
    trainer.add_callback(RelocateBestCheckpoint(warn))
    if trainer.group.rank:  # the same adapter at the start (it is sent to all), other dropout
        torch.manual_seed(recipe.seed + trainer.group.rank)
    cast_trainable_to_float32(trainer.model)
    _protect(trainer, recipe, frozen, tasks)
    if recipe.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(recipe.early_stopping_patience))
    return trainer


def copy_of(base: Any, values: Mapping[str, Any]) -> Any:
    """The base as it is, frozen, in the type that is computed in: what a tuned model is compared with."""
    frozen = copy.deepcopy(base).requires_grad_(False).eval()
    return frozen.to(DTYPES[str(values["compute_dtype"])])


def _protect(trainer: LabTrainer, recipe: Recipe, frozen: Any, tasks: list[str]) -> None:
    """Everything of a recipe that acts on layers or on the loss. Raises LabError."""
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
    if objective.is_needed(recipe):
        trainer.objective = Objective(recipe, model, frozen, tasks)
        if trainer.objective.raw_sigma is not None:
            trainer.add_callback(_ForgetTaskGradients(trainer.objective.raw_sigma))
    if tasks:
        trainer.data_collator = _WithTasks(trainer.data_collator)


class RelocateBestCheckpoint(TrainerCallback):
    """The best checkpoint is found under the run's folder as it is now, which may have been moved; one that
    is gone or damaged is the best no more."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.best_model_checkpoint is None:
            return
        best = Path(args.output_dir) / Path(state.best_model_checkpoint).name
        if wrong := checkpoints.what_is_wrong(best):
            self._warn(f"the best checkpoint, {best.name}, is lost ({wrong}): it is looked for anew")
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None
        else:
            state.best_model_checkpoint = str(best)


class _ForgetTaskGradients(TrainerCallback):
    """The Trainer clears the gradients of the model; the weights of tasks lie beside it."""

    def __init__(self, raw_sigma: torch.nn.Parameter) -> None:
        self._raw_sigma = raw_sigma

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._raw_sigma.grad = None


class _WithTasks:
    """A collator that keeps the column of tasks."""

    def __init__(self, collator: Any) -> None:
        self._collator = collator

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self._collator(rows)
        if rows and TASK in rows[0]:
            batch[TASK] = torch.tensor([row[TASK] for row in rows])
        return batch


def steps_planned(recipe: Recipe, rows: int) -> int:
    """Optimiser steps of a recipe over ``rows`` rows (packed sequences where it packs)."""
    if recipe.max_steps:
        return recipe.max_steps
    batches = math.ceil(math.ceil(rows / recipe.per_device_train_batch_size) / recipe.num_processes)
    return max(
        1, math.ceil(math.ceil(batches / recipe.gradient_accumulation_steps) * recipe.num_train_epochs)
    )


def as_dataset(rows: list[TokenRow], tasks: list[str] | None = None) -> Dataset:
    """Encoded rows as a data set with the two columns that trl takes as they are, and the place of each row's
    task in ``tasks`` where there are some."""
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in ("input_ids", "labels")}
    if tasks:
        columns[TASK] = [tasks.index(str(row.get(TASK, objective.NO_TASK))) for row in rows]
    return Dataset.from_dict(columns)
