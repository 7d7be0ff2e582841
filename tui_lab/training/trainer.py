"""trl's SFTTrainer with what a run adds to it.

- Validation is a token-weighted mean over the rows, so it does not depend on how they are batched.
- Evaluation and samples leave all random states as they were (:mod:`tui_lab.training.rng`).
- AdaLoRA's regulariser and rank schedule, which neither trl nor transformers call.
- Other losses and penalties (:mod:`.objective`), rates by layer (:mod:`.layers`).
- Checkpoints without ``training_args.bin`` (a pickle) and without copies of the tokenizer.
- Steps that run out of memory are repeated in smaller parts (:mod:`.oom_restart`, :mod:`.oom_ladder`).
- A hook after each step, once its loss is logged, where commands are processed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback
from transformers.trainer_utils import rotate_checkpoints

from tui_lab.runs import checkpoints
from tui_lab.training import adalora_state, layers, objective, packed_attention, preferences
from tui_lab.training.adapters import inputs_uncast, layers_under_autocast, orthogonality
from tui_lab.training.callbacks import AdaLoraSchedule
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.micro_batches import MISMATCHED, BatchPart
from tui_lab.training.objective import Objective
from tui_lab.training.oom_ladder import Ladder
from tui_lab.training.oom_restart import StepRestarter
from tui_lab.training.progress import AttemptProgress
from tui_lab.training.recorder import PART
from tui_lab.training.rng import preserve_rng_state
from tui_lab.training.start_weights import FrozenRanks
from tui_lab.training.trainer_config import TASK_COLUMN
from tui_lab.training.trainer_seams import SeamTrainer, trained_positions_only
from tui_lab.training.types import Inputs, Model, TokenCount


class LabTrainer(SeamTrainer):
    """The trainer of a run. ``after_step`` is called with the trainer after every optimiser step; further
    arguments are those of SFTTrainer."""

    extra_columns = (TASK_COLUMN, *preferences.ROW_COLUMNS)

    def __init__(
        self,
        *args: Any,
        adalora: bool,
        after_step: Callable[[LabTrainer], None],
        ladder: Ladder,
        group: ProcessGroup | None = None,
        without_mask: bool = False,
        row_mask: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.group = group or ProcessGroup()
        self._without_mask, self.row_mask = without_mask, row_mask
        self._uncast = layers_under_autocast(self.model) if self.args.bf16 or self.args.fp16 else []
        self.restarter = StepRestarter(
            self, ladder, save_checkpoint=self.checkpoint_now, metric_weight=self.metric_weight
        )
        #: Number of checkpoints kept besides the best; None keeps all. The Trainer's own limit is not set: it
        #: would delete the previous one before the next is complete, and with a limit of one the last.
        self.checkpoints_kept: int | None = None
        #: The number of the data set of each held-out row, and the last validation loss of each set.
        self.validation_sources: list[int] = []
        self.source_losses: dict[int, float] = {}
        #: Held-out answers of a preference loss, and the last figures on them by name.
        self.held_out_answers: Dataset | None = None
        self.held_out_figures: dict[str, float] = {}
        self.validation_accuracy: float | None = None  # of the last validation, see validation_loss
        self._after_step = after_step
        self._adalora = adalora
        self.objective: Objective | None = None
        self.progress: AttemptProgress | None = None
        #: Factor of the learning rate by depth, where depths differ (:func:`.layers.depth_of`).
        self.rate_factors: dict[int, float] = {}
        #: Ranks of the adapter that are an earlier run's and stay as they are.
        self.frozen_ranks: FrozenRanks | None = None
        self.remove_callback(PrinterCallback)
        if adalora:
            self.add_callback(AdaLoraSchedule())

    @property
    def frozen_weights(self) -> int:
        """Weights of the adapter that are not trained."""
        return self.frozen_ranks.parameters if self.frozen_ranks is not None else 0

    @property
    def ladder(self) -> Ladder:
        """The out-of-memory ladder of this training."""
        return self.restarter.ladder

    # ------------------------------------------------------------------ loss

    def compute_loss(
        self,
        model: Model,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: TokenCount = None,
    ) -> Any:
        """The loss of a batch, a scalar; with ``return_outputs`` a pair of it and the model's output."""
        tasks = inputs.pop(TASK_COLUMN, None)
        preference = {name: inputs.pop(name) for name in preferences.BATCH_COLUMNS if name in inputs}
        tokens = num_items_in_batch
        if tokens is not None and self.group.size > 1:
            tokens = (
                torch.as_tensor(tokens) / self.group.size
            )  # counted over all processes, whose gradients are averaged
        # not set before the first training step
        accumulation = max(1, getattr(self, "current_gradient_accumulation_steps", 1))
        loss: Any
        if self.objective is not None and model.training:
            compute = super().compute_loss
            loss = self.objective.loss(
                lambda: compute(model, inputs, num_items_in_batch=num_items_in_batch),
                inputs,
                tasks,
                tokens=tokens,
                accumulation=accumulation,
                share=self.restarter.share,
                preference=preference,
            )
            for name, value in self.objective.parts.items():
                self.train_metrics[PART + name].append(value)
        else:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._adalora and model.training:
            config = self.model.peft_config["default"]
            # the Trainer leaves the accumulation to the loss: each micro-batch adds its share
            term = orthogonality(self.model).to(self.args.device) * (config.orth_reg_weight / accumulation)
            loss = (loss[0] + term, loss[1]) if return_outputs else loss + term
        return loss

    def metric_weight(self, name: str, part: BatchPart) -> float:
        """The weight of a part of a batch in the mean of a logged figure."""
        match name.removeprefix(PART).split(" ", 1):
            case ["kl_to_base"]:
                return part.share.tokens
            case [name] if name in preferences.PARTS:
                return part.share.rows
            case ["l2_to_start" | "ewc"]:
                return 1.0
            case ["task", task] if self.objective is not None:
                return part.share.tasks.get(self.objective.tasks.index(task), 0.0)
        return part.trained_tokens

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Inputs], TokenCount]:
        """The micro-batches of the next optimiser step and their number of trained tokens."""
        batches, tokens = super().get_batch_samples(*args, **kwargs)
        self.restarter.begin_step(batches, tokens)
        return batches, tokens

    def training_step(self, model: Model, inputs: Inputs, num_items_in_batch: TokenCount = None) -> Tensor:
        """Forward and backward of a micro-batch, in parts where memory runs out; its loss, a scalar. Raises
        OutOfMemory."""
        with self._step_settings(inputs):
            return self.restarter.training_step(super().training_step, model, inputs, num_items_in_batch)

    @contextmanager
    def _step_settings(self, inputs: Inputs) -> Iterator[None]:
        """Attention without a mask, where it was chosen, no casts under autocast, and on a processor only the
        logits that are trained (tensors without contents do not say which)."""
        name = ""
        if packed_attention.is_packed(inputs):
            name = packed_attention.DOCUMENTS if self._without_mask else ""
        elif not self.row_mask:
            name = packed_attention.ROWS
        chosen = self.args.device.type == "cpu" and type(inputs.get("labels")) is Tensor
        with (
            packed_attention.attention_without_mask(self.model, name),
            inputs_uncast(self._uncast),
            trained_positions_only() if chosen else nullcontext(),
        ):
            yield

    def create_optimizer(self, model: Model = None) -> torch.optim.Optimizer:
        """The optimiser, with parameter groups by depth and one for the weights of tasks, where needed."""
        optimizer = super().create_optimizer(model)
        if self.rate_factors:
            layers.split_groups(optimizer, self.model, self.rate_factors)
        if self.objective is not None and self.objective.raw_sigma is not None:
            group = {"params": [self.objective.raw_sigma], "lr": objective.SIGMA_RATE, "weight_decay": 0.0}
            optimizer.add_param_group(group)
        if self.frozen_ranks is not None:
            optimizer.register_step_post_hook(self.frozen_ranks.restore)
        return optimizer

    # ------------------------------------------------------------------ validation

    def validation_loss(self) -> float:
        """Mean negative log-likelihood of a trained token over the validation rows, in nats. The share of
        these tokens that were the likeliest is then in ``validation_accuracy``."""
        each: list[tuple[float, int]] = []  # of each row, where there are several sources
        by_source = len(set(self.validation_sources)) > 1

        def evaluate(inputs: Inputs) -> tuple[float, int, int]:
            with self._step_settings(inputs):
                read = self.without_row_mask(self.to_device(inputs))
                outputs = self.model(**read, use_cache=False, fused_lm_head=True)
            if by_source:
                sums, counts = outputs.log_probs.double().sum(-1), outputs.label_mask.sum(-1)
                each.extend(zip((-sums).tolist(), counts.tolist(), strict=True))
            found = (outputs.log_probs, outputs.label_mask, outputs.is_top1)
            loss, counted, top = torch.stack([each.double().sum() for each in found]).tolist()
            return -loss, int(counted), int(top)

        total, tokens, likeliest = 0.0, 0, 0
        with preserve_rng_state(self.model), self.compute_loss_context_manager():
            for loss, counted, top in self.restarter.map_batches(
                self._reported(self._validation_batches()), evaluate
            ):
                total, tokens, likeliest = total + loss, tokens + counted, likeliest + top
        mine = (total, tokens, likeliest)
        totals = [mine] if self.group.is_sharded else self.group.all_gather(mine)
        total, tokens = sum(part[0] for part in totals), sum(part[1] for part in totals)
        self.validation_accuracy = sum(part[2] for part in totals) / tokens if tokens else None
        self.source_losses = self._by_source(each) if by_source else {}
        if self.held_out_answers is not None:
            self.held_out_figures = self._figures_on(self.held_out_answers)
        return total / tokens if tokens else math.nan

    def _figures_on(self, answers: Dataset) -> dict[str, float]:
        """The figures of the preference loss on held-out answers; every process measures all of them."""
        objective = self.objective
        assert objective is not None

        def evaluate(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None]:
            more = {name: inputs.pop(name) for name in preferences.BATCH_COLUMNS if name in inputs}
            more.pop(MISMATCHED, None)
            inputs, more = self.to_device(inputs), self.to_device(more)
            with self._step_settings(inputs):
                outputs = self.model(**self.without_row_mask(inputs), use_cache=False, fused_lm_head=True)
            found = objective.preference(outputs, inputs, more)
            return found.rewards.cpu(), found.sums.cpu(), more.get(preferences.VERDICT)

        batches = DataLoader(
            cast("Any", answers),
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
        )
        with preserve_rng_state(self.model), self.compute_loss_context_manager():
            found = list(self.restarter.map_batches(batches, evaluate))
        if not found:
            return {}
        rewards, sums = torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])
        verdicts = [each[2].bool().cpu() for each in found if each[2] is not None]
        figures = preferences.figures(rewards, sums, torch.cat(verdicts) if verdicts else None)
        return {name: float(value) for name, value in figures.items()}

    def _by_source(self, each: list[tuple[float, int]]) -> dict[int, float]:
        """The validation loss of each data set, from loss and tokens of this process's rows in order; empty
        where a row was left out."""
        step = 1 if self.group.is_sharded else self.group.size
        mine = self.validation_sources[0 if self.group.is_sharded else self.group.rank :: step]
        sums: dict[int, tuple[float, int]] = {}
        if len(mine) == len(each):
            for source, (loss, tokens) in zip(mine, each, strict=True):
                before = sums.get(source, (0.0, 0))
                sums[source] = before[0] + loss, before[1] + tokens
        parts = [sums] if self.group.is_sharded else self.group.all_gather(sums)
        if not all(parts):
            return {}
        found = {}
        for source in sorted(set().union(*parts)):
            pairs = [part[source] for part in parts if source in part]
            tokens = sum(pair[1] for pair in pairs)
            found[source] = sum(pair[0] for pair in pairs) / tokens if tokens else math.nan
        return found

    def _reported(self, batches: DataLoader[Inputs]) -> Iterator[Inputs]:
        """The batches; after each the rows so far are reported."""
        report = self.progress.of("evaluating", "rows") if self.progress is not None else None
        rows: Any = batches.dataset
        for number, batch in enumerate(batches, start=1):
            yield batch
            if report is not None:
                report(round(len(rows) * number / len(batches)), len(rows))

    def _validation_batches(self) -> DataLoader[Inputs]:
        """Batches of held-out rows. Several processes divide the rows, each row once (accelerate would pad
        the last batches with repeated rows); with a sharded model each process evaluates every row, because
        each forward needs all processes."""
        if self.group.size == 1:
            loader: DataLoader[Inputs] = self.get_eval_dataloader()
            return loader
        rows: Any = self.eval_dataset
        if not self.group.is_sharded:
            rows = rows.select(range(self.group.rank, len(rows), self.group.size))
        return DataLoader(
            rows, batch_size=self.args.per_device_eval_batch_size, collate_fn=self.data_collator
        )

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """The validation loss, passed to the Trainer's callbacks (best checkpoint, early stopping)."""
        metrics = {"eval_loss": self.validation_loss()}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # ------------------------------------------------------------------ steps

    def training_prepared(self) -> None:
        self.ladder.apply(self.model)
        self.restarter.guard_optimizer(self.optimizer)

    def before_log(self) -> None:
        self.restarter.end_step()

    def after_log(self) -> None:
        self.restarter.after_log()
        self._after_step(self)

    # ------------------------------------------------------------------ checkpoints

    @property
    def _checkpoint_folder(self) -> Path:
        return Path(str(self.args.output_dir)) / f"{checkpoints.PREFIX}{self.state.global_step}"

    def checkpoint_now(self) -> None:
        """Saves a checkpoint of the current step, unless it is saved already."""
        if not self.group.broadcast((self._checkpoint_folder / checkpoints.MANIFEST).exists()):
            self.write_checkpoint()
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def checkpoint_written(self) -> None:
        """Writes the manifest; older checkpoints are deleted only once this one is complete."""
        self.group.all_gather(None)  # every process has written its part
        if self.group.is_main:
            checkpoints.seal(self._checkpoint_folder)
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(self.args.output_dir), self.checkpoints_kept, best)
        self.group.all_gather(None)

    def create_model_card(self, *_: object, **__: object) -> None:
        """Writes nothing: a checkpoint needs no model card."""

    def write_weights(self, folder: Path, state_dict: Mapping[str, Tensor] | None) -> None:
        save_weights(self.model, folder, state_dict)
        if self._adalora:
            adalora_state.save(self.model, folder)
        if self.objective is not None:
            self.objective.save(folder)

    def read_weights(self, checkpoint: Path) -> None:
        if self._adalora:
            adalora_state.load(self.model, checkpoint)
        else:
            super().read_weights(checkpoint)
        if self.objective is not None:
            self.objective.load(checkpoint)

    def read_best_weights(self) -> None:
        if self._adalora:
            adalora_state.load(self.model, Path(str(self.state.best_model_checkpoint)))
        else:
            super().read_best_weights()


def save_weights(model: Model, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """Saves an adapter as peft does, or a full model, in safetensors. ``state_dict``: gathered weights of a
    sharded model, by name (of the shape of each). Raises OSError."""
    extra: dict[str, Any] = {}
    if hasattr(model, "peft_config"):
        extra["save_embedding_layers"] = False  # they are frozen; "auto" would ask the hub for their size
    model.save_pretrained(folder, state_dict=state_dict, safe_serialization=True, **extra)
