"""Captured steps kept for later requests. A graph repeats its kernels on the same addresses, so the tensors
that it reads and writes are kept with it: keys and values, the next tokens, the state of the decoders. A
request whose batch has the same structure copies its own state into them and replays from its first step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from tui_lab.decoding.graphs import CapturedStep
from tui_lab.decoding.kv_cache import FixedShape

#: Batches that are kept at most, and the share of the memory that is free without them.
MOST_BATCHES = 8
MEMORY_SHARE = 0.1


class BatchShape(NamedTuple):
    """What the kernels of a step depend on besides the contents of tensors. ``model``: its id; ``lanes``:
    what each runs on, and its decoder's ``capture_key``; ``capacity``: positions of the cache."""

    model: int
    lanes: tuple[tuple[str, Hashable], ...]
    capacity: int


class BucketStep(NamedTuple):
    """The step of one bucket, with what it leaves besides its result: float32 logits and hidden states; and
    the shapes of the tables in its result."""

    step: CapturedStep
    fixed: FixedShape
    logits: torch.Tensor
    hidden: torch.Tensor | None
    shapes: tuple[torch.Size, ...]


@dataclass
class CapturedBatch:
    """The captured steps of a batch by bucket, and the tensors that they use: ``slabs`` of the cache, and
    ``tensors``, those of the engine and of the decoders."""

    slabs: Sequence[torch.Tensor]
    tensors: Sequence[torch.Tensor]
    steps: dict[int, BucketStep] = field(default_factory=dict)

    @property
    def graph_bytes(self) -> int:
        """The memory of the graphs themselves, which torch counts as free."""
        return sum(each.step.size_bytes for each in self.steps.values())

    @property
    def size_bytes(self) -> int:
        """All memory that is kept."""
        return self.graph_bytes + sum(
            each.numel() * each.element_size() for each in (*self.slabs, *self.tensors)
        )

    def take_over(self, tensors: Sequence[torch.Tensor]) -> None:
        """Gives the kept tensors the values of ``tensors``, which then share their memory."""
        for mine, kept in zip(tensors, self.tensors, strict=True):
            kept.copy_(mine)
            mine.set_(kept)  # type: ignore[call-overload, unused-ignore]


class GraphCache:
    """The captured batches of one session, the latest last. A batch in use is not among them. Everything that
    changes weights or adapters has to :meth:`clear` it."""

    def __init__(self, free_bytes: Callable[[], int | None]) -> None:
        """``free_bytes``: the memory that is free now."""
        self._free_bytes = free_bytes
        self._kept: dict[BatchShape, CapturedBatch] = {}

    @property
    def count(self) -> int:
        """How many batches are kept."""
        return len(self._kept)

    @property
    def graph_bytes(self) -> int:
        """The memory of the graphs themselves, which torch counts as free."""
        return sum(batch.graph_bytes for batch in self._kept.values())

    @property
    def size_bytes(self) -> int:
        """All memory that is kept."""
        return sum(batch.size_bytes for batch in self._kept.values())

    def take(self, shape: BatchShape) -> CapturedBatch | None:
        """The batch of this shape, for one request."""
        return self._kept.pop(shape, None)

    def put(self, shape: BatchShape, batch: CapturedBatch) -> None:
        """Keeps the batch of a request that has ended; the oldest go where there are too many."""
        self._kept[shape] = batch
        free = self._free_bytes()
        most = None if free is None else MEMORY_SHARE * (free - self.graph_bytes + self.size_bytes)
        while self._kept and (self.count > MOST_BATCHES or (most is not None and self.size_bytes > most)):
            del self._kept[next(iter(self._kept))]

    def clear(self) -> None:
        """Frees all of them."""
        self._kept.clear()
