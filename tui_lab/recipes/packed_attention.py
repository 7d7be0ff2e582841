"""Whether rows that are packed into one are computed by their bounds, without a mask of the whole batch."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from tui_lab.hardware.device import DeviceFacts

#: Architectures whose packed rows were compared with the same rows alone, without a mask (losses and
#: gradients, tests/training/test_packed_attention.py).
VARLEN_MODELS = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo2", "granite", "phi", "phi3",
    "gpt_neox", "gpt2", "smollm3", "cohere", "starcoder2", "olmo", "olmo3", "glm", "glm4", "ernie4_5",
    "exaone4",
)  # fmt: skip
#: The first torch whose attention for packed rows is causal and takes windows.
VARLEN_TORCH = (2, 11)


def why_mask(
    model_type: str | None, device: DeviceFacts, is_sdpa: bool, is_float32: bool, on_cpu: bool
) -> str:
    """Why packed rows need a mask; "" where they do not. ``on_cpu``: bounds are wanted without CUDA too."""
    if not is_sdpa:
        return f"packed rows share a mask because {model_type} caps its attention logits, as varlen does not"
    if model_type not in VARLEN_MODELS:
        name = model_type or "this architecture"
        return f"packed rows share a mask because {name} was not compared without one"
    if device.type != "cuda":
        return "" if on_cpu else "packed rows share a mask because the kernel without one needs CUDA"
    if not device.bf16 or is_float32:
        return "packed rows share a mask because the kernel without one needs a card with bf16, and 16 bits"
    if (torch := _torch_version()) < VARLEN_TORCH:
        found, needed = (".".join(map(str, each)) for each in (torch, VARLEN_TORCH))
        return f"packed rows share a mask because torch {found} has no kernel without one; torch {needed} has"
    return ""


@lru_cache(maxsize=1)
def _torch_version() -> tuple[int, int]:
    try:
        major, minor, *_ = version("torch").split(".")
        return int(major), int(minor)
    except (PackageNotFoundError, ValueError):
        return 0, 0
