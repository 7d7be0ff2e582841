"""The device of a run without an NVIDIA GPU, as far as the lab can know it without torch. The run detects its
device itself."""

from __future__ import annotations

import os
import platform
import sys

from tui_lab.hardware import gpu
from tui_lab.hardware.device import DeviceFacts


def threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Main memory in bytes; 0 when unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def without_gpu() -> DeviceFacts:
    """The device of a run where CUDA shows no GPU."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return DeviceFacts("mps", "Apple's GPU", memory_bytes(), False, threads())
    return DeviceFacts("cpu", "the CPU", memory_bytes(), gpu.cpu_has_bf16(), threads())
