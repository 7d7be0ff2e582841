"""What this machine would compute on, as far as the lab can know without torch: the driver's word for GPUs,
the system's for the rest. The run looks for itself and has the last word."""

from __future__ import annotations

import os
import platform
import sys

from tui_lab import gpu
from tui_lab.resolution import DeviceFacts
from tui_lab.telemetry import visible_gpus


def threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Main memory; 0 when the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def local_device(cards: list[gpu.Gpu] | None = None) -> DeviceFacts:
    """The device that a run would take: the first that CUDA shows it."""
    shown = visible_gpus(gpu.sample() if cards is None else cards, os.environ)
    if shown:
        card = shown[0]
        return DeviceFacts("cuda", card.name, card.memory_total_bytes or 0, bool(card.bf16), threads())
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return DeviceFacts("mps", "Apple's GPU", memory_bytes(), False, threads())
    return DeviceFacts("cpu", "the CPU", memory_bytes(), gpu.cpu_has_bf16(), threads())
