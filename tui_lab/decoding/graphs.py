"""Steps of the decoder as CUDA graphs. A small model's step is a thousand kernels of a few microseconds, so
launching them one by one takes most of its time; a graph launches all of them at once. It repeats the same
kernels on the same addresses, so every step must have the same shapes: the cache's keys are read in buckets
of positions (:class:`~tui_lab.decoding.kv_cache.FixedShape`), and rows of ended lanes stay in the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakSet

import torch

from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.decoding.forward import CausalModel, embedding_weight, prefill, step

#: Fewer new tokens than this end before a graph has paid for its capture.
MIN_NEW_TOKENS = 24
#: Positions after the filled ones that a bucket has at least: a new bucket needs a new graph.
_ROOM = 128
#: Capacities are multiples of this (attention kernels need aligned masks), from 512 on at most an eighth more
#: than is needed: many requests share few of them, and with them their graphs.
_CAPACITY_STEP = 64
#: The largest difference between log-probabilities with fixed and with growing shapes in the test of support:
#: what rounding makes of other orders of summation.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_HALF_TOLERANCE = 0.2
#: Tokens of that test: a prompt, and one more for each step.
_TEST_TOKENS = (11, 5, 7, 3, 13, 2, 5, 11, 3, 7, 2, 13, 5, 7, 11, 3, 2)
_TEST_STEPS = 2

#: Work on the device that returns a tensor and does not wait for it.
DeviceStep = Callable[[], torch.Tensor]


class Captured(NamedTuple):
    """A captured step: the tensor of its result, a function that runs it, and the memory that it took."""

    result: torch.Tensor
    replay: Callable[[], None]
    size_bytes: int = 0


class StepCapture(Protocol):
    """Captures a step once, so that it can be repeated."""

    def warm_up(self, work: DeviceStep) -> torch.Tensor:
        """Runs the step as the warm-up of a capture; its result."""

    def capture(self, work: DeviceStep) -> Captured:
        """Captures the step without running it."""


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """The stream that steps are captured on: one, because libraries allocate a workspace of many megabytes
    for each that they run on."""
    return torch.cuda.Stream(device)


#: The graphs that exist.
_graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()


def _pool() -> Any:
    """The memory that the graphs share, which run one after the other; the result of one is used before the
    next runs. It can be named as long as one of them exists."""
    return next((graph.pool() for graph in _graphs), None) or torch.cuda.graph_pool_handle()


class CudaCapture:
    """Captures CUDA graphs."""

    def warm_up(self, work: DeviceStep) -> torch.Tensor:
        # on the stream of the capture, whose workspaces exist then
        stream, current = _stream(torch.cuda.current_device()), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            found = work()
        current.wait_stream(stream)
        return found

    def capture(self, work: DeviceStep) -> Captured:
        stream, pool, graph = _stream(torch.cuda.current_device()), _pool(), torch.cuda.CUDAGraph()
        # a capture that fails leaves its stream current: the outer context restores the one before. Other
        # threads of the process may use the device meanwhile
        with (
            torch.cuda.stream(stream),
            torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            before = torch.cuda.memory_reserved()
            found = work()
            taken = torch.cuda.memory_reserved() - before
        _graphs.add(graph)
        return Captured(found, graph.replay, taken)


class CaptureError(RuntimeError):
    """A step could not be captured; it has not been run."""


class CapturedStep:
    """A step that is run for the first time, captured at the second, and then replayed."""

    def __init__(self, work: DeviceStep, capture: StepCapture) -> None:
        self._work: DeviceStep | None = work  # None once captured: it refers to the request it began with
        self._capture = capture
        self._is_warm = False
        self._captured: Captured | None = None

    @property
    def is_captured(self) -> bool:
        return self._captured is not None

    @property
    def size_bytes(self) -> int:
        """The memory of the graph besides the tensors that it reads."""
        return self._captured.size_bytes if self._captured else 0

    def run(self) -> torch.Tensor:
        """The step's result; valid until the next one. Raises CaptureError."""
        if self._captured is None:
            assert self._work is not None
            if not self._is_warm:
                self._is_warm = True
                return self._capture.warm_up(self._work)
            try:
                self._captured = self._capture.capture(self._work)
            except RuntimeError as error:
                raise CaptureError(f"a step could not be captured: {first_line(error)}") from error
            self._work = None
        self._captured.replay()
        return self._captured.result


@dataclass(frozen=True)
class StepMode:
    """How steps run. ``fixed``: with fixed shapes; ``capture``: captured; ``reason``: why not."""

    fixed: bool = False
    capture: StepCapture | None = None
    reason: str = ""


def choose_mode(model: CausalModel, new_tokens: int) -> StepMode:
    """Captured steps on CUDA, where the model supports them and the answers are long enough."""
    device = embedding_weight(model).device.type
    if device != "cuda":
        return StepMode()
    if new_tokens < MIN_NEW_TOKENS:
        return StepMode(reason=f"fewer than {MIN_NEW_TOKENS} new tokens do not pay for a CUDA graph")
    if problem := fixed_shape_problem(model):
        return StepMode(reason=problem)
    return StepMode(True, CudaCapture())


def capacity_of(positions: int) -> int:
    """The positions that a cache of fixed shapes has, of which a request needs ``positions``."""
    multiple = max(_CAPACITY_STEP, 1 << max(0, positions.bit_length() - 4))
    return -(-positions // multiple) * multiple


def bucket_of(length: int, capacity: int) -> int:
    """The positions that the steps after ``length`` filled ones read: a power of two with some space, or the
    whole capacity if that is not much more."""
    bucket = 1 << (length + _ROOM - 1).bit_length()
    return capacity if 3 * bucket >= 2 * capacity else bucket


_problems: WeakKeyDictionary[CausalModel, str] = WeakKeyDictionary()


def fixed_shape_problem(model: CausalModel) -> str:
    """Why a model cannot be decoded with fixed shapes, or "". Tested once, on a few tokens of two rows."""
    if model not in _problems:
        _problems[model] = _test_fixed_shapes(model)
    return _problems[model]


def _test_fixed_shapes(model: CausalModel) -> str:
    kind = sanitize(str(model.config.model_type))
    try:
        growing, fixed = _test_logprobs(model, False), _test_logprobs(model, True)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return f"{kind} models do not support fixed shapes ({type(error).__name__}: {first_line(error)})"
    difference = float((growing - fixed).abs().max())
    if difference <= _TOLERANCE.get(model.dtype, _HALF_TOLERANCE):
        return ""
    return f"{kind} models do not support fixed shapes (log-probabilities differ by {difference:.2g})"


def _test_logprobs(model: CausalModel, fixed: bool) -> torch.Tensor:
    """Log-probabilities (steps, 2, V) after the test's prompt."""
    size = embedding_weight(model).shape[0]
    device = embedding_weight(model).device
    tokens = torch.tensor([token % size for token in _TEST_TOKENS], device=device)
    read = prefill(model, tokens[None, :-_TEST_STEPS])
    capacity = capacity_of(len(tokens))
    read.cache.expand([0, 0], capacity)
    if fixed:
        read.cache.fix_shapes(capacity)
    found = []
    with torch.inference_mode():
        for token in tokens[-_TEST_STEPS:]:
            logits, _ = step(model, token.expand(2), read.cache)
            if read.cache.fixed is not None:
                read.cache.fixed.position.add_(1)
                read.cache.advance()
            found.append(logits.log_softmax(-1))
    return torch.stack(found)
