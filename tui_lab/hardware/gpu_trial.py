"""Tries on the current GPU what a run needs there: a Triton kernel, a 4-bit layer, arithmetic in the compute
type. Each trial returns why it fails, "" where it works. Needs torch and CUDA."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tui_lab.core.sanitize import first_line

if TYPE_CHECKING:
    from torch import Tensor

#: Triton compiles a helper in C at its first kernel.
COMPILER_ADVICE = (
    "install a C compiler and the headers of this Python (Debian: apt install gcc python3-dev), or set CC"
)
#: Relative error of a product of 64 terms in bfloat16 or of NF4's rounding, with room.
TOLERANCE, NF4_TOLERANCE = 0.05, 0.2


class GpuTrial(msgspec.Struct, frozen=True):
    """Why each trial failed, "" where it worked; ``arithmetic`` in ``dtype``; memory of the GPU in bytes."""

    triton: str
    nf4: str
    arithmetic: str
    dtype: str
    free_bytes: int
    total_bytes: int


def reason(trial: Callable[[], str]) -> str:
    """What a trial says, or how it failed."""
    try:
        return trial()
    except Exception as error:  # noqa: BLE001 (any failure of a library is the finding)
        return f"{type(error).__name__}: {first_line(error)}"[:300]


def triton_problem(device: str = "cuda") -> str:
    """Why Triton cannot compile and run a kernel; "" where it can."""
    return reason(lambda: _try_triton(device))


def _try_triton(device: str) -> str:
    import torch

    try:
        from tui_lab.hardware.triton_kernel import double
    except ImportError:
        return "it is not installed"
    values = torch.arange(100, device=device, dtype=torch.float32)
    double[(2,)](values, 100, block=64)
    expected = 2 * torch.arange(100, dtype=torch.float32)
    return "" if torch.equal(values.cpu(), expected) else "its kernel gives wrong values"


def _try_nf4(device: str) -> str:
    """A 4-bit layer, forward and backward."""
    import torch
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(0)
    layer = Linear4bit(64, 64, bias=False, compute_dtype=torch.float16, quant_type="nf4")
    weight = layer.weight.detach().clone().float()
    layer = layer.to(device)
    inputs = torch.randn(8, 64, device=device, dtype=torch.float16, requires_grad=True)
    found = layer(inputs)
    found.float().sum().backward()
    error = relative_error(found.detach(), inputs.detach().float().cpu() @ weight.T)
    if inputs.grad is None or not error <= NF4_TOLERANCE:  # NaN, too
        return f"a layer gives wrong values (relative error {error:.2f})"
    return ""


def _try_arithmetic(device: str, dtype: str) -> str:
    """A product in the type that runs compute in."""
    import torch

    torch.manual_seed(0)
    left, right = torch.randn(64, 64), torch.randn(64, 64)
    kind = getattr(torch, dtype)
    found = left.to(device, kind) @ right.to(device, kind)
    error = relative_error(found, left @ right)
    return "" if error < TOLERANCE else f"a product is wrong (relative error {error:.2f})"


def relative_error(found: Tensor | None, expected: Tensor | None) -> float:
    """The relative error (Frobenius) of a result of the GPU; infinite where there is none."""
    if found is None or expected is None:
        return math.inf
    return float((found.float().cpu() - expected).norm() / expected.norm())


def _dtype() -> str:
    import torch

    from tui_lab.hardware.gpu import BF16_CAPABILITY
    from tui_lab.hardware.precision import best_dtype

    return best_dtype("cuda", torch.cuda.get_device_capability() >= BF16_CAPABILITY, None).dtype


def try_everything() -> GpuTrial:
    """All trials."""
    import torch

    free, total = torch.cuda.mem_get_info()
    dtype = _dtype()
    return GpuTrial(
        triton=triton_problem(),
        nf4=reason(lambda: _try_nf4("cuda")),
        arithmetic=reason(lambda: _try_arithmetic("cuda", dtype)),
        dtype=dtype,
        free_bytes=free,
        total_bytes=total,
    )
