"""Steps with fixed shapes and as graphs, against the ordinary steps. A graph is simulated: its operations are
recorded once and repeated on the same tensors, so whatever Python decides in between would show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.decoding.conftest import ARCHITECTURES, prompt_of
from tests.decoding.test_adapters import adapter_folder, config_of
from tests.decoding.test_parity import STOPS, numbers
from tui_lab.decoding import engine, graphs
from tui_lab.decoding.adapters import AdapterSplit, load_adapter
from tui_lab.decoding.engine import Lockstep, decode_all
from tui_lab.decoding.graph_cache import BatchShape, CapturedBatch, GraphCache
from tui_lab.decoding.graphs import (
    Captured,
    StepMode,
    bucket_of,
    capacity_of,
    choose_mode,
    fixed_shape_problem,
)
from tui_lab.decoding.records import DecodingRequest, LaneGroup, LaneResult
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import Beam, Contrastive, Greedy, Lane, Sample

LANES = (
    Lane(Greedy()),
    Lane(Beam(3)),
    Lane(Sample(temperature=0.9), 1),
    Lane(Contrastive(0.6, 4)),
    Lane(Sample("top-p", top_p=0.9), 2),
    Lane(Sample(top_k=5, repetition_penalty=1.3), 3),
    Lane(Greedy(1.4)),
    Lane(Beam(2, repetition_penalty=1.3)),
)
FIXED = StepMode(fixed=True)


class _Recorder(TorchDispatchMode):
    """Records operations, and refuses what a CUDA graph cannot contain: results that the CPU waits for, and
    uploads."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for func, args, kwargs, found in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(found), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():  # neither a view nor written in place
                    old.copy_(new)


def _tensors(found: Any) -> list[torch.Tensor]:
    each = found if isinstance(found, tuple | list) else (found,)
    return [one for one in each if isinstance(one, torch.Tensor)]


