"""Repeats a step that ran out of memory.

Where a micro-batch does not fit, everything of the step is released (gradients, activations, the frames that
refer to them), the ladder takes its next rung, random states are reset to the start of the step, and its
micro-batches are computed again, including those that had fitted. A batch that is split into parts stays one
batch for the Trainer: data order, losses, logs, checkpoints and resuming are the same as without.
"""

from __future__ import annotations

import functools
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.core.sanitize import first_line
from tui_lab.training import micro_batches
from tui_lab.training.micro_batches import BatchPart, PartShare
from tui_lab.training.oom_ladder import Ladder, OutOfMemory
from tui_lab.training.rng import RandomStates
from tui_lab.training.trainer_seams import SeamTrainer
from tui_lab.training.types import AnyOptimizer, Batch, Figure, Inputs, Model, TokenCount

log = logging.getLogger(__name__)

T = TypeVar("T")
#: The Trainer's training_step: (model, inputs, trained tokens of the whole step) to a loss.
RunTrainingStep = Callable[[Model, Inputs, TokenCount], Tensor]

#: trl's running count of tokens, the only one of its figures that is no mean over batches.
_TOKENS = "num_tokens"


@dataclass
class _Step:
    """One optimiser step: its micro-batches, their losses so far, and the state before the first one.
    ``tokens``: trained tokens of all of them, as the Trainer counts them."""

    batches: list[Batch]
    tokens: TokenCount
    losses: list[Tensor] = field(default_factory=list)
    states: RandomStates | None = None
    metric_lengths: dict[str, int] = field(default_factory=dict)
    trained_tokens: int | Tensor = 0
    began: float = 0.0
    restarted: bool = False


