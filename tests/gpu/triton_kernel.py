"""The smallest Triton kernel: it shows whether a compiler is there. Imported only where Triton is."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 256


@triton.jit
def _add_one(source: Any, target: Any, count: Any, BLOCK: tl.constexpr) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + at, tl.load(source + at, mask=at < count) + 1, mask=at < count)


def add_one(values: torch.Tensor) -> torch.Tensor:
    """The values (N,) plus 1."""
    result = torch.empty_like(values)
    _add_one[(triton.cdiv(values.numel(), BLOCK),)](values, result, values.numel(), BLOCK=BLOCK)
    return result
