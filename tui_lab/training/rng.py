"""Looking at a model without leaving a trace: random states and training mode come back as they were.

Evaluation, samples and scores run inside :func:`undisturbed`, so that switching them off leaves every
training loss the same to the last bit (dropout, data order and initialisation draw from these states).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


@contextmanager
def preserve_rng_state(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; restores the mode and the random states of torch (every device),
    numpy and python."""
    was_training = model.training
    python_state, numpy_state = random.getstate(), numpy.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            model.eval()
            yield
    finally:
        model.train(was_training)
        random.setstate(python_state)
        numpy.random.set_state(numpy_state)