class StepRestarter:
    """Computes the steps of a trainer, and repeats those that run out of memory.

    ``save_checkpoint`` writes a checkpoint of the last whole step; ``metric_weight(name, part)`` is the
    weight of a part in the mean of a logged figure. :attr:`share` is the share of the current part in its
    batch, which losses that are means over a batch have to be scaled by.
    """

    def __init__(
        self,
        trainer: SeamTrainer,
        ladder: Ladder,
        *,
        save_checkpoint: Callable[[], None],
        metric_weight: Callable[[str, BatchPart], float],
    ) -> None:
        self._trainer, self.ladder = trainer, ladder
        self._save_checkpoint, self._metric_weight = save_checkpoint, metric_weight
        self.share: PartShare = micro_batches.WHOLE
        self._step: _Step | None = None
        self._batch: Batch = {}
        self._part: Batch = {}
        self._steps_done = 0
        self._states_between_steps: RandomStates | None = None

    # ------------------------------------------------------------------ a step

    def begin_step(self, batches: list[Batch], tokens: TokenCount) -> None:
        """Takes the micro-batches of the next optimiser step."""
        self._step = _Step(batches, tokens)

    def training_step(
        self, compute: RunTrainingStep, model: Model, inputs: Inputs, tokens: TokenCount
    ) -> Tensor:
        """Forward and backward of a micro-batch; returns its loss, a scalar.

        Args:
            compute: the Trainer's own training step.
            inputs: columns of shape (B, T) or (B,).
            tokens: trained tokens of the whole optimiser step, None where the Trainer averages over batches.

        Raises:
            OutOfMemory: nothing makes the step fit.
        """
        step = self._step
        if step is None or self._trainer.accelerator.num_processes > 1:
            return compute(model, inputs, tokens)  # other processes would wait for gradients forever
        if not step.losses:
            self._remember_start(step)
        reported = list(step.losses)  # the Trainer has added them up already
        while (loss := self._try(compute, model, step, inputs, len(reported))) is None:
            self._restart(step)
        repeated = step.losses[: len(reported)]
        step.losses.append(loss)
        if step.restarted:
            # with dropout the earlier batches have other losses now, and these are the ones with gradients
            for new, old in zip(repeated, reported, strict=True):
                loss = loss + (new - old)
        return loss

    def _try(
        self, compute: RunTrainingStep, model: Model, step: _Step, inputs: Inputs, done: int
    ) -> Tensor | None:
        """The loss of a micro-batch, after those ``done`` before it where the step was restarted; None when
        memory ran out."""
        try:
            for batch in step.batches[len(step.losses) : done]:
                step.losses.append(self._in_parts(compute, model, batch, step.tokens))
            return self._in_parts(compute, model, inputs, step.tokens)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            release_traceback(error)
        return None

    def _in_parts(self, compute: RunTrainingStep, model: Model, batch: Batch, tokens: TokenCount) -> Tensor:
        """Forward and backward of a micro-batch, part by part; its loss is that of the whole batch."""
        trainer = self._trainer
        self._batch = self._part = batch
        parts = micro_batches.split(batch, self.ladder.state.parts)
        if len(parts) == 1:
            return compute(model, dict(batch), tokens)
        if tokens is None:  # the Trainer averages over batches: each part counts by its trained tokens
            tokens = torch.tensor(sum(part.trained_tokens for part in parts) / len(parts))
        accumulation = trainer.current_gradient_accumulation_steps
        lengths = {name: len(values) for name, values in trainer.train_metrics.items()}
        metrics: list[dict[str, Figure]] = []
        losses: list[Tensor] = []
        try:
            trainer.current_gradient_accumulation_steps = accumulation * len(parts)
            for part in parts:
                self.share, self._part = part.share, part.inputs
                losses.append(compute(model, dict(part.inputs), tokens))
                metrics.append(self._pop_metrics(lengths))
        finally:
            self.share = micro_batches.WHOLE
            trainer.current_gradient_accumulation_steps = accumulation
        for name, value in self.merge_metrics(parts, metrics).items():
            trainer.train_metrics[name].append(value)
        return torch.stack(losses).sum()

    def merge_metrics(self, parts: list[BatchPart], metrics: list[dict[str, Figure]]) -> dict[str, Figure]:
        """The logged figures of a batch from those of its parts: weighted means."""
        merged: dict[str, Figure] = {}
        for name in {name: None for each in metrics for name in each}:
            pairs = [
                (self._metric_weight(name, part), each[name])
                for part, each in zip(parts, metrics, strict=True)
                if name in each
            ]
            total = sum(weight for weight, _ in pairs)
            merged[name] = sum(weight * value for weight, value in pairs) / total if total else pairs[0][1]
        return merged

    def _pop_metrics(self, lengths: Mapping[str, int]) -> dict[str, Figure]:
        """Removes what a part added to the logged figures, and returns it."""
        return {
            name: values.pop()
            for name, values in self._trainer.train_metrics.items()
            if name != _TOKENS and len(values) > lengths.get(name, 0)
        }

    # ------------------------------------------------------------------ restarting

    def _remember_start(self, step: _Step) -> None:
        """Records the state before a step's first micro-batch."""
        step.states = RandomStates.now()
        step.metric_lengths = {name: len(values) for name, values in self._trainer.train_metrics.items()}
        step.trained_tokens = self._trainer.total_train_tokens
        step.began = time.monotonic()

    def _restart(self, step: _Step) -> None:
        """Releases everything of the step and takes the next rung. Raises OutOfMemory on the last one."""
        trainer = self._trainer
        lost_s = time.monotonic() - step.began
        step.losses = []
        step.restarted = True
        optimizer: AnyOptimizer = trainer.optimizer
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = None
        trainer.model.zero_grad(set_to_none=True)
        free_memory()
        assert step.states is not None
        step.states.restore()
        metrics = trainer.train_metrics
        for name in list(metrics):
            if name in step.metric_lengths:
                del metrics[name][step.metric_lengths[name] :]
            else:
                del metrics[name]
        trainer.total_train_tokens = step.trained_tokens
        if _TOKENS in metrics:
            metrics[_TOKENS] = [step.trained_tokens]
        number = trainer.state.global_step + 1
        if not self.ladder.climb(trainer.model, self._batch, self._part, number, lost_s):
            where = self.ladder.exhausted(trainer.model, self._part)
            raise self.ladder.give_up(number, where, self._save_last_step())
        step.began = time.monotonic()

    def _save_last_step(self) -> str:
        """Saves the state after the last whole step, where a resume continues; what is saved, in words."""
        done = self._trainer.state.global_step
        if not done:
            return "no step was done yet"
        if self._states_between_steps is not None:  # this attempt has done a step since it began or resumed
            self._states_between_steps.restore()
            try:
                self._save_checkpoint()
            except (OSError, RuntimeError, MemoryError) as error:  # the disk is full, or memory for this, too
                log.warning("the last step could not be saved: %s", error)
                return "the last checkpoint is safe"
        return f"the checkpoint of step {done} is safe"

    # ------------------------------------------------------------------ around a step

    def end_step(self) -> None:
        """Called after each optimiser step, before it is logged."""
        step, self._step = self._step, None
        if step is not None and step.losses:
            if self._steps_done and not step.restarted:
                self.ladder.timed(self._trainer.state.global_step, time.monotonic() - step.began)
            self._steps_done += 1

    def after_log(self) -> None:
        """Called after each optimiser step, once it is logged and saved."""
        self._states_between_steps = RandomStates.now()

    def guard_optimizer(self, optimizer: AnyOptimizer) -> None:
        """Replaces the optimiser's ``step`` by one that raises OutOfMemory where torch runs out of memory. A
        second call changes nothing."""
        update = optimizer.step
        if hasattr(update, "is_guarded"):
            return

        @functools.wraps(update)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return update(*args, **kwargs)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                release_traceback(error)
            raise self._failed_update()

        guarded.is_guarded = True  # type: ignore[attr-defined]
        optimizer.step = guarded

    def _failed_update(self) -> OutOfMemory:
        """The error for an optimiser step that ran out of memory. Some weights may have been changed and
        others not, so nothing of it is saved."""
        free_memory()
        done = self._trainer.state.global_step
        where = "in the optimiser's step, which needs its states and the gradients besides the weights"
        saved = "the last checkpoint is safe" if done else "no step was done yet"
        return self.ladder.give_up(done + 1, where, saved)

    # ------------------------------------------------------------------ held-out rows

    def map_batches(self, batches: Iterable[Batch], evaluate: Callable[[Inputs], T]) -> Iterator[T]:
        """``evaluate`` of each batch of held-out rows, in parts where memory does not hold it at once. A row
        that does not fit by itself is left out, with a warning."""
        skipped = 0
        ladder = self.ladder
        for batch in batches:
            count = ladder.state.evaluation_parts
            pending = [(part.inputs, count) for part in micro_batches.split(batch, count)]
            while pending:
                inputs, level = pending.pop(0)
                try:
                    result = evaluate(inputs)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    release_traceback(error)
                else:
                    yield result
                    continue
                free_memory()
                step = self._trainer.state.global_step
                smaller = micro_batches.split(inputs, 2)
                if len(smaller) > 1:
                    ladder.split_evaluation(2 * level, step, inputs)
                    pending[:0] = [(part.inputs, 2 * level) for part in smaller]
                elif ladder.shrink_evaluation_tiles(self._trainer.model, step, inputs):
                    pending.insert(0, (inputs, level))
                else:
                    skipped += 1
        if skipped:
            ladder.warn_skipped(skipped, self._trainer.state.global_step)


def release_traceback(error: BaseException) -> None:
    """Clears the frames of an error and of its causes: they hold the activations of the failed forward."""
    log.warning("%s", first_line(error))
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at.__traceback__ = None
        at = at.__cause__ or at.__context__
