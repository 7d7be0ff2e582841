"""A Trainer whose steps survive running out of memory. Where a micro-batch does not fit, everything of the
step is given back (gradients, activations, the frames that hold them), the ladder takes its next rung, random
states go back to where the step began, and its micro-batches are done again, those before it too.
A batch that is cut in parts stays one batch for the Trainer: order of the data, losses, logs, checkpoints and
what a resume counts on are the same as without."""

from __future__ import annotations

import functools
import gc
import logging
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor
from trl import SFTTrainer

from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.training import micro_batches
from tui_lab.training.micro_batches import BatchPart, PartShare
from tui_lab.training.oom_ladder import Ladder

log = logging.getLogger(__name__)

#: trl's running count of tokens, the one of its figures that is no mean over batches.
_TOKENS = "num_tokens"


@dataclass(frozen=True)
class RandomStates:
    """Of everything that draws: torch on every device, numpy and random."""

    python: Any
    numpy: Any
    torch: Tensor
    cuda: list[Tensor]

    @staticmethod
    def now() -> RandomStates:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return RandomStates(random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        random.setstate(self.python)
        numpy.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@dataclass
class _Step:
    """One optimiser step: its micro-batches, what is done of them, and how things were before the first."""

    batches: list[Any]
    tokens: Any
    losses: list[Tensor] = field(default_factory=list)
    states: RandomStates | None = None
    figures: dict[str, int] = field(default_factory=dict)
    trained_tokens: int = 0
    began: float = 0.0
    restarted: bool = False


class RestartingTrainer(SFTTrainer):
    """See the module's docstring. ``share`` tells a loss how much the part in hand counts."""

    model: Any
    ladder: Ladder
    share: PartShare = micro_batches.WHOLE
    _step: _Step | None = None
    _in_hand: tuple[Mapping[str, Any], Mapping[str, Any]]  # the micro-batch, and the part of it
    _steps_timed = 0
    _between: RandomStates | None = None

    # ------------------------------------------------------------------ a step

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        batches, tokens = super().get_batch_samples(*args, **kwargs)
        self._step = _Step(batches, tokens)
        return batches, tokens

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        step = self._step
        if step is None or self.accelerator.num_processes > 1:  # the others would wait for gradients forever
            return super().training_step(model, inputs, num_items_in_batch)
        if not step.losses:
            self._mark(step)
        told = list(step.losses)  # the Trainer has added them up already
        while (loss := self._tried(model, step, inputs, len(told))) is None:
            self._begin_again(step)
        again = step.losses[: len(told)]
        step.losses.append(loss)
        if step.restarted:
            # with dropout the batches before have other losses now, and it is these whose gradients count
            for new, old in zip(again, told, strict=True):
                loss = loss + (new - old)
        return loss

    def _tried(self, model: Any, step: _Step, inputs: Any, done: int) -> Tensor | None:
        """The loss of the micro-batch in hand, after those ``done`` before it where the step began again;
        None when memory ran out."""
        try:
            for batch in step.batches[len(step.losses) : done]:
                step.losses.append(self._in_parts(model, batch, step.tokens))
            return self._in_parts(model, inputs, step.tokens)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            forget(error)
        return None

    def _in_parts(self, model: Any, batch: Mapping[str, Any], tokens: Any) -> Tensor:
        """Forward and backward of a micro-batch, part by part; its loss as if it had been done at once."""
        self._in_hand = (batch, batch)
        parts = micro_batches.split(batch, self.ladder.settings.parts)
        if len(parts) == 1:
            return super().training_step(model, dict(batch), tokens)
        accumulation = self.current_gradient_accumulation_steps
        if (
            tokens is None
        ):  # the Trainer takes the mean over batches: each part brings its trained tokens' share
            tokens = sum(part.trained_tokens for part in parts) / len(parts)
        lengths = {name: len(values) for name, values in self._metrics["train"].items()}
        figures: list[dict[str, float]] = []
        losses: list[Tensor] = []
        try:
            self.current_gradient_accumulation_steps = accumulation * len(parts)
            for part in parts:
                self.share, self._in_hand = part.share, (batch, part.inputs)
                losses.append(super().training_step(model, dict(part.inputs), tokens))
                figures.append(self._take_figures(lengths))
        finally:
            self.share = micro_batches.WHOLE
            self.current_gradient_accumulation_steps = accumulation
        for name, value in self.joined(parts, figures).items():
            self._metrics["train"][name].append(value)
        return torch.stack(losses).sum()

    def joined(self, parts: list[BatchPart], figures: list[dict[str, float]]) -> dict[str, float]:
        """What a batch shows in the logs, from what its parts showed: means over trained tokens."""
        found: dict[str, float] = {}
        for name in {name: None for each in figures for name in each}:
            pairs = [
                (self.weight_of(name, part), each[name])
                for part, each in zip(parts, figures, strict=True)
                if name in each
            ]
            total = sum(weight for weight, _ in pairs)
            found[name] = sum(weight * value for weight, value in pairs) / total if total else pairs[0][1]
        return found

    def weight_of(self, name: str, part: BatchPart) -> float:
        """How much a part counts in the mean of a figure of the logs."""
        return part.trained_tokens

    def _take_figures(self, lengths: Mapping[str, int]) -> dict[str, float]:
        """Takes what a part added to the logs' lists out of them."""
        taken: dict[str, float] = {}
        for name, values in self._metrics["train"].items():
            if name != _TOKENS and len(values) > lengths.get(name, 0):
                taken[name] = values.pop()
        return taken

    # ------------------------------------------------------------------ beginning again

    def _mark(self, step: _Step) -> None:
        """Keeps how things are before a step's first micro-batch."""
        step.states = RandomStates.now()
        step.figures = {name: len(values) for name, values in self._metrics["train"].items()}
        step.trained_tokens = self._total_train_tokens
        step.began = time.monotonic()

    def _begin_again(self, step: _Step) -> None:
        """Gives everything of the step back and takes the next rung. Raises OutOfMemory at the end."""
        lost_s = time.monotonic() - step.began
        step.losses = []
        step.restarted = True
        optimizer: Any = self.optimizer
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = None
        self.model.zero_grad(set_to_none=True)
        free()
        assert step.states is not None
        step.states.restore()
        figures = self._metrics["train"]
        for name in list(figures):
            if name in step.figures:
                del figures[name][step.figures[name] :]
            else:
                del figures[name]
        self._total_train_tokens = step.trained_tokens
        if _TOKENS in figures:
            figures[_TOKENS] = [step.trained_tokens]
        number = self.state.global_step + 1
        batch, part = self._in_hand
        if not self.ladder.climb(self.model, batch, part, number, lost_s):
            where = self.ladder.exhausted(self.model, part)
            raise self.ladder.give_up(number, where, self.model, self._saved())
        step.began = time.monotonic()

    def _saved(self) -> str:
        """Saves the state after the last whole step, from which a resume goes on; what is safe, in words."""
        done = self.state.global_step
        if not done:
            return "no step was done yet"
        if self._between is not None:  # this attempt has done a step since it began or was resumed
            self._between.restore()
            try:
                self.checkpoint_now()
            except Exception as error:  # the disk is full, or there is no memory for this either
                log.warning("the last step could not be saved: %s", error)
                return "the last checkpoint is safe"
        return f"the checkpoint of step {done} is safe"

    def checkpoint_now(self) -> None:
        """Saves a checkpoint of the last whole step."""
        raise NotImplementedError

    # ------------------------------------------------------------------ around a step

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        step, self._step = self._step, None
        if step is not None and step.losses:
            if self._steps_timed and not step.restarted:
                self.ladder.timed(self.state.global_step, time.monotonic() - step.began)
            self._steps_timed += 1
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._between = RandomStates.now()

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)
        self.ladder.apply(self.model)
        optimizer: Any = self.optimizer
        update = optimizer.step
        if not hasattr(update, "is_guarded"):

            @functools.wraps(update)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                return self._update(update, *args, **kwargs)

            guarded.is_guarded = True  # type: ignore[attr-defined]
            optimizer.step = guarded
        return prepared

    def _update(self, update: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The optimiser's step. Where it runs out of memory some weights may have moved and others not: there
        is no going on from that, and nothing of it is saved."""
        try:
            return update(*args, **kwargs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            forget(error)
        free()
        step = self.state.global_step + 1
        where = "in the optimiser's step, when its states and the gradients lie beside the weights"
        saved = "the last checkpoint is safe" if self.state.global_step else "no step was done yet"
        raise self.ladder.give_up(step, where, self.model, saved)

    # ------------------------------------------------------------------ held-out rows

    def looked_at(self, batches: Iterator[Any], look: Callable[[dict[str, Any]], Any]) -> Iterator[Any]:
        """What ``look`` says of each batch of held-out rows, in parts where memory does not hold it at once.
        A row that does not fit by itself is left out, with a warning."""
        left_out = 0
        for batch in batches:
            parts = self.ladder.settings.evaluation_parts
            waiting = [(part.inputs, parts) for part in micro_batches.split(batch, parts)]
            while waiting:
                inputs, level = waiting.pop(0)
                try:
                    found = look(inputs)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    forget(error)
                else:
                    yield found
                    continue
                free()
                smaller = micro_batches.split(inputs, 2)
                if len(smaller) > 1:
                    self.ladder.smaller_evaluation(2 * level, self.state.global_step, inputs)
                    waiting[:0] = [(part.inputs, 2 * level) for part in smaller]
                elif self.ladder.smaller_chunks(self.model, self.state.global_step, inputs):
                    waiting.insert(0, (inputs, level))
                else:
                    left_out += 1
        if left_out:
            self.ladder.warn_left_out(left_out, self.state.global_step)


def forget(error: BaseException) -> None:
    """Lets go of everything that an error holds: its frames hold the activations of the failed forward."""
    log.warning("%s", str(error).strip().split("\n")[0][:300])
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


def free() -> None:
    """Gives back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
