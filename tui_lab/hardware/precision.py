"""The type that a model is computed in on a device: one rule for training, the playground and measurements.
No torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

ComputeDtype = Literal["bfloat16", "float16", "float32"]

#: How weights can be stored, with names for people.
QUANTIZATIONS = {"none": "unquantised", "nf4": "NF4", "int8": "int8", "fp8": "FP8"}

#: Activations of these families overflow float16's 65,504 (large residual streams).
OVERFLOW_FLOAT16 = ("gemma", "gemma2", "gemma3", "gemma3_text")


class DtypeChoice(NamedTuple):
    """A compute type with the reason for it."""

    dtype: ComputeDtype
    reason: str


def best_dtype(device_type: str, bf16: bool, model_type: str | None) -> DtypeChoice:
    """The type that a device is fast and safe at. ``device_type``: cuda, mps or cpu; ``bf16``: whether it has
    bfloat16 of its own (on CUDA from compute capability 8.0); ``model_type``: transformers' name of the
    architecture, None if unknown."""
    if device_type == "mps":
        return DtypeChoice("float32", "float32 because Apple's GPU is safest with it")
    if device_type != "cuda":
        reason = "float32 because most CPUs compute it fastest, and nothing is rounded away"
        return DtypeChoice("float32", reason)
    if bf16:
        return DtypeChoice("bfloat16", "bf16 because the GPU has it")
    if model_type in OVERFLOW_FLOAT16:
        return DtypeChoice(
            "float32", f"float32 because the GPU has no bf16 and {model_type} overflows float16"
        )
    return DtypeChoice("float16", "float16 because the GPU has no bf16")
