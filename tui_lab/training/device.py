"""The device that the run process computes on, and the memory it uses, by torch's own account."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import torch

from tui_lab.hardware.cuda_support import torch_device
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import BF16_CAPABILITY, cpu_has_bf16


def detect(wanted: str = "auto") -> DeviceFacts:
    """The device that this process would train on: the first visible CUDA card, Apple's GPU, else the CPU.
    ``wanted``: auto or cpu. Raises LabError where the driver shows a GPU that torch cannot use."""
    threads = torch.get_num_threads()
    match wanted if wanted == "cpu" else torch_device():
        case "cuda":
            properties = torch.cuda.get_device_properties(0)
            bf16 = (properties.major, properties.minor) >= BF16_CAPABILITY
            return DeviceFacts("cuda", properties.name, properties.total_memory, bf16, threads)
        case "mps":
            name = platform.processor() or "Apple"
            return DeviceFacts("mps", name, psutil.virtual_memory().total, False, threads)
    name = platform.processor() or platform.machine()
    return DeviceFacts("cpu", name, psutil.virtual_memory().total, cpu_has_bf16(), threads)


def synchronize(device: DeviceFacts | None) -> None:
    """Waits for queued GPU work, so that measured times include it."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize()


def memory_bytes(device: DeviceFacts | None) -> dict[str, int]:
    """Bytes in use now, by label: of this process ``cuda_allocated`` and ``cuda_reserved``, and ``gpu_used``
    of all processes on the card; ``resident`` without a GPU."""
    if device is not None and device.type == "cuda":
        free, total = torch.cuda.mem_get_info()  # of this process's current device
        return {
            "cuda_allocated": torch.cuda.memory_allocated(),
            "cuda_reserved": torch.cuda.memory_reserved(),
            "gpu_used": total - free,
        }
    return {"resident": psutil.Process(os.getpid()).memory_info().rss}


class CudaPeaks:
    """The highest allocated memory of this process on its GPU, in bytes: within optimiser steps
    (``cuda_peak``), and outside of them (``cuda_peak_outside``: loading, validation, samples, probes)."""

    def __init__(self) -> None:
        self.by_label: dict[str, int] = {}

    def end_phase(self, device: DeviceFacts | None, label: str) -> None:
        """Counts what was allocated since the last call for ``label``. Without a GPU there is nothing."""
        if device is None or device.type != "cuda":
            return
        self.by_label[label] = max(self.by_label.get(label, 0), torch.cuda.max_memory_allocated())
        torch.cuda.reset_peak_memory_stats()


def peak_resident_bytes(status: str = "/proc/self/status") -> int:
    """The highest resident memory of this process so far, bytes (Linux); 0 where it is not known."""
    try:
        lines = Path(status).read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
