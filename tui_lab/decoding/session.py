"""A loaded model with everything that is compared with it: adapters that share its batch, adapters with
virtual tokens, and other models, which take a second pass. It groups the lanes of a request into as few
batches as possible, checks that they fit into memory, and decodes them, one step of each batch in turn."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from pathlib import Path

import torch

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.adapters import (
    Adapter,
    AdapterSplit,
    NeedsSeparateModel,
    load_adapter,
    load_in_place,
)
from tui_lab.decoding.context import remaining_context
from tui_lab.decoding.detokenize import Decode, SupportsDecode, decoder_of
from tui_lab.decoding.engine import Lockstep, decode_all, validate_request
from tui_lab.decoding.forward import CausalModel, embedding_weight
from tui_lab.decoding.graph_cache import GraphCache
from tui_lab.decoding.kv_cache import kv_bytes
from tui_lab.decoding.records import DecodingRecord, DecodingRequest, DecodingSpeed, LaneGroup, LaneResult
from tui_lab.decoding.speed import bandwidth_bytes_s, speed_of
from tui_lab.hardware.memory_budget import free_bytes

BASE = "base"
#: Share of the free memory that keys and values may take; the forward itself needs some too.
_KV_SHARE = 0.8


class NotEnoughMemoryError(LabError):
    """The keys and values of a request do not fit into the free memory."""


class DecodingSession:
    """A base model and what is compared with it. ``Lane.on`` is ``base`` or empty for the base, or the name
    of an adapter or of another model."""

    def __init__(self, model: CausalModel, tokenizer: SupportsDecode) -> None:
        self.model: CausalModel = model.train(False)
        self.tokenizer = tokenizer
        self.decode_text = decoder_of(tokenizer)
        self.adapters: dict[str, Adapter] = {}
        self.others: dict[str, CausalModel] = {}  # whole models
        self.tokenizers: dict[str, SupportsDecode] = {}  # of those with one of their own
        self.speed: DecodingSpeed | None = None  # of the last request that was decoded
        device = self._device.type  # a lambda that refers to the session would form a cycle
        self.graphs = GraphCache(lambda: free_bytes(device))

    def add_adapter(self, name: str, folder: Path) -> Adapter:
        """Loads an adapter folder.

        Raises NeedsSeparateModel if the adapter cannot share the batch of the base (see
        ``adapters.load_in_place`` and :meth:`add_model`), LabError if it does not fit the base or if the
        name is taken."""
        adapter = load_adapter(self.model, folder, name)
        self._require_free(name)
        self.graphs.clear()
        self.adapters[name] = adapter
        return adapter

    def add_model(self, name: str, model: CausalModel, is_adapted: bool = False) -> None:
        """Adds a whole model: fully tuned weights, or a copy of the base with an adapter merged into it,
        which may have added tokens (``is_adapted``).

        Raises LabError if its vocabulary differs from that of the base or if the name is taken."""
        ours, theirs = (m.config.get_text_config(decoder=True).vocab_size for m in (self.model, model))
        if ours != theirs and not is_adapted:
            raise LabError(
                f"{sanitize(name)} has a vocabulary of {theirs} and the base one of {ours}: they use "
                "different tokenizers, so their answers cannot be compared"
            )
        self._require_free(name)
        self.graphs.clear()
        self.others[name] = model.train(False)

    def add_adapter_or_copy(self, name: str, folder: Path, load: Callable[[], CausalModel]) -> None:
        """Adds an adapter to the batch of the base, or to a copy of it that ``load`` returns where it cannot
        share the batch. Raises LabError as :meth:`add_adapter`."""
        try:
            self.add_adapter(name, folder)
        except NeedsSeparateModel:
            self.add_model(name, load_in_place(load(), folder, name), is_adapted=True)

    def use_tokenizer(self, name: str, tokenizer: SupportsDecode) -> None:
        """Asks another model, and decodes its tokens, by a tokenizer of its own."""
        if name in self.others:
            self.tokenizers[name] = tokenizer

    def tokenizer_of(self, name: str) -> SupportsDecode:
        """The tokenizer of a model."""
        return self.tokenizers.get(name, self.tokenizer)

    def decoder(self, name: str) -> Decode:
        """How tokens of a model become text."""
        return decoder_of(self.tokenizers[name]) if name in self.tokenizers else self.decode_text

    def remove(self, name: str) -> None:
        """Removes an adapter or a model. Raises LabError if there is none of this name."""
        if name not in self.names[1:]:
            raise LabError(f"there is no adapter {sanitize(name)!r}; there are {self._listed()}")
        self.graphs.clear()
        self.adapters.pop(name, None)
        self.others.pop(name, None)
        self.tokenizers.pop(name, None)

    @property
    def names(self) -> tuple[str, ...]:
        """What a lane can run on, the base first."""
        return (BASE, *self.adapters, *self.others)

    def _require_free(self, name: str) -> None:
        if name in self.names:
            raise LabError(f"the name {sanitize(name)!r} is taken; choose another for the adapter")

    def _listed(self) -> str:
        return ", ".join(sanitize(name) for name in self.names)

    def validate(self, groups: Sequence[LaneGroup]) -> None:
        """Raises LabError that lists the mistakes of a request, or says that it does not fit into memory."""
        lanes = {
            lane_id: lane for g in groups for lane_id, lane in zip(g.lane_ids, g.request.lanes, strict=True)
        }
        there_are = f"there are {self._listed()}"
        unknown = [
            f"lane {number + 1} runs on {sanitize(lane.on)!r}, which is not loaded; {there_are}"
            for number, lane in sorted(lanes.items())
            if (lane.on or BASE) not in self.names
        ]
        if unknown:
            raise LabError("; ".join(unknown))
        for request in (group.request for group in groups):
            for name in dict.fromkeys(lane.on or BASE for lane in request.lanes) or [BASE]:
                adapter = self.adapters.get(name)
                validate_request(request, self.model_of(name).config, adapter.virtual if adapter else None)
        needed = sum(self.kv_bytes(group.request) for group in groups)
        free = self._free_bytes()
        if free is not None and needed > _KV_SHARE * free:
            self.graphs.clear()
            free = self._free_bytes()
        if free is not None and needed > _KV_SHARE * free:
            rows = sum(lane.strategy.rows for lane in lanes.values())
            longest = max(g.request.longest + g.request.max_new_tokens for g in groups)
            raise NotEnoughMemoryError(
                f"{rows} rows of {longest} tokens need "
                f"{needed / 1e9:.1f} GB for keys and values and {free / 1e9:.1f} GB are free: "
                "take fewer lanes or beams, fewer new tokens, or a shorter prompt"
            )

    def _free_bytes(self) -> int | None:
        free = free_bytes(self._device.type)
        return None if free is None else free - self.graphs.graph_bytes

    def kv_bytes(self, request: DecodingRequest) -> int:
        """Bytes of the keys and values of all lanes."""
        total = 0
        for lane in request.lanes:
            model = self.model_of(lane.on or BASE)
            available = remaining_context(model.config, request.longest)
            new = request.max_new_tokens
            if available is not None:
                new = min(new, max(available, 0))
            size = embedding_weight(model).element_size()
            total += kv_bytes(model.config, lane.strategy.rows, request.longest + new, size)
        return total

    def context_of(self, names: Sequence[str]) -> int | None:
        """Tokens of a prompt and its answer that fit all of these; None if no context is known."""
        contexts = []
        for name in names:
            adapter = self.adapters.get(name)
            virtual = adapter.virtual.length if adapter and adapter.virtual else 0
            contexts.append(remaining_context(self.model_of(name).config, 0, virtual))
        return min((each for each in contexts if each is not None), default=None)

    def model_of(self, name: str) -> CausalModel:
        """The weights that a lane on ``name`` runs on: another model, or the base (also for adapters)."""
        return self.others.get(name, self.model)

    @property
    def _device(self) -> torch.device:
        return embedding_weight(self.model).device

    def decode(
        self,
        request: DecodingRequest,
        emit: Callable[[DecodingRecord], None] = lambda _record: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> dict[int, LaneResult]:
        """Decodes all lanes of one prompt; returns the result of each by its position in ``request.lanes``.

        Records go to ``emit``; ``cancelled`` is called before every step. Raises LabError for a request that
        cannot be decoded."""
        return self.decode_groups([LaneGroup(request, tuple(range(len(request.lanes))))], emit, cancelled)

    def decode_groups(
        self,
        groups: Sequence[LaneGroup],
        emit: Callable[[DecodingRecord], None] = lambda _record: None,
        cancelled: Callable[[], bool] = lambda: False,
        abandoned: Callable[[], Container[int]] = tuple,
    ) -> dict[int, LaneResult]:
        """As :meth:`decode`, for lanes with different prompts: one step of each batch in turn.
        ``abandoned``: ids of lanes that end at once. Returns the results by lane id."""
        self.validate(groups)
        used = {lane.on for group in groups for lane in group.request.lanes}
        shared = [a for a in self.adapters.values() if a.name in used and a.virtual is None]
        split = AdapterSplit(self.model, shared) if shared else None
        try:
            engines = [engine for group in groups for engine in self._engines(group, emit, split)]
            results = decode_all(engines, cancelled, abandoned)
            bandwidth = bandwidth_bytes_s(self._device)
            self.speed = speed_of([engine.work for engine in engines], results.values(), bandwidth)
            return results
        except Exception as error:
            if is_out_of_memory(error):
                self.graphs.clear()
            raise
        finally:
            if split:
                split.close()

    def _engines(
        self, group: LaneGroup, emit: Callable[[DecodingRecord], None], split: AdapterSplit | None
    ) -> list[Lockstep]:
        """One batch for the base and the adapters that share it, and one for each other name."""
        in_base_batch = (BASE, *(split.names if split else ()))
        batches: dict[str, list[int]] = {}
        for at, lane in enumerate(group.request.lanes):
            name = lane.on or BASE
            batches.setdefault(BASE if name in in_base_batch else name, []).append(at)
        engines = []
        for name, members in batches.items():
            adapter = self.adapters.get(name)
            engine = Lockstep(
                self.model_of(name),
                group.request.of_lanes(members),
                self.decoder(name),
                emit,
                lane_ids=[group.lane_ids[at] for at in members],
                adapters=split if name == BASE else None,
                virtual=adapter.virtual if adapter else None,
            )
            engine.graphs = self.graphs
            engines.append(engine)
        return engines
