"""What is known about the device that a run will use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DeviceFacts:
    """What a run would compute on. ``bf16``: whether it computes bfloat16 natively."""

    type: Literal["cuda", "mps", "cpu"]
    name: str
    memory_bytes: int
    bf16: bool
    threads: int
