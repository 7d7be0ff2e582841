"""The device that a run computes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DeviceFacts:
    """A device. ``bf16``: whether it computes bfloat16 natively; ``threads``: CPU threads of the process."""

    type: Literal["cuda", "mps", "cpu"]
    name: str
    memory_bytes: int
    bf16: bool
    threads: int
