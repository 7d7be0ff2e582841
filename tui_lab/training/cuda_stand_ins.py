"""Stand-ins that make fake tensors on the CPU behave as CUDA tensors would: which operations allocate, and
how much. They replace parts of trl 1.16, transformers 5.23 and torch while the memory probe runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor

from tui_lab.training import packed_attention
from tui_lab.training.live_storages import rounded


@contextmanager
def operations_of(device: str) -> Iterator[None]:
    """Fake tensors that can be read as if they had values, and for ``cuda`` its operations where they differ
    from the CPU's."""
    with ExitStack() as stack:
        stack.enter_context(patch("transformers.masking_utils.is_tracing", lambda *_: False))
        stack.enter_context(patch.object(FakeTensor, "tolist", lambda tensor: [1.0] * tensor.numel()))
        # bounds of documents have no values, and the kernel is known by its shapes
        stack.enter_context(patch.object(packed_attention, "document_by_document", packed_attention.kernel))
        if device == "cuda":
            for name, stand_in in _CUDA.items():
                stack.enter_context(patch(name, stand_in, create=name.endswith(".triton")))
        yield


class _Launched:
    """A Triton kernel: it works in place and allocates nothing."""

    def __getitem__(self, _grid: object) -> Callable[..., None]:
        return lambda *_, **__: None


class _Triton:
    """The function of Triton that is called outside of kernels."""

    @staticmethod
    def cdiv(numerator: int, denominator: int) -> int:
        return -(-numerator // denominator)


def _fused_dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = True, _inplace: bool = False
) -> torch.Tensor:
    if not training or p == 0:
        return input
    return torch.native_dropout(input, p, True)[0]


_scaled_dot_product_attention = torch.nn.functional.scaled_dot_product_attention


def _flash_attention(*args: Any, **kwargs: Any) -> torch.Tensor:
    """Without dropout: on CUDA it happens inside the fused kernel, while the CPU computes it apart."""
    return _scaled_dot_product_attention(*args, **{**kwargs, "dropout_p": 0.0})


_is_autocast_enabled = torch.is_autocast_enabled


def _autocast_enabled(device_type: str = "cpu") -> bool:
    """Without an argument torch says it of CUDA; here the CPU's autocast stands in for it."""
    return _is_autocast_enabled(device_type)


_LAUNCHED = _Launched()
#: What trl and torch do differently on CUDA: kernels and products that write in place.
_CUDA: dict[str, object] = {
    "torch.is_autocast_enabled": _autocast_enabled,
    "torch.nn.functional.dropout": _fused_dropout,
    "torch.nn.functional.scaled_dot_product_attention": _flash_attention,
    "trl.trainer.utils._use_triton": lambda _: True,
    **{
        f"trl.kernels.{module}.{name}": stand_in
        for module, kernels in {
            "chunked_logprob": ("_forward_kernel", "_backward_kernel"),
            "chunked_divergence": ("_stats_kernel", "_backward_kernel"),
        }.items()
        for name, stand_in in {
            **dict.fromkeys(kernels, _LAUNCHED),
            "_use_triton": lambda _: True,
            "_addmm_fp32": lambda *_: None,
            "triton": _Triton,
        }.items()
    },
    "trl.kernels.chunked_divergence._project": lambda *_: None,
}


_GEMM_4BIT = torch.ops.bitsandbytes.gemm_4bit.default


def dequantized_bytes(func: object, args: tuple[Any, ...]) -> int:
    """Bytes of the weights that bitsandbytes dequantises inside a product (over about 1,500 rows); 0 for
    other operations."""
    if func is not _GEMM_4BIT:
        return 0
    out_features, in_features = args[2]
    return rounded(out_features * in_features * args[0].element_size())
