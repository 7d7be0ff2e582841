"""Counts the bytes of live tensors: a dispatch mode that sees the outputs of every operation, and forgets a
storage when its last tensor is freed. Over fake tensors it counts what a training step would need without
computing it. Sizes are rounded up as CUDA's caching allocator rounds them.

Fake tensors have no values, so reads of them are answered here: a boolean is ``uniform``, a number is 1, and
a mask selects every position (the upper bound).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tui_lab.training.torch_internals import LOCAL_SCALAR, storage_key

#: Block size of CUDA's caching allocator (c10/cuda/CUDACachingAllocator, kMinBlockSize).
ROUNDING_BYTES = 512

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default


def rounded(size: int) -> int:
    """``size`` in bytes, rounded up to whole blocks."""
    return -(-size // ROUNDING_BYTES) * ROUNDING_BYTES


class LiveStorages(TorchDispatchMode):
    """``live_bytes``: now; ``peaks``: the highest by ``phase``. ``transient(func, args)``: bytes that a
    kernel allocates inside and frees before it returns."""

    def __init__(
        self, uniform: bool = True, transient: Callable[[object, tuple[Any, ...]], int] = lambda *_: 0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.phase = ""
        self.peaks: dict[str, int] = {}
        self.uniform, self._transient = uniform, transient
        self._known: dict[int, weakref.ref[object]] = {}

    def add(self, tensors: Iterable[Tensor]) -> int:
        """Counts existing tensors; returns the bytes that were not counted yet."""
        before = self.live_bytes
        for tensor in tensors:
            self.track(tensor)
        return self.live_bytes - before

    def track(self, tensor: Tensor) -> None:
        """Counts the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        key = storage_key(tensor)
        if key in self._known:
            return
        size = rounded(storage.nbytes())
        self.live_bytes += size

        def forget(_: object) -> None:
            self.live_bytes -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is _DEVICE:  # two thirds of all calls; the answer is always the same
            return args[0].fake_device if isinstance(args[0], FakeTensor) else func(*args)
        if func is LOCAL_SCALAR:
            dtype = args[0].dtype
            return self.uniform if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1
        if func is _aten.index.Tensor and _masks(args[1]):
            result = _selected(args[0], args[1])
        elif func is _aten.nonzero.default:
            result = args[0].new_zeros((args[0].numel(), args[0].dim()), dtype=torch.int64)
        elif func is _aten.masked_select.default:
            result = args[0].flatten().clone()
        else:
            result = func(*args, **kwargs)
        for leaf in (result,) if isinstance(result, Tensor) else pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.track(leaf)
        now = self.live_bytes + self._transient(func, args)
        if now > self.peaks.get(self.phase, 0):
            self.peaks[self.phase] = now
        return result


def _masks(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _selected(tensor: Tensor, indices: Any) -> Tensor:
    """The elements that a mask over the first dimensions selects when it is true everywhere."""
    [mask] = indices
    return tensor.reshape(-1, *tensor.shape[mask.dim() :]).clone()
