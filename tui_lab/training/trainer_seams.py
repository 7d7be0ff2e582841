"""Every private part of transformers and trl that training depends on, in one place.

:class:`SeamTrainer` overrides the private methods of trl's ``SFTTrainer`` and turns them into public hooks;
the other functions read or set private attributes. :data:`SEAMS` names the upstream line of each, for
transformers 5.23 and trl 1.16, with a digest of the upstream source: a test fails with a sentence
for each that a new release moved or changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import trl.kernels.chunked_divergence as divergence
import trl.kernels.chunked_logprob as logprob
import trl.trainer.utils as trl_utils
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PreTrainedConfig, TrainerState
from trl import SFTTrainer
from typing_extensions import override

from tui_lab.training.types import AnyOptimizer, Figure, Inputs, Model, TokenCount

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(frozen=True)
class Seam:
    """One private part: ``target`` as ``module:qualified name``, ``where`` as file and line of the release
    named above, ``digest`` of its source (SHA-256, first 12 digits), ``use``: what depends on it."""

    target: str
    where: str
    digest: str
    use: str


_TRAINER = "transformers.trainer:Trainer."
_SFT = "trl.trainer.sft_trainer:SFTTrainer."

SEAMS: tuple[Seam, ...] = (
    Seam(_TRAINER + "_prepare_for_training", "transformers/trainer.py:1715", "7196fc64ea53",
         "training_prepared: the out-of-memory ladder guards the optimiser"),
    Seam(_TRAINER + "_maybe_log_save_evaluate", "transformers/trainer.py:2230", "7d857f309968",
         "before_log, after_log: timing of steps, samples, probes, commands"),
    Seam(_SFT + "_save_checkpoint", "trl/trainer/sft_trainer.py:1709", "4ed3621b6867",
         "checkpoint_written: the manifest is written and old checkpoints are deleted"),
    Seam(_TRAINER + "_save_checkpoint", "transformers/trainer.py:3355", "4638fc7aeef9",
         "write_checkpoint: the arguments and the folder of a checkpoint"),
    Seam(_TRAINER + "_save", "transformers/trainer.py:4131", "d7432eef4d5f",
         "write_weights: no pickle of the arguments, no copy of the tokenizer"),
    Seam(_TRAINER + "_load_from_checkpoint", "transformers/trainer.py:3602", "1fa7425d1ea7",
         "read_weights: AdaLoRA's ranks, learned task weights"),
    Seam(_TRAINER + "_load_best_model", "transformers/trainer.py:3735", "27a2385b6ad1",
         "read_best_weights: AdaLoRA's ranks"),
    Seam(_TRAINER + "_load_callback_state", "transformers/trainer.py:4020", "5f5e2dede16b",
         "patience of early stopping comes from the recipe"),
    Seam(_TRAINER + "_load_optimizer_and_scheduler", "transformers/trainer.py:3886", "d8b86ea0410f",
         "rates and weight decay come from the recipe"),
    Seam(_SFT + "_set_signature_columns_if_needed", "trl/trainer/sft_trainer.py:1487", "9767b9ca1c65",
         "extra_columns: the column with each row's task; sets _signature_columns"),
    Seam(_TRAINER + "_move_model_to_device", "transformers/trainer.py:4750", "8d7d938e5595",
         "the memory probe's model lies on no device"),
    Seam(_TRAINER + "_prepare_inputs", "transformers/trainer.py:2379", "b28ea48b3290",
         "to_device: validation outside of the Trainer's loop"),
    Seam(_TRAINER + "get_train_dataloader", "transformers/trainer.py:916", "db950023cc90",
         "divide_steps: sets _train_batch_size, which the data loader is made with"),
    Seam(_TRAINER + "get_batch_samples", "transformers/trainer.py:2281", "c2e656129b2b",
         "a step that runs out of memory is repeated from its first batch"),
    Seam(_TRAINER + "training_step", "transformers/trainer.py:2043", "caa7e68f3335",
         "a batch is computed in parts; current_gradient_accumulation_steps scales the loss"),
    Seam(_SFT + "training_step", "trl/trainer/sft_trainer.py:1691", "2429b74eb4f0",
         "wraps the Trainer's own"),
    Seam(_SFT + "compute_loss", "trl/trainer/sft_trainer.py:1560", "fc5223add31c",
         "the loss of a batch, computed alike; adds to _metrics and _total_train_tokens"),
    Seam(_SFT + "__init__", "trl/trainer/sft_trainer.py:626", "76d729b676b4",
         "creates _metrics and _total_train_tokens"),
    Seam("transformers.training_args:TrainingArguments.n_gpu.fget",
         "transformers/training_args.py:1962", "a7dd9976b457",
         "_n_gpu: no DataParallel"),
    Seam(_TRAINER + "_inner_training_loop", "transformers/trainer.py:1583", "3b8b7359ad08",
         "the order of steps, logs and checkpoints"),
    Seam("transformers.configuration_utils:PreTrainedConfig._attn_implementation.fget",
         "transformers/configuration_utils.py:594", "7e84402e207b",
         "attention_name: packed rows without a mask"),
    Seam("transformers.configuration_utils:PreTrainedConfig._attn_implementation.fset",
         "transformers/configuration_utils.py:598", "2a5d009907f0",
         "set_attention_name: the same"),
    Seam("trl.trainer.utils:_CHUNKED_LOGPROB_CHUNK_SIZE", "trl/trainer/utils.py:1506", "0948626f2280",
         "set_loss_tile: vocabulary entries of a tile"),
    Seam("trl.kernels.chunked_logprob:TOKEN_CHUNK_SIZE", "trl/kernels/chunked_logprob.py:31", "9806dd174fc5",
         "set_loss_tile: tokens of a tile"),
    Seam("trl.kernels.chunked_divergence:TOKEN_CHUNK_SIZE",
         "trl/kernels/chunked_divergence.py:33", "9806dd174fc5",
         "set_loss_tile: tokens of a tile of the divergence"),
    Seam("trl.kernels.chunked_divergence:VOCAB_CHUNK_SIZE",
         "trl/kernels/chunked_divergence.py:34", "09f2f3f368cd",
         "set_loss_tile: vocabulary entries of a tile of the divergence"),
    Seam("trl.trainer.utils:add_fused_lm_head", "trl/trainer/utils.py:1548", "422d009f04b6",
         "trained_positions_only: asks _use_triton, in its own module, whether it scores those alone"),
    Seam("trl.kernels.chunked_logprob:_use_triton", "trl/kernels/chunked_logprob.py:48", "f0510984e05a",
         "disable_triton: the output layer and its divergence in torch alone; reads _TRITON_AVAILABLE"),
)  # fmt: skip

#: Tiles of trl's fused output layer: (tokens, vocabulary entries).
DEFAULT_LOSS_TILE = (logprob.TOKEN_CHUNK_SIZE, trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE)


def set_loss_tile(tokens: int, vocabulary: int) -> None:
    """Sets the tiles of trl's fused output layer and of its divergence, for the whole process."""
    logprob.TOKEN_CHUNK_SIZE = divergence.TOKEN_CHUNK_SIZE = tokens
    trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = divergence.VOCAB_CHUNK_SIZE = vocabulary


