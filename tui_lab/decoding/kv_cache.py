"""The keys and values of all rows of a lockstep batch: preallocated, written in place, every row at the
same position. A cache as transformers' models expect one, whose rows can be fanned out from a prefill,
reordered (beams), overwritten at one position (contrastive candidates) and dropped (finished lanes).
Keys and values of all layers of one shape lie in one tensor, so that each of these is one operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from tui_lab.core.errors import LabError


class LaneLayer(CacheLayerMixin):
    """One layer's keys and values, (rows, heads, capacity, head_dim), of which ``length`` are filled.

    A sliding layer keeps all positions and shows the attention only the last ``window``: the same view
    that transformers' own sliding cache gives, and nothing has to be shifted."""

    is_croppable = False

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.length = 0
        self.capacity = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads, _, width = key_states.shape
        self.keys = key_states.new_empty((rows, heads, self.capacity, width))
        value_shape = (rows, value_states.shape[1], self.capacity, value_states.shape[3])
        self.values = value_states.new_empty(value_shape)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the new positions of all rows and returns what the attention may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        first, self.length = self.length, self.length + key_states.shape[2]
        assert self.length <= self.capacity and key_states.shape[0] == self.keys.shape[0]
        self.keys[:, :, first : self.length] = key_states
        self.values[:, :, first : self.length] = value_states
        begin = self._begin(first)
        return self.keys[:, :, begin : self.length], self.values[:, :, begin : self.length]

    def _begin(self, length: int) -> int:
        return 0 if self.window is None else max(length - self.window + 1, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        begin = self._begin(self.length)
        return self.length + query_length - begin, begin

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1 if self.window is None else self.window


class LaneCache(Cache):
    """The cache of a batch of lanes. Made empty for the prefill, then :meth:`fan_out` to the lanes' rows."""

    layers: list[LaneLayer]  # type: ignore[assignment]

    def __init__(self, config: Any, capacity: int) -> None:
        """``config``: the model's; ``capacity``: positions, of prompt and new tokens together."""
        layers: list[Any] = []
        for layer in DynamicCache(config=config).layers:
            if isinstance(layer, DynamicSlidingWindowLayer):
                layers.append(LaneLayer(layer.sliding_window))
            elif type(layer) is DynamicLayer:
                layers.append(LaneLayer())
            else:
                raise LabError(
                    f"models of type {config.model_type} keep more than keys and values between tokens, "
                    "which the playground cannot decode side by side; choose another model"
                )
        super().__init__(layers=layers)
        self.set_capacity(capacity)
        self._slabs: list[torch.Tensor] = []  # each (members, rows, heads, capacity, head_dim)
        self._members: list[list[tuple[LaneLayer, str]]] = []
        self.prompt_length = 0
        self._origin: list[int] = []  # row → row of the prefill it comes from
        self.rows = 0

    def set_capacity(self, capacity: int) -> None:
        self.capacity = capacity
        for layer in self.layers:
            layer.capacity = capacity

    @property
    def length(self) -> int:
        """Positions filled."""
        return self.layers[0].length

    def fan_out(self, origins: Sequence[int], capacity: int) -> None:
        """After the prefill: one row for each entry of ``origins``, a copy of that row of the prefill."""
        shapes: dict[tuple[int, ...], list[tuple[LaneLayer, str]]] = {}
        for layer in self.layers:
            for part in ("keys", "values"):
                tensor = getattr(layer, part)
                shapes.setdefault((tensor.shape[1], tensor.shape[3]), []).append((layer, part))
        self.prompt_length, self._origin, self.rows = self.length, list(origins), len(origins)
        self.set_capacity(capacity)
        for (heads, width), members in shapes.items():
            sample = getattr(*members[0])
            index = torch.tensor(origins, device=sample.device)
            slab = sample.new_zeros((len(members), self.rows, heads, capacity, width))
            for at, (layer, part) in enumerate(members):
                slab[at, :, :, : self.prompt_length] = getattr(layer, part)[index, :, : self.prompt_length]
                setattr(layer, part, slab[at])
            self._slabs.append(slab)
            self._members.append(members)

    def reorder(self, first: int, sources: Sequence[int]) -> None:
        """Rows ``first + i`` go on from what row ``first + sources[i]`` holds after the prompt."""
        moved = [i for i, source in enumerate(sources) if source != i]
        begin, end = self.prompt_length, self.length
        if not moved or begin == end:
            return
        for slab in self._slabs:
            to = torch.tensor([first + i for i in moved], device=slab.device)
            of = torch.tensor([first + sources[i] for i in moved], device=slab.device)
            slab[:, to, :, begin:end] = slab[:, of, :, begin:end]

    def spread(self, first: int, count: int, winner: int) -> None:
        """Rows ``first`` … go on with the last position of row ``first + winner``."""
        last = self.length - 1
        for slab in self._slabs:
            slab[:, first : first + count, :, last] = slab[:, first + winner, :, last].unsqueeze(1).clone()

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these (in rising order): the rest of the memory stays unused."""
        for to, of in enumerate(rows):
            if to == of:
                continue
            begin = self.prompt_length if self._origin[to] == self._origin[of] else 0
            for slab in self._slabs:
                slab[:, to, :, begin : self.length] = slab[:, of, :, begin : self.length]
            self._origin[to] = self._origin[of]
        self.rows = len(rows)
        self._origin = self._origin[: self.rows]
        for slab, members in zip(self._slabs, self._members, strict=True):
            for at, (layer, part) in enumerate(members):
                setattr(layer, part, slab[at, : self.rows])


def kv_bytes(config: Any, rows: int, positions: int, bytes_a_number: int) -> int:
    """Bytes that keys and values of so many rows and positions take."""
    config = config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * rows * positions * heads * width * bytes_a_number)
