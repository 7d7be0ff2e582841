"""The memory that a run can use: of the GPUs that CUDA would show it, as the driver reports them now, else
main memory; or of an empty card of the table. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.hardware import cpu, cuda_support, gpu
from tui_lab.hardware.cuda_support import GPUS_ENV
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu_specs import GpuSpec
from tui_lab.hardware.telemetry import visible_gpus

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryBudget:
    """A device for a run with its free memory. ``free_bytes`` is None where unknown; ``uuid`` is set for a
    GPU of this machine; ``basis`` says what ``free_bytes`` is; ``problem``: why a run would be refused."""

    device: DeviceFacts
    free_bytes: int | None
    label: str
    basis: str
    uuid: str | None = None
    problem: str = ""

    def check(self) -> MemoryBudget:
        """Itself. Raises LabError where a run on it would be refused."""
        if self.problem:
            raise LabError(self.problem)
        return self

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a process use this GPU; empty without a choice."""
        return {GPUS_ENV: self.uuid} if self.uuid else {}

    @property
    def kind(self) -> str:
        """The device kind of :func:`tui_lab.forecast.memory.forecast`."""
        return "cuda" if self.device.type == "cuda" else "cpu"


def from_spec(card: GpuSpec) -> MemoryBudget:
    """An empty card of the table."""
    return MemoryBudget(card.device_facts(), card.usable_bytes, card.name, "on an empty")


def from_gpu(found: gpu.Gpu, threads: int, number: str = "") -> MemoryBudget:
    """A GPU of this machine, from a sample."""
    total, used = found.memory_total_bytes, found.memory_used_bytes
    if found.shares_main_memory:
        total, free = cpu.memory_bytes(), available_bytes()
    else:
        free = None if total is None or used is None else max(0, total - used)
    device = DeviceFacts("cuda", found.name, total or 0, bool(found.bf16), threads)
    return MemoryBudget(device, free, f"{number}{found.name}", "free now on", found.uuid)


def from_main_memory(device: DeviceFacts, root: Path = _CGROUP) -> MemoryBudget:
    """Main memory that is still available."""
    return MemoryBudget(device, available_bytes(root), "main memory", "free now in")


def gpu_budgets(cards: Sequence[gpu.Gpu], environment: Mapping[str, str], threads: int) -> list[MemoryBudget]:
    """The GPUs that CUDA would show a run, in CUDA's order."""
    shown = visible_gpus(cards, environment)
    many = len(shown) > 1
    return [from_gpu(card, threads, f"GPU {place}: " if many else "") for place, card in enumerate(shown)]


def select(budgets: Sequence[MemoryBudget], environment: Mapping[str, str]) -> int:
    """The index of the budget that a run should use: the first where CUDA_VISIBLE_DEVICES is set, else the
    one with the most free memory of those that a run can use."""
    if not budgets or environment.get(GPUS_ENV) is not None:
        return 0

    def rank(index: int) -> tuple[bool, int, int]:
        return not budgets[index].problem, budgets[index].free_bytes or 0, -index

    return max(range(len(budgets)), key=rank)


def on_cpu(problem: str = "") -> MemoryBudget:
    """Main memory, for a run on the CPU."""
    return replace(from_main_memory(cpu.without_gpu()), problem=problem)


def detect(threads: int | None = None) -> list[MemoryBudget]:
    """Every budget of this machine as it is now; never empty. A GPU that torch cannot use is among them, with
    the problem. Queries the driver, so it does not belong in an event loop."""
    threads = threads or cpu.threads()
    machine = cuda_support.survey()
    found = gpu_budgets(machine.cards, os.environ, threads)
    if not found:
        problem = cuda_support.problem_here(machine)
        return [on_cpu(problem.text if problem else "")]
    build = cuda_support.installed_torch()
    result = []
    for budget in found:
        chosen = {**os.environ, **budget.environment}
        problem = cuda_support.find_problem(machine, chosen, build)
        result.append(replace(budget, problem=problem.text if problem else ""))
    return result


def current(device: str = "auto") -> MemoryBudget:
    """The budget that a run of one process uses by default; ``device``: that of its recipe, auto or cpu.
    Queries the driver."""
    if device == "cpu":
        return on_cpu()
    budgets = detect()
    return budgets[select(budgets, os.environ)]


def take_gpu(device: str = "auto") -> None:
    """Makes this process, before its first use of CUDA, and its children use the GPU that :func:`current`
    chooses, or none. Raises LabError where torch cannot use it."""
    if device == "cpu":
        cuda_support.hide_gpus()
    else:
        os.environ.update(current().check().environment)


def free_bytes(device_type: str) -> int | None:
    """Memory that this process can still allocate on its current device (cuda, cpu …): on a GPU the driver's
    free memory plus what torch has reserved and does not use. None where unknown. Needs torch."""
    if device_type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    return available_bytes() if device_type == "cpu" else None


def available_bytes(root: Path = _CGROUP) -> int | None:
    """Available main memory in bytes, limited by the container's own limit; None where unknown."""
    import psutil

    try:
        free: int | None = int(psutil.virtual_memory().available)
    except (psutil.Error, OSError):
        free = None
    limit = _available_in_container(root) if sys.platform == "linux" else None
    return min((each for each in (free, limit) if each is not None), default=None)


def _available_in_container(root: Path) -> int | None:
    try:
        limit = (root / "memory.max").read_text(encoding="ascii").strip()
        if not limit.isdigit():
            return None
        used = int((root / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (root / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    # cached files count as used, but can be dropped
    return max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
