"""Random states, saved and restored: evaluation, samples and scores run inside :func:`preserve_rng_state`, so
that switching them off changes no training loss, to the last bit (dropout, data order and initialisation draw
from these states)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Trainer


@dataclass(frozen=True)
class RandomStates:
    """Random states of python, numpy and torch (CPU and every CUDA device)."""

    python: tuple[object, ...]
    numpy: Any
    torch: Tensor
    cuda: list[Tensor]

    @staticmethod
    def now() -> RandomStates:
        """The current states."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return RandomStates(random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Sets the generators to these states."""
        random.setstate(self.python)
        numpy.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@contextmanager
def preserve_rng_state(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; restores the model's mode and the random states."""
    was_training, states = model.training, RandomStates.now()
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        model.train(was_training)
        states.restore()


@contextmanager
def evaluating(trainer: Trainer) -> Iterator[None]:
    """Evaluation in the training's precision that does not change the training. accelerate puts autocast into
    the forward of the whole model, while the model inside an adapter is called directly."""
    assert isinstance(trainer.model, torch.nn.Module)
    with preserve_rng_state(trainer.model), trainer.accelerator.autocast():
        yield