class Simulated:
    """Captures by recording; ``captures`` counts. Recording runs the step, so the first replay does not."""

    size_bytes = 1000

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def warm_up(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        return work()

    def capture(self, work: Callable[[], torch.Tensor]) -> Captured:
        self.captures += 1
        with _Recorder() as recorder:
            result = work()
        is_first = True

        def replay() -> None:
            nonlocal is_first
            if not is_first:
                self.replays += 1
                recorder.replay()
            is_first = False

        return Captured(result, replay, self.size_bytes)


def decode(
    model: Any, mode: StepMode, request: DecodingRequest, **settings: Any
) -> tuple[list[LaneResult], Lockstep]:
    made = Lockstep(model, request, numbers, mode=mode, **settings)
    return list(decode_all([made]).values()), made


def assert_equal(found: list[LaneResult], wanted: list[LaneResult]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.token_ids == other.token_ids, one.description.text
        assert (one.text, one.finish_reason) == (other.text, other.finish_reason)
        assert [t.logprob for t in one.tokens] == pytest.approx([t.logprob for t in other.tokens], abs=1e-4)
        assert [t.rank for t in one.tokens] == [t.rank for t in other.tokens]
        shown = [[a.token_id for a in t.alternatives] for t in one.tokens]
        assert shown == [[a.token_id for a in t.alternatives] for t in other.tokens]


# the longer prompt passes the sliding window of 12 in the prefill, the shorter one during decoding
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_fixed_shapes_and_graphs_equal_growing_shapes(
    tiny_model: Any, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(model_type)
    assert fixed_shape_problem(model) == ""
    monkeypatch.setattr(engine, "bucket_of", lambda length, capacity: min(capacity, (length // 8 + 1) * 8))
    for length, stops in ((7, frozenset[int]()), (30, STOPS)):
        request = DecodingRequest(prompt_of(length), LANES, 14, stops)
        wanted, growing = decode(model, StepMode(), request)
        assert_equal(decode(model, FIXED, request)[0], wanted)
        capture = Simulated()
        found, made = decode(model, StepMode(True, capture), request)
        assert_equal(found, wanted)
        assert made.work.steps == growing.work.steps and growing.work.captured == 0
        if not stops:
            # a graph for each bucket of 8 positions, whose first step is the warm-up
            assert capture.captures == 2 and made.work.captured == made.work.steps - 3
            assert capture.replays == made.work.captured - capture.captures


def test_a_cutoff_that_keeps_many_tokens_is_picked_after_the_graph(tiny_model: Any) -> None:
    """Almost flat distributions over 600 tokens, of which top-p keeps more than are sorted at first."""
    model = tiny_model("llama", vocab_size=600, sharpness=0.3)
    lanes = (Lane(Sample("top-p", top_p=0.95), 5), Lane(Sample(top_k=400), 6), Lane(Greedy()))
    request = DecodingRequest(prompt_of(9), lanes, 12, inspect=3)
    wanted, _ = decode(model, StepMode(), request)
    found, made = decode(model, StepMode(True, Simulated()), request)
    assert made.work.captured and made.work.reason == ""
    assert_equal(found, wanted)
    assert max(token.rank for result in wanted[:2] for token in result.tokens) > 256


def test_what_cannot_be_captured_goes_on_without_a_graph(tiny_model: Any) -> None:
    model = tiny_model("qwen2", sharpness=6.0)
    request = DecodingRequest(prompt_of(9), LANES, 16, STOPS)
    wanted, _ = decode(model, StepMode(), request)

    class Refuses(Simulated):
        def capture(self, work: Callable[[], torch.Tensor]) -> Captured:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    found, made = decode(model, StepMode(True, Refuses()), request)
    assert_equal(found, wanted)
    assert made.work.captured == 0 and made.work.steps > 3
    reason = "a step could not be captured: operation not permitted when stream is capturing"
    assert made.work.reason == reason


@pytest.mark.parametrize("method", ["lora", "dora", "prefix", "prompt_tuning"])
def test_adapters_in_a_graph(tiny_model: Any, tmp_path: Path, method: str) -> None:
    model = tiny_model("llama")
    adapter = load_adapter(model, adapter_folder(model, config_of(method, "llama"), tmp_path), "x")
    lanes = (Lane(Greedy()), Lane(Greedy(), None, "x"), Lane(Beam(2), None, "x"), Lane(Contrastive()))
    request = DecodingRequest(prompt_of(9), lanes, 10)
    split = None if adapter.virtual else AdapterSplit(model, [adapter])
    settings = {"adapters": split, "virtual": adapter.virtual}
    wanted, _ = decode(model, StepMode(), request, **settings)
    found, made = decode(model, StepMode(True, Simulated()), request, **settings)
    if split:
        split.close()
        assert wanted[0].token_ids != wanted[1].token_ids
    assert made.work.captured == 8 + 1  # of nine steps and the tenth of contrastive search, the first is not
    assert_equal(found, wanted)


class NoText:
    def decode(self, ids: list[int], **_: object) -> str:
        return numbers(ids)


@pytest.fixture
def session(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[DecodingSession, Simulated]:
    """A session whose steps are captured by the simulation, in buckets of 16 positions."""
    capture = Simulated()
    monkeypatch.setattr(engine, "bucket_of", lambda length, capacity: min(capacity, (length // 16 + 1) * 16))
    monkeypatch.setattr(engine, "choose_mode", lambda *_: StepMode(True, capture))
    return DecodingSession(tiny_model("llama", sharpness=6.0), NoText()), capture


def alone(model: Any, request: DecodingRequest) -> list[LaneResult]:
    return decode(model, StepMode(), request)[0]


def test_later_requests_replay_the_graphs_of_earlier_ones(session: Any) -> None:
    made, capture = session
    others = tuple(
        replace(lane, strategy=Sample(temperature=0.7, top_k=9), seed=8) if at == 5 else lane
        for at, lane in enumerate(LANES)
    )
    others = (*others[:2], Lane(Sample(temperature=1.2), 77), *others[3:5], Lane(
        Sample(top_k=3, repetition_penalty=1.7), 5), *others[6:])  # fmt: skip
    first = DecodingRequest(prompt_of(9), LANES, 26, inspect=3)
    assert_equal(list(made.decode(first).values()), alone(made.model, first))
    assert capture.captures == 3 and made.graphs.count == 1
    kept = made.graphs.size_bytes
    assert kept > made.graphs.graph_bytes == 3 * Simulated.size_bytes
    # another prompt, which begins in the second bucket, other temperatures, cutoffs, penalties and seeds
    for request in (
        DecodingRequest(prompt_of(20), others, 20, inspect=3),
        DecodingRequest(prompt_of(5), LANES, 30),
        first,
    ):
        wanted = alone(made.model, request)
        assert_equal(list(made.decode(request).values()), wanted)
        assert made.speed.captured_steps == made.speed.steps
    assert capture.captures == 3 and made.graphs.count == 1 and made.graphs.size_bytes == kept
    # other lanes, another capacity: other kernels
    made.decode(DecodingRequest(prompt_of(9), LANES[:3], 26))
    made.decode(DecodingRequest(prompt_of(9), LANES, 60))
    assert capture.captures == 3 + 3 + 5 and made.graphs.count == 3


def test_batches_of_one_shape_at_the_same_time_have_graphs_of_their_own(session: Any) -> None:
    made, capture = session
    requests = [DecodingRequest(prompt_of(length), LANES[:4], 12) for length in (9, 6)]
    for _ in range(2):
        groups = [LaneGroup(request, tuple(range(at * 4, at * 4 + 4))) for at, request in enumerate(requests)]
        found = list(made.decode_groups(groups).values())
        for at, request in enumerate(requests):
            assert [each.token_ids for each in found[at * 4 :][:4]] == [
                each.token_ids for each in alone(made.model, request)
            ]
    # the second batch to end is the one that is kept; the first of the next two uses it
    assert made.graphs.count == 1 and capture.captures > 2


def test_graphs_go_with_what_they_were_captured_for(session: Any, tmp_path: Path) -> None:
    made, capture = session
    folder = adapter_folder(made.model, config_of("lora", "llama"), tmp_path)
    plain = DecodingRequest(prompt_of(9), LANES[:1], 6)
    made.decode(plain)
    assert made.graphs.count == 1
    made.add_adapter("x", folder)
    assert made.graphs.count == 0
    tuned = DecodingRequest(prompt_of(9), (Lane(Greedy()), Lane(Greedy(), None, "x")), 6)
    wanted = [each.token_ids for each in made.decode(tuned).values()]
    made.decode(plain)
    assert made.graphs.count == 2 and wanted[0] != wanted[1]
    captures = capture.captures
    assert [each.token_ids for each in made.decode(tuned).values()] == wanted
    assert capture.captures == captures
    made.remove("x")
    assert made.graphs.count == 0

    with pytest.raises(torch.OutOfMemoryError):
        made.decode(plain)
        made.decode(plain, emit=_runs_out_of_memory)
    assert made.graphs.count == 0


def _runs_out_of_memory(_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_kept_graphs_are_bounded() -> None:
    free = 10_000

    def batch(tensor_bytes: int) -> CapturedBatch:
        return CapturedBatch([torch.zeros(tensor_bytes, dtype=torch.uint8)], [])

    def shape(number: int) -> BatchShape:
        return BatchShape(number, (), 64)

    cache = GraphCache(lambda: free)
    for number in range(4):
        cache.put(shape(number), batch(400))
        assert cache.size_bytes <= 0.1 * (free + cache.size_bytes)
    assert cache.count == 2 and cache.take(shape(0)) is None and cache.take(shape(3)) is not None
    cache.put(shape(9), batch(2_000))  # more than a tenth by itself
    assert cache.count == 0
    unlimited = GraphCache(lambda: None)
    for number in range(12):
        unlimited.put(shape(number), batch(1))
    assert unlimited.count == 8 and unlimited.take(shape(3)) is None
    assert all(
        need <= capacity_of(need) <= max(64 * -(-need // 64), need * 9 / 8) and capacity_of(need) % 8 == 0
        for need in range(1, 5000)
    )


def test_a_request_that_needs_the_memory_of_kept_graphs_gets_it(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = session
    request = DecodingRequest(prompt_of(9), LANES[:2], 6)
    made.decode(request)
    needed = made.kv_bytes(request)
    # the driver's figure has the memory of graphs as free
    monkeypatch.setattr(
        "tui_lab.decoding.session.free_bytes",
        lambda _: made.graphs.graph_bytes + (0 if made.graphs.count else 2 * needed),
    )
    made.decode(request)
    assert made.graphs.count == 0  # a tenth of what is free is less than they take


def test_an_error_of_a_step_itself_is_raised(tiny_model: Any) -> None:
    class OutOfMemory(Simulated):
        def warm_up(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
            raise RuntimeError("out of memory")

    request = DecodingRequest(prompt_of(9), LANES, 16)
    with pytest.raises(RuntimeError, match="out of memory"):
        decode(tiny_model("llama"), StepMode(True, OutOfMemory()), request)


def test_a_model_that_ignores_the_mask_is_recognised(tiny_model: Any) -> None:
    model = tiny_model("llama", seed=3)
    plain = model.forward
    model.forward = lambda *args, **kwargs: plain(*args, **{**kwargs, "attention_mask": None})
    try:
        assert "llama models do not support fixed shapes" in fixed_shape_problem(model)
    finally:
        del model.forward


def test_buckets() -> None:
    assert [bucket_of(length, 40_000) for length in (1, 127, 129, 500, 4000)] == [256, 256, 512, 1024, 8192]
    assert bucket_of(100, 300) == 300  # a bucket of 256 would need a second graph for little
    for capacity in (16, 200, 1000, 5000):
        length, buckets = 8, []
        while length < capacity:
            buckets.append(bucket_of(length, capacity))
            assert length < buckets[-1] <= capacity
            length = buckets[-1]
        assert len(buckets) <= 8


def test_graphs_are_for_cuda_and_long_answers(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    assert choose_mode(model, 100) == StepMode()
    monkeypatch.setattr(graphs, "embedding_weight", lambda _model: torch.empty(1, device="meta"))
    assert choose_mode(model, 100) == StepMode()
    cuda = type("Weight", (), {"device": torch.device("cuda")})
    monkeypatch.setattr(graphs, "embedding_weight", lambda _model: cuda)
    assert "fewer than 24 new tokens" in choose_mode(model, 5).reason
    monkeypatch.setattr(graphs, "fixed_shape_problem", lambda _model: "no")
    assert choose_mode(model, 100) == StepMode(reason="no")
    monkeypatch.setattr(graphs, "fixed_shape_problem", lambda _model: "")
    mode = choose_mode(model, 100)
    assert mode.fixed and isinstance(mode.capture, graphs.CudaCapture) and mode.reason == ""


class FakeGraph:
    handle = 0

    def pool(self) -> int:
        return self.handle

    def replay(self) -> None: ...


class FakeCuda:
    """The parts of torch.cuda that captures use. A capture ends as torch's does: an error in it leaves the
    stream of the capture current."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.streams, self.pools, self.used = self, [], [], []  # type: ignore[var-annotated]
        self.reserved = 0
        for name in ("stream", "graph", "Stream", "current_stream", "memory_reserved", "graph_pool_handle"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
        monkeypatch.setattr(graphs, "_stream", cache(graphs._stream.__wrapped__))
        monkeypatch.setattr(graphs, "_graphs", WeakSet())

    def Stream(self, *_: object) -> FakeCuda:
        made: Any = object.__new__(FakeCuda)
        self.streams.append(made)
        return made

    def wait_stream(self, _: object) -> None: ...

    def current_stream(self) -> Any:
        return self.current

    def memory_reserved(self) -> int:
        return self.reserved

    def graph_pool_handle(self) -> int:
        self.pools.append(len(self.pools) + 1)
        return self.pools[-1]

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: FakeGraph, *, pool: int, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        graph.handle = pool
        self.used.append((pool, stream))
        self.current = stream
        yield  # an error leaves here, before the stream is restored
        self.current = self


def test_captures_share_one_stream_and_one_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, capture = FakeCuda(monkeypatch), graphs.CudaCapture()
    streams = []

    def work() -> torch.Tensor:
        streams.append(torch.cuda.current_stream())
        cuda.reserved += 2048
        return torch.ones(1)

    kept = []
    for _ in range(3):
        capture.warm_up(work)
        kept.append(capture.capture(work))
        assert kept[-1].size_bytes == 2048
    assert set(streams) == set(cuda.streams) and len(cuda.streams) == len(cuda.pools) == 1
    assert set(cuda.used) == {(1, cuda.streams[0])} and cuda.current is cuda
    # the memory ends with its last graph: torch refuses a name of memory that no graph has
    del kept[:2]
    capture.capture(work)
    kept.clear()
    capture.capture(work)
    assert [pool for pool, _ in cuda.used[3:]] == [1, 2]

    def refuses() -> torch.Tensor:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError):
        capture.capture(refuses)
    assert cuda.current is cuda
