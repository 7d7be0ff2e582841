"""How much memory there is for a run, and where: the GPUs that CUDA would show a run, as the driver sees them
now, else main memory; or a card of the table as it is when nothing else runs on it. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.hardware import cpu, gpu
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu_specs import GpuSpec
from tui_lab.hardware.telemetry import visible_gpus

#: The GPUs that CUDA shows a process.
GPUS_ENV = "CUDA_VISIBLE_DEVICES"
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryBudget:
    """A place for a run. ``free_bytes`` is None where nobody says; ``uuid`` only of a GPU of this machine;
    ``basis``: what ``free_bytes`` is, in words."""

    device: DeviceFacts
    free_bytes: int | None
    label: str
    basis: str
    uuid: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be told so that it takes this GPU; nothing where there is no choice."""
        return {GPUS_ENV: self.uuid} if self.uuid else {}

    @property
    def kind(self) -> str:
        """What :func:`tui_lab.forecast.memory.forecast` calls the device."""
        return "cuda" if self.device.type == "cuda" else "cpu"


def of_card(card: GpuSpec) -> MemoryBudget:
    """A card of the table that nothing else runs on."""
    return MemoryBudget(card.device_facts(), card.usable_bytes, card.name, "on an empty")


def of_gpu(found: gpu.Gpu, threads: int, number: str = "") -> MemoryBudget:
    """A GPU of this machine as it is now."""
    total, used = found.memory_total_bytes, found.memory_used_bytes
    free = None if total is None or used is None else max(0, total - used)
    device = DeviceFacts("cuda", found.name, total or 0, bool(found.bf16), threads)
    return MemoryBudget(device, free, f"{number}{found.name}", "free now on", found.uuid)


def of_main_memory(device: DeviceFacts, root: Path = _CGROUP) -> MemoryBudget:
    """Where there is no GPU: the memory that programs can still get."""
    return MemoryBudget(device, available_bytes(root), "main memory", "free now in")


def gpus(cards: Sequence[gpu.Gpu], environment: Mapping[str, str], threads: int) -> list[MemoryBudget]:
    """The GPUs that CUDA would show a run, in CUDA's order."""
    shown = visible_gpus(cards, environment)
    many = len(shown) > 1
    return [of_gpu(card, threads, f"GPU {place}: " if many else "") for place, card in enumerate(shown)]


def select(rooms: Sequence[MemoryBudget], environment: Mapping[str, str]) -> int:
    """The place that a run had better take: the first where CUDA_VISIBLE_DEVICES says which, else the
    freest."""
    if not rooms or environment.get(GPUS_ENV) is not None:
        return 0
    return max(range(len(rooms)), key=lambda place: (rooms[place].free_bytes or 0, -place))


def detect(threads: int | None = None) -> list[MemoryBudget]:
    """Every place for a run on this machine, as it is now; never empty. Asks the driver: not for an event
    loop."""
    threads = threads or cpu.threads()
    found = gpus(gpu.sample(), os.environ, threads)
    return found or [of_main_memory(cpu.without_gpu())]


def current() -> MemoryBudget:
    """The place that a run of one process takes when nobody chose one for it. Asks the driver."""
    places = detect()
    return places[select(places, os.environ)]


def free_bytes(device_type: str) -> int | None:
    """Memory that this process can still allocate on its current device (cuda, cpu …): on a GPU what the
    driver has and what torch has reserved without using it. None where it is not known. Needs torch."""
    if device_type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    return available_bytes() if device_type == "cpu" else None


def available_bytes(root: Path = _CGROUP) -> int | None:
    """Main memory that can still be had, as the system says, or less where this container has a limit."""
    import psutil

    try:
        free: int | None = int(psutil.virtual_memory().available)
    except (psutil.Error, OSError):
        free = None
    left = _left_in_container(root) if sys.platform == "linux" else None
    return min((each for each in (free, left) if each is not None), default=None)


def _left_in_container(root: Path) -> int | None:
    try:
        most = (root / "memory.max").read_text(encoding="ascii").strip()
        if not most.isdigit():
            return None
        used = int((root / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (root / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    # files that were read and can be dropped count as used
    return max(0, int(most) - used + int(stat.get("inactive_file", 0)))
