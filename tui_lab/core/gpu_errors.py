"""Recognises errors of a GPU that failed, went away or is taken, by CUDA's messages; no torch."""

from __future__ import annotations

from tui_lab.core.sanitize import first_line

#: In CUDA's messages (cudaGetErrorString): another process has the GPU to itself.
_TAKEN = ("busy or unavailable", "exclusive")
#: The GPU or its driver failed; everything in its memory is lost.
_FAILED = (
    "unspecified launch failure",
    "no cuda-capable device",
    "uncorrectable ecc error",
    "ecc uncorrectable",
    "gpu is lost",
    "fallen off the bus",
    "driver shutting down",
    "launch timed out",
    "hardware stack error",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "nvlink",
)


def explain(error: BaseException) -> str:
    """What happened to the GPU and what to do, as a sentence; "" for any other error."""
    if not isinstance(error, RuntimeError):
        return ""
    text = str(error).lower()
    if "cuda" not in text and "nccl" not in text:
        return ""
    reason = first_line(error)[:200]
    if any(sign in text for sign in _TAKEN):
        return (
            f"another process has the GPU to itself ({reason}): end it (`nvidia-smi` lists it), or choose "
            "another GPU with CUDA_VISIBLE_DEVICES"
        )
    if any(sign in text for sign in _FAILED):
        return (
            f"the GPU failed ({reason}): saved files are intact; resume when `nvidia-smi` shows "
            "the GPU again, which may take a restart of the machine"
        )
    return ""
