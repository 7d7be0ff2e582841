"""The numeric parts of Learn: scaling laws, number formats and the spectrum of a low-rank change. Pure
functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: L(N, D) = E + A / N^alpha + B / D^beta: Hoffmann et al. 2022, "Training Compute-Optimal Large Language
#: Models", approach 3.
_E, _A, _B, _ALPHA, _BETA = 1.69, 406.4, 410.7, 0.34, 0.28


def chinchilla_loss(parameters: float, tokens: float) -> float:
    """The predicted loss (nats a token) of a model of N parameters pretrained on D tokens."""
    found: float = _E + _A / parameters**_ALPHA + _B / tokens**_BETA
    return found


def compute_optimal(compute: float) -> tuple[float, float]:
    """The N and D with the lowest predicted loss for ``compute`` = 6 N D floating-point operations: the
    closed form of the same paper (equation 4)."""
    g = (_ALPHA * _A / (_BETA * _B)) ** (1 / (_ALPHA + _BETA))
    a, b = _BETA / (_ALPHA + _BETA), _ALPHA / (_ALPHA + _BETA)
    return g * (compute / 6) ** a, (compute / 6) ** b / g


def kaplan_losses(parameters: float, tokens: float, compute: float) -> tuple[float, float, float]:
    """L(N), L(D) and L(C), each where nothing else is short: Kaplan et al. 2020, "Scaling Laws for Neural
    Language Models", table 5. ``compute`` in floating-point operations; the paper counts PF-days."""
    days = compute / (1e15 * 86_400)
    return (8.8e13 / parameters) ** 0.076, (5.4e13 / tokens) ** 0.095, (3.1e8 / days) ** 0.050


# --- number formats -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FloatFormat:
    """A floating-point format. ``dtype`` is torch's name."""

    name: str
    dtype: str
    exponent: int
    mantissa: int


FLOATS = (
    FloatFormat("fp32", "float32", 8, 23),
    FloatFormat("bf16", "bfloat16", 8, 7),
    FloatFormat("fp16", "float16", 5, 10),
    FloatFormat("fp8 (e4m3)", "float8_e4m3fn", 4, 3),
)
#: Weights that share one scale in NF4, as bitsandbytes has them.
NF4_BLOCK = 64
#: The 16 levels of NF4, Dettmers et al. 2023, "QLoRA", appendix E.
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


def bits_of(value: float, form: FloatFormat) -> tuple[str, float]:
    """The bits of a value as "sign exponent mantissa", and the value that they stand for. A value beyond the
    range becomes infinite, in fp8 e4m3, which has no infinity, 448."""
    import torch

    stored = torch.tensor([value], dtype=torch.float32).to(getattr(torch, form.dtype))
    size = 1 + form.exponent + form.mantissa
    whole = {8: torch.uint8, 16: torch.int16, 32: torch.int32}[size]
    bits = format(int(stored.view(whole).item()) & (2**size - 1), f"0{size}b")
    return f"{bits[0]} {bits[1 : 1 + form.exponent]} {bits[1 + form.exponent :]}", float(
        stored.float().item()
    )


def rounded(weights: Tensor) -> dict[str, Tensor]:
    """A matrix (rows, columns) as each format stores it, as float32. int8: one scale a row (LLM.int8 without
    its outliers); NF4: one scale for 64 neighbours, which is not quantised itself."""
    import torch

    found = {form.name: weights.to(getattr(torch, form.dtype)).float() for form in FLOATS}
    scale = weights.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
    found["int8"] = (weights / scale).round() * scale
    flat = weights.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % NF4_BLOCK)).reshape(-1, NF4_BLOCK)
    top = padded.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    levels = torch.tensor(NF4_LEVELS)
    middles = (levels[1:] + levels[:-1]) / 2
    nearest = levels[torch.bucketize((padded / top).contiguous(), middles)]
    found["NF4"] = (nearest * top).reshape(-1)[: len(flat)].reshape(weights.shape)
    return found


def relative_error(weights: Tensor, stored: Tensor) -> float:
    """The root mean square error by the root mean square of the weights."""
    return float((weights - stored).square().mean().sqrt() / weights.square().mean().sqrt())


def error_histogram(weights: Tensor, stored: Tensor, step: float) -> list[float]:
    """Shares of the errors in bins of ``step``, −4 to 4 bins around 0; the outer bins hold all beyond."""
    import torch

    bins = ((stored - weights) / step).round().clamp(-4, 4).long().reshape(-1) + 4
    counts = torch.bincount(bins, minlength=9)
    return [float(count) / bins.numel() for count in counts]


# --- LoRA ---------------------------------------------------------------------------------------------


def spectrum(a: Tensor, b: Tensor, scale: float) -> list[float]:
    """The singular values of scale · B·A, largest first; a (r, in), b (out, r). Computed on r x r matrices:
    with B = Q_b R_b and Aᵀ = Q_a R_a they are those of R_b R_aᵀ."""
    import torch

    r_a = torch.linalg.qr(a.double().T).R
    r_b = torch.linalg.qr(b.double()).R
    return [float(value) * scale for value in torch.linalg.svdvals(r_b @ r_a.T)]


def used_directions(values: list[float], share: float = 0.9) -> int:
    """How many of the largest singular values hold ``share`` of the sum of squares."""
    total, so_far = math.fsum(value**2 for value in values), 0.0
    for count, value in enumerate(values, 1):
        so_far += value**2
        if so_far >= share * total:
            return count
    return len(values)
