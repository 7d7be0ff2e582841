"""The machine: processor, memory, GPUs, and the bundled model."""

from __future__ import annotations

from tui_lab.core.format import count, plural, size
from tui_lab.doctor.check import DoctorCheck
from tui_lab.hardware import cpu, gpu, memory_budget
from tui_lab.hardware.cuda_support import Machine
from tui_lab.hardware.nvidia_hardware import missing_driver
from tui_lab.models import catalog

#: A run of the bundled model needs about this much.
LOW_MEMORY_BYTES = 3 << 29
#: A share of a GPU's memory in use above which something else than a desktop uses it.
BUSY_SHARE = 0.5


def check_cpu() -> DoctorCheck:
    cores = cpu.threads()
    free = memory_budget.available_bytes()
    memory = f"{size(free)} memory free" if free is not None else "memory unknown"
    text = f"{plural(cores, 'core')}, {memory}"
    if free is not None and free < LOW_MEMORY_BYTES:
        needs = f"close other programs: a run of the bundled model needs about {size(LOW_MEMORY_BYTES)}"
        return DoctorCheck("CPU", "warn", text, needs)
    return DoctorCheck("CPU", "ok", text)


def check_gpu(seen: Machine) -> DoctorCheck:
    """The GPUs and how much of their memory is in use."""
    driver = seen.driver
    if not seen.cards:
        found = f"none (driver {driver.version})" if driver else "none found (no NVIDIA driver answers)"
        if seen.lost:
            advice = "`nvidia-smi` must show the GPU again, which may take a restart of the machine"
            return DoctorCheck("GPU", "fail", seen.lost, advice)
        if driver is None and (missing := missing_driver())[0]:
            return DoctorCheck("GPU", "warn", *missing)
        advice = "runs use the CPU, which is enough for the bundled model; larger models need an NVIDIA GPU"
        return DoctorCheck("GPU", "warn", found, advice)
    text = "; ".join(map(_card, seen.cards)) + (
        f"; driver {driver.version}" if driver and driver.version else ""
    )
    if busy := [card for card in seen.cards if _used_share(card) > BUSY_SHARE]:
        names = ", ".join(card.name for card in busy)
        return DoctorCheck(
            "GPU", "warn", text, f"other processes use the memory of {names}: `nvidia-smi` lists them"
        )
    if any(card.bf16 is False for card in seen.cards):
        advice = "compute in float32 or float16: bfloat16 needs compute capability 8.0 (the lab selects it)"
        return DoctorCheck("GPU", "ok", text, advice)
    return DoctorCheck("GPU", "ok", text)


def _used_share(card: gpu.Gpu) -> float:
    if not card.memory_total_bytes or card.memory_used_bytes is None:
        return 0.0
    return card.memory_used_bytes / card.memory_total_bytes


def _card(card: gpu.Gpu) -> str:
    memory = ", memory shared with the machine" if card.shares_main_memory else ""
    if card.memory_total_bytes:
        memory = f", {size(card.memory_total_bytes)}"
        if card.memory_used_bytes is not None:
            memory += f" ({size(card.memory_total_bytes - card.memory_used_bytes)} free)"
    capability = ".".join(map(str, card.compute_capability)) if card.compute_capability else "unknown"
    bf16 = {True: "bf16", False: "no bf16", None: "bf16 unknown"}[card.bf16]
    return f"{card.name}{memory}, compute capability {capability}, {bf16}"


def check_pocket() -> DoctorCheck:
    entry = catalog.pocket()
    if entry.refused:
        return DoctorCheck("bundled model", "warn", "missing or damaged", entry.refused)
    return DoctorCheck("bundled model", "ok", f"{count(entry.parameters)} parameters, {entry.context} tokens")
