"""How fast lanes were decoded: forwards and tokens a second, and the share of the memory bandwidth, which
limits decoding: every forward reads all weights and all keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from tui_lab.decoding.forward import CausalModel, embedding_weight
from tui_lab.decoding.records import DecodingSpeed, LaneResult
from tui_lab.hardware import gpu_specs


@dataclass
class StepWork:
    """What the steps of one batch after its prompt took."""

    reason: str = ""  # why they are not captured, where that would be faster
    steps: int = 0
    captured: int = 0  # of them
    seconds: float = 0.0
    bytes_read: int = 0

    def count(self, bytes_read: int) -> None:
        """Counts one step that reads so many bytes."""
        self.steps += 1
        self.bytes_read += bytes_read


def weight_bytes(model: CausalModel) -> int:
    """Bytes of weights that a forward of a few tokens reads: all but an input embedding of its own, of which
    it reads single rows."""
    embedding = embedding_weight(model)
    head = model.get_output_embeddings()
    is_tied = head is not None and getattr(head, "weight", None) is embedding
    total = 0
    for weight in model.parameters():
        if weight is embedding and not is_tied:
            continue
        total += weight.numel() * weight.element_size()
        # bitsandbytes stores the scales of 4-bit blocks beside the weights
        scales = getattr(getattr(weight, "quant_state", None), "absmax", None)
        if isinstance(scales, torch.Tensor):
            total += scales.numel() * scales.element_size()
    return total


def bandwidth_bytes_s(device: torch.device) -> float | None:
    """The memory bandwidth of a GPU by the table of cards; None for unknown cards and other devices."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    card = gpu_specs.lookup(properties.name, properties.total_memory)
    return card.bandwidth_bytes_s if card else None


def speed_of(
    works: Sequence[StepWork], results: Iterable[LaneResult], bandwidth: float | None
) -> DecodingSpeed:
    """The speed of batches that were decoded together. ``bandwidth``: of the device, in bytes a second."""
    results = list(results)
    steps, seconds = sum(work.steps for work in works), sum(work.seconds for work in works)
    whole_s = max((result.seconds for result in results), default=0.0)
    share = None
    if bandwidth and seconds:
        share = sum(work.bytes_read for work in works) / seconds / bandwidth
    return DecodingSpeed(
        steps=steps,
        steps_per_s=steps / seconds if seconds else 0.0,
        tok_per_s=sum(len(result.token_ids) for result in results) / whole_s if whole_s else 0.0,
        bandwidth_share=share,
        captured_steps=sum(work.captured for work in works),
        reason="; ".join(dict.fromkeys(work.reason for work in works if work.reason)),
    )
