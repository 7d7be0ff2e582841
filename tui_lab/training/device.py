"""What the run process computes on, and how much memory it uses, asked from torch itself."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import torch

from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import cpu_has_bf16


def detect() -> DeviceFacts:
    """The device this process would train on: the first visible CUDA card, Apple's, else the CPU."""
    threads = torch.get_num_threads()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return DeviceFacts(
            "cuda", properties.name, properties.total_memory, torch.cuda.is_bf16_supported(False), threads
        )
    if torch.backends.mps.is_available():
        return DeviceFacts(
            "mps", platform.processor() or "Apple", psutil.virtual_memory().total, False, threads
        )
    name = platform.processor() or platform.machine()
    return DeviceFacts("cpu", name, psutil.virtual_memory().total, cpu_has_bf16(), threads)


def synchronize(device: DeviceFacts | None) -> None:
    """Waits for the GPU, so that a measured time is the time of the work."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize()


def memory_bytes(device: DeviceFacts | None) -> dict[str, int]:
    """Memory in use now, by what it is: ``cuda_allocated``, ``cuda_reserved`` and ``cuda_peak`` (the
    highest ever allocated), of this process by torch's own account, and ``gpu_used`` (the whole card,
    every process); ``resident`` without a GPU."""
    if device is not None and device.type == "cuda":
        free, total = torch.cuda.mem_get_info()  # of this process's own device
        return {
            "cuda_allocated": torch.cuda.memory_allocated(),
            "cuda_reserved": torch.cuda.memory_reserved(),
            "cuda_peak": torch.cuda.max_memory_allocated(),
            "gpu_used": total - free,
        }
    return {"resident": psutil.Process(os.getpid()).memory_info().rss}


def peak_resident_bytes(status: str = "/proc/self/status") -> int:
    """The most main memory that this process ever had, as Linux remembers it; 0 where nothing does."""
    try:
        lines = Path(status).read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