def disable_triton() -> None:
    """Lets trl compute its output layer and its divergence without Triton, for the whole process."""
    logprob._TRITON_AVAILABLE = False


def _always(device: torch.device) -> bool:
    del device
    return True


@contextmanager
def trained_positions_only() -> Iterator[None]:
    """Inside, trl's fused output layer computes the logits of trained positions alone on devices without
    Triton, too. trl takes every position there, for compilers that want equal shapes."""
    before = trl_utils._use_triton
    trl_utils._use_triton = _always
    try:
        yield
    finally:
        trl_utils._use_triton = before


def attention_name(config: PreTrainedConfig) -> str:
    """The attention implementation that a model of ``config`` uses."""
    return str(config._attn_implementation)


def set_attention_name(config: PreTrainedConfig, name: str) -> None:
    """Sets it: layers read it at every call. The model's own setter checks each module and takes longer."""
    config._attn_implementation = name


def use_one_gpu(args: TrainingArguments) -> None:
    """Keeps the Trainer from splitting batches over all visible GPUs (DataParallel)."""
    if args.n_gpu > 1:
        args._n_gpu = 1


class SeamTrainer(SFTTrainer):
    """trl's trainer with public hooks in place of private methods. A subclass overrides the hooks alone."""

    model: Model
    train_dataset: Any
    #: Columns of the data that reach :meth:`compute_loss` although the model does not take them.
    extra_columns: tuple[str, ...] = ()

    #: Whether models get the mask of padded rows. Causal attention does not need it where the padding is on
    #: the right; looking at it makes the host wait, and other kernels are used with it.
    row_mask: bool = True

    def without_row_mask(self, inputs: Inputs) -> Inputs:
        """A batch without the mask of its rows, where models do not get it."""
        if self.row_mask:
            return inputs
        return {name: value for name, value in inputs.items() if name != "attention_mask"}

    # ------------------------------------------------------------------ hooks

    def training_prepared(self) -> None:
        """Called once model, optimiser and scheduler are ready, before the first step."""

    def before_log(self) -> None:
        """Called after each optimiser step, before its loss is logged."""

    def after_log(self) -> None:
        """Called after each optimiser step, once it is logged, validated and saved where that was due."""

    def checkpoint_written(self) -> None:
        """Called once a checkpoint's files are written."""

    def write_weights(self, folder: Path, state_dict: Mapping[str, Tensor] | None) -> None:
        """Writes the weights of a checkpoint into ``folder``; ``state_dict``: gathered ones, if sharded."""
        raise NotImplementedError

    def read_weights(self, checkpoint: Path) -> None:
        """Loads the weights of a checkpoint."""
        super()._load_from_checkpoint(str(checkpoint))

    def read_best_weights(self) -> None:
        """Loads the weights of the best checkpoint at the end of a training."""
        super()._load_best_model()

    # ------------------------------------------------------------------ private state

    @property
    def train_metrics(self) -> dict[str, list[Figure]]:
        """Figures of the batches since the last log, by name: on the device until they are logged."""
        metrics: dict[str, list[Figure]] = self._metrics["train"]
        return metrics

    @property
    def total_train_tokens(self) -> int | Tensor:
        """Tokens trained on so far, on the device until they are logged; trl starts at 0 in every process."""
        tokens: int | Tensor = self._total_train_tokens
        return tokens

    @total_train_tokens.setter
    def total_train_tokens(self, tokens: int | Tensor) -> None:
        self._total_train_tokens: Any = tokens

    def to_device(self, inputs: Inputs) -> Inputs:
        """A batch on the device that the model is on."""
        prepared: Inputs = self._prepare_inputs(inputs)
        return prepared

    def divide_steps(self, rows: int, times: int, checkpointing: bool) -> None:
        """Sets the micro-batch, the accumulation and checkpointing; before training begins."""
        self.args.per_device_train_batch_size = self.args.per_device_eval_batch_size = rows
        self.args.gradient_accumulation_steps = times
        self.args.activation_checkpointing = checkpointing
        self._train_batch_size = rows

    def write_checkpoint(self) -> None:
        """Writes a checkpoint of the current step."""
        self._save_checkpoint(self.model, None)

    def restore_finished(self, checkpoint: Path) -> None:
        """Restores weights and state of a checkpoint whose training had ended, without training."""
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self._load_from_checkpoint(str(checkpoint))
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            self._load_best_model()

    # ------------------------------------------------------------------ overrides

    def compute_loss(
        self,
        model: Model,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: TokenCount = None,
    ) -> Any:
        """trl's loss and figures of a batch, none of which is read back from the device here: trl reads five
        numbers of each micro-batch, and a GPU waits for the host each time."""
        plain = self.model.training and not (return_outputs or self.aux_loss_enabled)
        if not plain or self.accelerator.num_processes > 1:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        inputs["use_cache"] = False
        outputs = model(**self.without_row_mask(inputs), fused_lm_head=True)
        valid = outputs.label_mask.sum()
        trained = valid if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = -outputs.log_probs.sum() / trained.clamp(min=1)
        metrics, counted = self.train_metrics, valid.clamp(min=1)
        metrics["entropy"].append(outputs.entropy.detach().sum() / counted)
        metrics["mean_token_accuracy"].append(outputs.is_top1.sum() / counted)
        mask = inputs.get("attention_mask")
        tokens = inputs["input_ids"].numel() if mask is None else mask.sum()
        self.total_train_tokens = self.total_train_tokens + tokens
        metrics["num_tokens"] = [self.total_train_tokens]
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Reads the figures since the last log from the device, all at once."""
        metrics = self.train_metrics
        self.total_train_tokens = int(self.total_train_tokens)
        if "num_tokens" in metrics:
            metrics["num_tokens"] = [self.total_train_tokens]
        tensors = [each for values in metrics.values() for each in values if isinstance(each, Tensor)]
        if tensors:
            read = iter(torch.stack([each.detach().float() for each in tensors]).tolist())
            for name, values in metrics.items():
                metrics[name] = [next(read) if isinstance(each, Tensor) else each for each in values]
        super().log(logs, start_time)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[no-untyped-call]
        columns: Any = self._signature_columns
        columns.extend(column for column in self.extra_columns if column not in columns)

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        if not any(parameter.is_meta for parameter in model.parameters()):  # the memory probe's has no data
            super()._move_model_to_device(model, device)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.training_prepared()
        return prepared

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.before_log()
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.after_log()

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.checkpoint_written()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.write_weights(folder, state_dict)

    @override
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self.read_weights(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        self.read_best_weights()

    def _load_callback_state(self) -> None:
        """Early stopping continues to count where the checkpoint stood; its patience is the recipe's, which
        may have changed since."""
        stoppers = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        patience = [callback.early_stopping_patience for callback in stoppers]
        super()._load_callback_state()
        stoppers = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        for callback, wanted in zip(stoppers, patience, strict=True):
            callback.early_stopping_patience = wanted

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The optimiser's states come from the checkpoint; rates and weight decay are the recipe's, which may
        have changed since."""
        optimizer: AnyOptimizer = getattr(
            self.optimizer, "optimizer", self.optimizer
        )  # inside of accelerate's
        scheduler: Any = self.lr_scheduler
        decays = [group["weight_decay"] for group in optimizer.param_groups]
        rates = list(getattr(scheduler, "base_lrs", []))
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or len(decays) != len(optimizer.param_groups):
            return
        for group, decay in zip(optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        if rates and rates != scheduler.base_lrs:
            scheduler.base_lrs = rates
            shares = [share(scheduler.last_epoch) for share in scheduler.lr_lambdas]
            for group, rate, share in zip(optimizer.param_groups, rates, shares, strict=True):
                group["initial_lr"], group["lr"] = rate, rate * share
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
