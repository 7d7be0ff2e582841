"""A model with everything that runs beside it: adapters that share its batch, adapters with virtual tokens
and models of their own that take a second pass. Groups the lanes of a request into as few batches as
possible, checks that they fit, and decodes them, a step of each batch in turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.adapters import Adapter, AdapterSplit, load_adapter
from tui_lab.decoding.detokenize import Decode, decoder_of
from tui_lab.decoding.engine import Lockstep, decode_all, remaining_context, validate_request
from tui_lab.decoding.kv_cache import kv_bytes
from tui_lab.decoding.records import DecodingRecord, DecodingRequest, LaneResult
from tui_lab.hardware.memory_budget import free_bytes

BASE = "base"
#: Share of the free memory that keys and values may take: the forward needs some itself.
_KV_SHARE = 0.8


@dataclass
class DecodingSession:
    """A base model and what is compared with it. Lanes name what they run on: ``base`` or empty, the name
    of an adapter, or the name of another model."""

    model: Any
    tokenizer: Any
    adapters: dict[str, Adapter] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)  # whole models, by name

    def __post_init__(self) -> None:
        self.model.eval()
        self.decode_text: Decode = decoder_of(self.tokenizer)

    def add_adapter(self, name: str, folder: Path) -> Adapter:
        """Reads an adapter folder. Raises adapters.NeedsOwnModel when a second model must be loaded for it
        (see ``adapters.load_own`` and :meth:`add_model`), LabError when it does not fit."""
        adapter = load_adapter(self.model, folder, name)
        self._free(name)
        self.adapters[name] = adapter
        return adapter

    def add_model(self, name: str, model: Any) -> None:
        """A whole model beside the base: fully tuned weights, or a base changed for good by its adapter."""
        ours, theirs = (m.config.get_text_config(decoder=True).vocab_size for m in (self.model, model))
        if ours != theirs:
            raise LabError(
                f"{sanitize(name)} has a vocabulary of {theirs} and the base one of {ours}: "
                "they do not share a tokenizer, so their answers cannot stand side by side"
            )
        self._free(name)
        self.others[name] = model.eval()

    def remove(self, name: str) -> None:
        """Forgets an adapter or a model; the base stays loaded."""
        if name not in self.names[1:]:
            raise LabError(f"there is no adapter {sanitize(name)!r}; there are {self._listed()}")
        self.adapters.pop(name, None)
        self.others.pop(name, None)

    @property
    def names(self) -> tuple[str, ...]:
        """What a lane can run on."""
        return (BASE, *self.adapters, *self.others)

    def _free(self, name: str) -> None:
        if name in self.names:
            raise LabError(f"the name {sanitize(name)!r} is taken; choose another for the adapter")

    def _listed(self) -> str:
        return ", ".join(sanitize(name) for name in self.names)

    def validate_request(self, request: DecodingRequest) -> None:
        """Raises LabError, with all mistakes at once, for a request that cannot run here."""
        found = []
        for number, lane in enumerate(request.lanes, 1):
            if (lane.on or BASE) not in self.names:
                found.append(
                    f"lane {number} runs on {sanitize(lane.on)!r}, which is not loaded; "
                    f"there are {self._listed()}"
                )
        if found:
            raise LabError("; ".join(found))
        for name in dict.fromkeys(lane.on or BASE for lane in request.lanes):
            adapter = self.adapters.get(name)
            validate_request(request, self._model(name).config, adapter.virtual if adapter else None)
        if not request.lanes:
            validate_request(request, self.model.config)
        needed, free = self.kv_bytes(request), free_bytes(self._device.type)
        if free is not None and needed > _KV_SHARE * free:
            rows = sum(lane.strategy.rows for lane in request.lanes)
            raise LabError(
                f"{rows} rows of {len(request.prompt_ids) + request.max_new_tokens} tokens need "
                f"{needed / 1e9:.1f} GB for keys and values and {free / 1e9:.1f} GB are free: "
                "take fewer lanes or beams, fewer new tokens, or a shorter prompt"
            )

    def kv_bytes(self, request: DecodingRequest) -> int:
        """Bytes that the keys and values of a request take."""
        total = 0
        for lane in request.lanes:
            model = self._model(lane.on or BASE)
            room = remaining_context(model.config, len(request.prompt_ids))
            new = min(request.max_new_tokens, math.inf if room is None else max(room, 0))
            size = model.get_input_embeddings().weight.element_size()
            positions = len(request.prompt_ids) + int(new)
            total += kv_bytes(model.config, lane.strategy.rows, positions, size)
        return total

    def _model(self, name: str) -> Any:
        return self.others.get(name, self.model)

    @property
    def _device(self) -> torch.device:
        return torch.device(self.model.get_input_embeddings().weight.device)

    def decode(
        self,
        request: DecodingRequest,
        tell: Callable[[DecodingRecord], None] = lambda record: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[LaneResult]:
        """Decodes all lanes; records come to ``tell``, and ``cancelled`` is asked before every step."""
        self.validate_request(request)
        shared = [a for a in self.adapters.values() if any(lane.on == a.name for lane in request.lanes)]
        shared = [a for a in shared if a.virtual is None]
        split = AdapterSplit(self.model, shared) if shared else None
        try:
            return decode_all(self._sessions(request, tell, split), cancelled)
        finally:
            if split:
                split.close()

    def _sessions(
        self, request: DecodingRequest, tell: Callable[[DecodingRecord], None], split: AdapterSplit | None
    ) -> list[Lockstep]:
        """One batch for the base with the adapters that share it, one for each other thing."""
        together = (BASE, *(split.names if split else ()))
        batches: dict[str, list[int]] = {}
        for number, lane in enumerate(request.lanes):
            name = lane.on or BASE
            batches.setdefault(BASE if name in together else name, []).append(number)
        sessions = []
        for name, numbers in batches.items():
            lanes = tuple(request.lanes[n] for n in numbers)
            adapter = self.adapters.get(name)
            sessions.append(
                Lockstep(
                    self._model(name),
                    replace(request, lanes=lanes),
                    self.decode_text,
                    tell,
                    numbers=numbers,
                    split=split if name == BASE else None,
                    virtual=adapter.virtual if adapter else None,
                    alone=name != BASE,
                )
            )
        return sessions
