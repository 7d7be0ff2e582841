"""Callbacks that a run adds to the Trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_lab.runs import checkpoints


class AdaLoraSchedule(TrainerCallback):
    """Calls peft's rank allocation between the optimiser's step and the clearing of the gradients."""

    @override
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Allocates ranks for the step that follows."""
        kwargs["model"].base_model.update_and_allocate(state.global_step + 1)


class RelocateBestCheckpoint(TrainerCallback):
    """Finds the best checkpoint in the run's folder, which may have been moved since it was saved. One that
    is missing or damaged is forgotten, with a warning, so that the best is searched again."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Corrects the path in the restored state."""
        if state.best_model_checkpoint is None:
            return
        best = Path(str(args.output_dir)) / Path(state.best_model_checkpoint).name
        if error := checkpoints.validation_error(best):
            self._warn(f"the best checkpoint, {best.name}, is lost ({error}): the best is searched again")
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None
        else:
            state.best_model_checkpoint = str(best)


class ClearTaskGradients(TrainerCallback):
    """Clears the gradient of the learned task weights, which the Trainer does not: they are no parameters of
    the model."""

    def __init__(self, raw_sigma: torch.nn.Parameter) -> None:
        self._raw_sigma = raw_sigma

    @override
    def on_step_begin(self, *_: object, **__: object) -> None:
        """Clears it before each optimiser step."""
        self._raw_sigma.grad = None


class OnTrainBegin(TrainerCallback):
    """Calls a function with the step that training begins from, once the state of that step is loaded."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Passes the step on."""
        self._call(state.global_step)
