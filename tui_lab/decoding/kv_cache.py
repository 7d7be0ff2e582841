"""The key-value cache of a lockstep batch: preallocated and written in place, every row at the same position.
It implements the cache interface of transformers. Rows can be expanded from a prefill, reordered (beams),
overwritten at the last position (contrastive candidates) and dropped (ended lanes). The keys and values of
all layers of one shape are one tensor, so that each of these is one operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from tui_lab.core.errors import LabError


@dataclass(frozen=True)
class FixedShape:
    """Forwards of one token a row whose tensors have the same shapes and addresses at every position, as a
    CUDA graph needs: attention reads the first ``bucket`` positions of the cache, those after ``position``
    masked."""

    position: torch.Tensor  # (1,) the position that the next forward writes
    bucket: int

    def mask(self, window: int | None = None) -> torch.Tensor:
        """Which positions the next token attends to, (1, 1, 1, bucket) bool: the last ``window`` ones."""
        places = torch.arange(self.bucket, device=self.position.device)
        seen = places <= self.position
        if window is not None:
            seen &= places > self.position - window
        return seen.view(1, 1, 1, -1)


class LaneLayer(CacheLayerMixin):  # type: ignore[no-untyped-call, unused-ignore]
    """Keys and values of one layer, (rows, heads, capacity, head_dim); the first ``length`` positions are
    filled.

    A sliding-window layer keeps all positions and returns only the last ``window`` to the attention: the
    view of transformers' own sliding cache, without shifting anything."""

    is_croppable = False

    def __init__(self, window: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.window = window
        self.is_sliding = window is not None
        self.length = 0
        self.capacity = 0
        self.fixed: FixedShape | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocates tensors for the first keys and values (rows, heads, n, head_dim), in their dtype."""
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads, _, width = key_states.shape
        self.keys = key_states.new_empty((rows, heads, self.capacity, width))
        value_shape = (rows, value_states.shape[1], self.capacity, value_states.shape[3])
        self.values = value_states.new_empty(value_shape)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes n new positions (rows, heads, n, head_dim); returns the keys and values to attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        if self.fixed is not None:
            self.keys.index_copy_(2, self.fixed.position, key_states)
            self.values.index_copy_(2, self.fixed.position, value_states)
            return self.keys[:, :, : self.fixed.bucket], self.values[:, :, : self.fixed.bucket]
        first, self.length = self.length, self.length + key_states.shape[2]
        assert self.length <= self.capacity and key_states.shape[0] == self.keys.shape[0]
        self.keys[:, :, first : self.length] = key_states
        self.values[:, :, first : self.length] = value_states
        begin = self._begin(first)
        return self.keys[:, :, begin : self.length], self.values[:, :, begin : self.length]

    def _begin(self, length: int) -> int:
        """The first position inside the window."""
        return 0 if self.window is None else max(length - self.window + 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Number of positions that a query attends to, and the first of them."""
        begin = self._begin(self.length)
        return self.length + query_length - begin, begin

    def get_seq_length(self) -> int:
        """Number of filled positions."""
        return self.length

    def get_max_length(self) -> int:
        """The window in positions; −1 for none."""
        return -1 if self.window is None else self.window


class _Slab(NamedTuple):
    """The keys and values of one shape: those of ``key_layers`` first, then those of ``value_layers``."""

    tensor: torch.Tensor  # (len(key_layers) + len(value_layers), rows, heads, capacity, head_dim)
    key_layers: list[LaneLayer]
    value_layers: list[LaneLayer]

    def assign(self, rows: int) -> None:
        """Makes the first ``rows`` rows of the slab the tensors of its layers."""
        for at, layer in enumerate(self.key_layers):
            layer.keys = self.tensor[at, :rows]
        for at, layer in enumerate(self.value_layers, len(self.key_layers)):
            layer.values = self.tensor[at, :rows]


class LaneCache(Cache):
    """The cache of a batch of lanes. It is created for the prefill and then expanded to the lanes' rows."""

    layers: list[LaneLayer]  # type: ignore[assignment]

    def __init__(self, config: PretrainedConfig, capacity: int) -> None:
        """``config``: of the model; ``capacity``: positions of the prefill.

        Raises LabError for a model with other state than keys and values."""
        layers: list[LaneLayer] = []
        for layer in DynamicCache(config=config).layers:
            if isinstance(layer, DynamicSlidingWindowLayer):
                layers.append(LaneLayer(layer.sliding_window))
            elif type(layer) is DynamicLayer:
                layers.append(LaneLayer())
            else:
                raise LabError(
                    f"models of type {config.model_type} keep more than keys and values between tokens, "
                    "which the playground cannot decode in one batch; choose another model"
                )
        super().__init__(layers=list(layers))
        self._set_capacity(capacity)
        self._slabs: list[_Slab] = []
        self._prompt_rows: list[int] = []  # of each row, the row of the prefill that it comes from
        self.prompt_length = 0
        self.fixed: FixedShape | None = None

    def _set_capacity(self, capacity: int) -> None:
        for layer in self.layers:
            layer.capacity = capacity

    @property
    def length(self) -> int:
        """Number of filled positions."""
        return self.layers[0].length

    @property
    def capacity(self) -> int:
        """Number of positions that there is space for."""
        return self.layers[0].capacity

    def bytes_per_position(self) -> int:
        """Bytes of the keys and values of one position of all rows."""
        rows = len(self._prompt_rows)
        return sum(
            len(slab.tensor) * rows * slab.tensor[0, 0, :, 0].numel() * slab.tensor.element_size()
            for slab in self._slabs
        )

    @property
    def slabs(self) -> list[torch.Tensor]:
        """The tensors of all layers."""
        return [slab.tensor for slab in self._slabs]

    def expand(
        self, prompt_rows: Sequence[int], capacity: int, slabs: Sequence[torch.Tensor] | None = None
    ) -> None:
        """Replaces the rows of the prefill: row i becomes a copy of row ``prompt_rows[i]``, with space for
        ``capacity`` positions. ``slabs``: those of an earlier cache of the same size, to be used again."""
        self.prompt_length, self._prompt_rows = self.length, list(prompt_rows)
        self._set_capacity(capacity)
        shapes: dict[tuple[int, int], tuple[list[LaneLayer], list[LaneLayer]]] = {}
        for layer in self.layers:
            assert layer.keys is not None and layer.values is not None
            for at, tensor in enumerate((layer.keys, layer.values)):
                shapes.setdefault((tensor.shape[1], tensor.shape[3]), ([], []))[at].append(layer)
        for number, ((heads, width), (key_layers, value_layers)) in enumerate(shapes.items()):
            tensors = [layer.keys for layer in key_layers] + [layer.values for layer in value_layers]
            sources = [tensor for tensor in tensors if tensor is not None]
            index = torch.tensor(self._prompt_rows, device=sources[0].device)
            if slabs is None:
                slab = sources[0].new_zeros((len(sources), len(index), heads, capacity, width))
            else:
                slab = slabs[number]
                slab[:, :, :, self.prompt_length :] = 0  # masked values count as 0 · value
            for at, tensor in enumerate(sources):
                slab[at, :, :, : self.prompt_length] = tensor[index, :, : self.prompt_length]
            self._slabs.append(_Slab(slab, key_layers, value_layers))
            self._slabs[-1].assign(len(index))

    def fix_shapes(self, bucket: int | None, again: FixedShape | None = None) -> None:
        """From the next forward on, shapes are fixed with this bucket; None: they grow again. ``again``:
        those of an earlier cache, to be used again."""
        if again is not None:
            again.position.fill_(self.length)
        elif bucket is not None:
            device = self._slabs[0].tensor.device
            again = FixedShape(torch.full((1,), self.length, dtype=torch.long, device=device), bucket)
        self.fixed = again
        for layer in self.layers:
            layer.fixed = self.fixed

    def advance(self) -> None:
        """Counts the position that a forward with fixed shapes has written; ``fixed.position`` is advanced on
        the device."""
        for layer in self.layers:
            layer.length += 1

    def reorder(self, first: int, sources: Sequence[int]) -> None:
        """Row ``first + i`` takes the positions after the prompt from row ``first + sources[i]``."""
        moved = [i for i, source in enumerate(sources) if source != i]
        begin, end = self.prompt_length, self.length
        if not moved or begin == end:
            return
        for slab in self._slabs:
            tensor = slab.tensor
            to = torch.tensor([first + i for i in moved], device=tensor.device)
            of = torch.tensor([first + sources[i] for i in moved], device=tensor.device)
            tensor[:, to, :, begin:end] = tensor[:, of, :, begin:end]

    def broadcast_last(self, first: int, count: int, winner: torch.Tensor) -> None:
        """Copies the last position of row ``first + winner``, winner (1,), to the ``count`` rows from
        ``first`` on."""
        for slab in self._slabs:
            rows = slab.tensor[:, first : first + count]
            if self.fixed is not None:
                last = rows.index_select(3, self.fixed.position)
                rows.index_copy_(3, self.fixed.position, last.index_select(1, winner).expand_as(last))
            else:
                last = rows[:, :, :, self.length - 1]
                last.copy_(last.index_select(1, winner).expand_as(last))

    def select_rows(self, rows: Sequence[int]) -> None:
        """Keeps only these rows, given in rising order. The memory of the others stays allocated."""
        for to, of in enumerate(rows):
            if to == of:
                continue
            # the prompt needs no copy if it is the same
            begin = self.prompt_length if self._prompt_rows[to] == self._prompt_rows[of] else 0
            for slab in self._slabs:
                slab.tensor[:, to, :, begin : self.length] = slab.tensor[:, of, :, begin : self.length]
            self._prompt_rows[to] = self._prompt_rows[of]
        self._prompt_rows = self._prompt_rows[: len(rows)]
        for slab in self._slabs:
            slab.assign(len(rows))


def kv_bytes(config: PretrainedConfig, rows: int, positions: int, bytes_per_number: int) -> int:
    """Bytes of the keys and values of ``rows`` rows with ``positions`` positions each."""
    config = config.get_text_config(decoder=True)
    heads, width = kv_shape(config)
    return 2 * int(config.num_hidden_layers) * rows * positions * heads * width * bytes_per_number


def kv_shape(config: PretrainedConfig) -> tuple[int, int]:
    """Number of key-value heads and size of each, of a text configuration."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(heads), int(width)
