"""The lockstep engine: all lanes of a prompt, or of several prompts, in one batch. A prompt is read once for
each model or adapter that takes part; then each forward carries the rows of all lanes (one for greedy and
sampling, n for beams, k for contrastive candidates). All rows are at the same position, so one cache serves
them without padding or mask; only prompts of different lengths are padded on the left. Lanes that end leave
the batch. Every sampling lane has its own random generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PretrainedConfig

from tui_lab.core.errors import LabError
from tui_lab.decoding.context import context_length, remaining_context
from tui_lab.decoding.decoders import LaneDecoder, SearchDecoder, StepOutput, make_search_decoder
from tui_lab.decoding.detokenize import Decode
from tui_lab.decoding.forward import CausalModel, VirtualTokens, embedding_weight, prefill, step
from tui_lab.decoding.graph_cache import BatchShape, BucketStep, CapturedBatch, GraphCache
from tui_lab.decoding.graphs import (
    CapturedStep,
    CaptureError,
    StepMode,
    bucket_of,
    capacity_of,
    choose_mode,
)
from tui_lab.decoding.kv_cache import LaneCache
from tui_lab.decoding.lane_output import LaneContext, LaneOutput
from tui_lab.decoding.records import DecodingRecord, DecodingRequest, LaneResult
from tui_lab.decoding.sampling import BatchedSampler, SamplingDecoder
from tui_lab.decoding.speed import StepWork, weight_bytes


class AdapterRows(Protocol):
    """Applies adapters to parts of the batch (see ``adapters.AdapterSplit``)."""

    names: tuple[str, ...]

    def rows(self, counts: Sequence[int]) -> AbstractContextManager[None]:
        """A context in which the first counts[0] rows are of the base, the next counts[1] of the first
        adapter, and so on."""


@dataclass(eq=False)
class _Slot:
    """A lane in the batch. Exactly one of ``sampling`` and ``search`` is set."""

    lane_id: int
    prompt: tuple[int, ...]
    source: int  # 0: the base, n: the n-th adapter
    sampling: SamplingDecoder | None
    search: SearchDecoder | None
    first: int = 0  # its first row

    @property
    def decoder(self) -> LaneDecoder:
        decoder = self.sampling or self.search
        assert decoder is not None
        return decoder


@dataclass
class _Batch:
    """What exists once the prompt has been read."""

    slots: list[_Slot]  # the lanes that own the rows, in their order
    cache: LaneCache
    next_tokens: torch.Tensor  # (R,) the input of the next forward
    sampler: BatchedSampler | None  # of all sampling lanes; None if there are none
    output: StepOutput  # of the last step
    padding: torch.Tensor | None = None  # (R,) positions before each row's prompt, where lengths differ
    shapes: tuple[torch.Size, ...] = ()  # of the tables that the decoders return
    captured: CapturedStep | None = None  # of the present bucket
    graphs: CapturedBatch | None = None  # of all buckets so far

    def tensors(self) -> list[torch.Tensor]:
        """The tensors that captured steps read and write, besides weights and cache."""
        found = [self.next_tokens, *(self.sampler.tensors() if self.sampler else ())]
        return found + [tensor for slot in self.slots if slot.search for tensor in slot.search.tensors()]


class Lockstep:
    """One batch of lanes over one set of weights. Every call of :meth:`step` is one forward; the first call
    reads the prompt. Records go to ``emit``. ``results`` has the result of each lane that has ended, by lane
    id; after :meth:`cancel` it has all of them."""

    def __init__(
        self,
        model: CausalModel,
        request: DecodingRequest,
        decode: Decode,
        emit: Callable[[DecodingRecord], None] = lambda _record: None,
        *,
        lane_ids: Sequence[int] | None = None,
        adapters: AdapterRows | None = None,
        virtual: VirtualTokens | None = None,
        mode: StepMode | None = None,
    ) -> None:
        """``lane_ids``: the ids of ``request.lanes`` in records and results, their positions by default;
        ``adapters``: the adapters that share the batch: lanes whose ``on`` is none of their names run on
        ``model`` as it is; ``virtual``: virtual tokens before the prompt of all lanes; ``mode``: how
        steps run, by default as :func:`~tui_lab.decoding.graphs.choose_mode` chooses.

        Raises LabError for a request that cannot be decoded."""
        validate_request(request, model.config, virtual)
        self.results: dict[int, LaneResult] = {}
        self._model, self._request = model, request
        self._adapters, self._virtual = adapters, virtual
        self._emit = emit
        self._started_at = time.perf_counter()
        self._device = embedding_weight(model).device
        limits = []
        for number in range(len(request.lanes)):
            length, asked = len(request.prompt_of(number)), request.limit_of(number)
            available = remaining_context(model.config, length, virtual.length if virtual else 0)
            limits.append(asked if available is None else min(asked, available))
        self._context = LaneContext(request, tuple(limits), self._device, decode, emit, self._elapsed_s)
        self._sources = 1 + (len(adapters.names) if adapters else 0)
        self._slots = self._make_slots(range(len(request.lanes)) if lane_ids is None else lane_ids)
        self._needs_hidden = any(slot.search and slot.search.needs_hidden for slot in self._slots)
        self._batch: _Batch | None = None  # None until the prompt has been read
        if request.is_ragged:
            self._mode = StepMode(reason="prompts of different lengths share the batch")
        else:
            self._mode = choose_mode(model, self._context.limit) if mode is None else mode
        self.graphs: GraphCache | None = None  # the captured steps of earlier requests
        self._weight_bytes = weight_bytes(model)
        self.work = StepWork(reason=self._mode.reason)

    @property
    def active(self) -> bool:
        """Whether a lane has not ended yet."""
        return bool(self._slots)

    def step(self) -> None:
        """One forward and the next decision of every lane; the first call reads the prompt."""
        if self._batch is None:
            self._read_prompt()
            return
        batch, began = self._batch, time.perf_counter()
        with torch.inference_mode():
            if batch.sampler:
                batch.sampler.draw()
            table = self._run(batch).cpu()
            self.work.count(self._weight_bytes + batch.cache.bytes_per_position() * batch.cache.length)
            self._take(batch, table)
        self.work.seconds += time.perf_counter() - began

    def cancel(self, lane_ids: Container[int] | None = None) -> None:
        """Ends these lanes, by default all, with the tokens that they have."""
        ended = [slot for slot in self._slots if lane_ids is None or slot.lane_id in lane_ids]
        for slot in ended:
            slot.decoder.cancel()
            self._finish(slot)
        self._slots = [slot for slot in self._slots if slot not in ended]
        if not self._slots:
            self._release()
        elif self._batch is not None and not self._mode.fixed:
            self._drop_ended(self._batch)

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started_at

    def _make_slots(self, lane_ids: Sequence[int]) -> list[_Slot]:
        """The lanes in the order of their rows: those of the base first, then those of each adapter."""
        names = self._adapters.names if self._adapters else ()
        slots = []
        for number, (lane_id, lane) in enumerate(zip(lane_ids, self._request.lanes, strict=True)):
            output = LaneOutput(lane_id, number, self._context)
            prompt = output.prompt
            source = names.index(lane.on) + 1 if lane.on in names else 0
            search = make_search_decoder(output)
            slots.append(_Slot(lane_id, prompt, source, None if search else SamplingDecoder(output), search))
        return sorted(slots, key=lambda slot: slot.source)

    def _adapter_rows(self, counts: Sequence[int]) -> AbstractContextManager[None]:
        """The context of a forward with so many rows of each source."""
        return self._adapters.rows(counts) if self._adapters else nullcontext()

    def _read_prompt(self) -> None:
        """The prefill, one row for each prompt of each source, and the first decision of every lane."""
        self._started_at = time.perf_counter()
        used = list(dict.fromkeys((slot.source, slot.prompt) for slot in self._slots))  # by source
        width = max(len(prompt) for _, prompt in used)
        missing = [width - len(prompt) for _, prompt in used]
        padded = [(0,) * pad + prompt for pad, (_, prompt) in zip(missing, used, strict=True)]
        prompts = torch.tensor(padded, device=self._device)
        padding = torch.tensor(missing, device=self._device) if any(missing) else None
        sources = [source for source, _ in used]
        with self._adapter_rows([sources.count(source) for source in range(self._sources)]):
            read = prefill(
                self._model,
                prompts,
                want_hidden=self._needs_hidden,
                virtual=self._virtual,
                padding=padding,
            )
        row_of = {each: row for row, each in enumerate(used)}
        rows = [row_of[slot.source, slot.prompt] for slot in self._slots]
        prompt_rows = [
            row for row, slot in zip(rows, self._slots, strict=True) for _ in range(slot.decoder.rows)
        ]
        capacity = read.cache.length + self._context.limit
        if self._mode.fixed:
            capacity = capacity_of(capacity)
        keeps = bool(self.graphs and self._mode.capture)
        kept = self.graphs.take(self._shape(self._slots, capacity)) if self.graphs and keeps else None
        read.cache.expand(prompt_rows, capacity, kept.slabs if kept else None)
        for row, slot in zip(rows, self._slots, strict=True):
            if slot.search:
                slot.search.start(read.hidden[row] if read.hidden is not None else None, capacity)
        next_tokens = torch.zeros(len(prompt_rows), dtype=torch.long, device=self._device)
        with torch.inference_mode():
            chosen = torch.tensor(prompt_rows, device=self._device)
            logits = read.logits[chosen]
            output = StepOutput(logits, None, next_tokens, read.cache)
            slots = list(self._slots)
            batch = _Batch(slots, read.cache, next_tokens, self._lay_out(slots), output)
            batch.padding = None if padding is None else padding[chosen]
            if batch.sampler:
                batch.sampler.draw()
            table = self._pick(batch).cpu()
            if kept:
                kept.take_over(batch.tensors())
            elif keeps:
                kept = CapturedBatch(read.cache.slabs, batch.tensors())
            batch.graphs = kept
            self._batch = batch
            self._take(batch, table)

    def _shape(self, slots: Sequence[_Slot], capacity: int) -> BatchShape:
        """What captured steps of these lanes depend on."""
        names = ("", *(self._adapters.names if self._adapters else ()))
        lanes = tuple((names[slot.source], slot.decoder.capture_key) for slot in slots)
        return BatchShape(id(self._model), lanes, capacity)

    def _lay_out(self, slots: Sequence[_Slot]) -> BatchedSampler | None:
        """Assigns the rows to the lanes, in order; returns the sampler of the sampling lanes."""
        first = 0
        for slot in slots:
            slot.first = first
            first += slot.decoder.rows
        sampling = [(slot.sampling, slot.first) for slot in slots if slot.sampling]
        if not sampling:
            return None
        return BatchedSampler([decoder for decoder, _ in sampling], [at for _, at in sampling], self._context)

    def _run(self, batch: _Batch) -> torch.Tensor:
        """A step on the device, captured if it can be; the tables of all decoders in one tensor."""
        if not self._mode.fixed:
            return self._forward_and_pick(batch)
        if batch.cache.fixed is None or batch.cache.length >= batch.cache.fixed.bucket:
            self._enter_bucket(batch, bucket_of(batch.cache.length, batch.cache.capacity))
        try:
            table = batch.captured.run() if batch.captured else self._forward_and_pick(batch)
        except CaptureError as error:
            self._mode = StepMode(reason=str(error))
            self.work.reason = self._mode.reason
            batch.captured = batch.graphs = None
            batch.cache.fix_shapes(None)
            return self._forward_and_pick(batch)
        if batch.captured and batch.captured.is_captured:
            self.work.captured += 1
            fixed, output = batch.cache.fixed, batch.output
            assert fixed is not None
            if batch.graphs and fixed.bucket not in batch.graphs.steps:
                step = BucketStep(batch.captured, fixed, output.logits, output.hidden, batch.shapes)
                batch.graphs.steps[fixed.bucket] = step
        batch.cache.advance()
        return table

    def _enter_bucket(self, batch: _Batch, bucket: int) -> None:
        """The steps from here on read the cache up to ``bucket``."""
        batch.captured = None
        if known := batch.graphs.steps.get(bucket) if batch.graphs else None:
            batch.cache.fix_shapes(bucket, known.fixed)
            batch.captured, batch.shapes = known.step, known.shapes
            batch.output = StepOutput(known.logits, known.hidden, batch.next_tokens, batch.cache)
            return
        batch.cache.fix_shapes(bucket)
        if self._mode.capture is not None:
            batch.captured = CapturedStep(lambda: self._forward_and_pick(batch), self._mode.capture)

    def _release(self) -> None:
        """Gives the captured steps to the cache of graphs and drops the batch's references to them, which
        form a cycle."""
        batch = self._batch
        if batch is None:
            return
        if self.graphs and batch.graphs and batch.graphs.steps:
            self.graphs.put(self._shape(batch.slots, batch.cache.capacity), batch.graphs)
        batch.captured = batch.graphs = None

    def _forward_and_pick(self, batch: _Batch) -> torch.Tensor:
        """One forward and the choices of all decoders on the device, without waiting for it."""
        counts = [0] * self._sources
        for slot in batch.slots:
            counts[slot.source] += slot.decoder.rows
        with self._adapter_rows(counts):
            logits, hidden = step(
                self._model,
                batch.next_tokens,
                batch.cache,
                want_hidden=self._needs_hidden,
                padding=batch.padding,
            )
        batch.output = StepOutput(logits, hidden, batch.next_tokens, batch.cache)
        table = self._pick(batch)
        if batch.cache.fixed is not None:
            batch.cache.fixed.position.add_(1)
        return table

    def _pick(self, batch: _Batch) -> torch.Tensor:
        """The tables of all decoders, one after the other, in float64."""
        tables = [batch.sampler.pick(batch.output)] if batch.sampler else []
        tables += [slot.search.pick(batch.output, slot.first) for slot in batch.slots if slot.search]
        batch.shapes = tuple(table.shape for table in tables)
        return torch.cat([table.reshape(-1) for table in tables])

    def _take(self, batch: _Batch, table: torch.Tensor) -> None:
        """Completes the decisions of all lanes, given the tables on the CPU; ended lanes leave."""
        sizes = [shape.numel() for shape in batch.shapes]
        tables = iter(part.view(shape) for part, shape in zip(table.split(sizes), batch.shapes, strict=True))
        if batch.sampler:
            batch.sampler.take(batch.output, next(tables))
        for slot in batch.slots:
            if slot.search:
                found = next(tables)
                if not slot.search.output.finish_reason:
                    slot.search.take(batch.output, slot.first, found)
        ended = [slot for slot in self._slots if slot.decoder.output.finish_reason]
        for slot in ended:
            self._finish(slot)
        self._slots = [slot for slot in self._slots if not slot.decoder.output.finish_reason]
        if not self._slots:
            self._release()
        elif not self._mode.fixed:
            self._drop_ended(batch)

    def _drop_ended(self, batch: _Batch) -> None:
        """Removes the rows of ended lanes from the batch."""
        if len(batch.slots) == len(self._slots):
            return
        rows = [r for slot in self._slots for r in range(slot.first, slot.first + slot.decoder.rows)]
        batch.cache.select_rows(rows)
        kept = torch.tensor(rows, device=self._device)
        batch.next_tokens = batch.next_tokens[kept]
        batch.padding = None if batch.padding is None else batch.padding[kept]
        batch.slots = list(self._slots)
        batch.sampler = self._lay_out(batch.slots)

    def _finish(self, slot: _Slot) -> None:
        result = slot.decoder.result()
        self.results[slot.lane_id] = result
        self._emit(result)


def decode_all(
    engines: Iterable[Lockstep],
    cancelled: Callable[[], bool] = lambda: False,
    abandoned: Callable[[], Container[int]] = tuple,
) -> dict[int, LaneResult]:
    """Runs all engines, one step of each in turn, so that all lanes stream. ``cancelled``, and
    ``abandoned``, which names lanes that nobody waits for any more, are called before every step. Returns the
    result of every lane by its id, in the order of the ids."""
    engines = list(engines)
    while any(engine.active for engine in engines):
        for engine in engines:
            if not engine.active:
                continue
            if cancelled():
                engine.cancel()
            elif lanes := abandoned():
                engine.cancel(lanes)
            if engine.active:
                engine.step()
    results = {lane_id: result for engine in engines for lane_id, result in engine.results.items()}
    return dict(sorted(results.items()))


def validate_request(
    request: DecodingRequest, config: PretrainedConfig, virtual: VirtualTokens | None = None
) -> None:
    """Raises LabError that lists all mistakes of a request for a model with this configuration."""
    problems = []
    vocabulary = config.get_text_config(decoder=True).vocab_size
    if not request.prompt_ids:
        problems.append("the prompt is empty: type at least one word (this model has no start token)")
    elif not all(0 <= token < vocabulary for token in {*request.prompt_ids}.union(*request.lane_prompts)):
        problems.append(
            f"the prompt has tokens beyond the model's vocabulary of {vocabulary}: "
            "the tokenizer does not belong to the model"
        )
    if not request.lanes:
        problems.append("there is no lane: add at least one strategy")
    if request.lane_prompts and len(request.lane_prompts) != len(request.lanes):
        problems.append(f"there are {len(request.lane_prompts)} prompts for {len(request.lanes)} lanes")
    search = any(lane.strategy.algorithm != "sampling" for lane in request.lanes)
    if request.is_ragged and (virtual or search):
        problems.append(
            "the prompts of a batch must have the same length, unless all lanes are greedy or sample and "
            "the adapter has no virtual tokens"
        )
    if (least := min((request.max_new_tokens, *request.lane_limits))) < 1:
        problems.append(f"max_new_tokens is at least 1, not {least}")
    available = remaining_context(config, request.longest, virtual.length if virtual else 0)
    if available is not None and available < 1:
        problems.append(
            f"the prompt has {request.longest} tokens and the model's context is "
            f"{context_length(config)}: cut at least {1 - available} tokens from the prompt"
        )
    for number, lane in enumerate(request.lanes, 1):
        if lane.strategy.random and lane.seed is None:
            problems.append(f"lane {number} ({lane.text}) samples and has no seed")
    if problems:
        raise LabError("; ".join(problems))
