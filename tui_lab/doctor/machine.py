"""The machine: processor, memory, GPUs, and the bundled model."""

from __future__ import annotations

from tui_lab.core.format import count, plural, size
from tui_lab.doctor.check import DoctorCheck
from tui_lab.hardware import cpu, gpu, memory_budget
from tui_lab.hardware.nvidia_hardware import missing_driver
from tui_lab.models import catalog

#: A run of the bundled model needs about this much.
LOW_MEMORY_BYTES = 3 << 29


def check_cpu() -> DoctorCheck:
    cores = cpu.threads()
    free = memory_budget.available_bytes()
    memory = f"{size(free)} memory free" if free is not None else "memory unknown"
    text = f"{plural(cores, 'core')}, {memory}"
    if free is not None and free < LOW_MEMORY_BYTES:
        needs = f"close other programs: a run of the bundled model needs about {size(LOW_MEMORY_BYTES)}"
        return DoctorCheck("CPU", "warn", text, needs)
    return DoctorCheck("CPU", "ok", text)


def check_gpu(cards: list[gpu.Gpu], driver: gpu.Driver | None) -> DoctorCheck:
    if not cards:
        found = f"none (driver {driver.version})" if driver else "none found (no NVIDIA driver answers)"
        if driver is None and (missing := missing_driver())[0]:
            return DoctorCheck("GPU", "warn", *missing)
        advice = "runs use the CPU, which is enough for the bundled model; larger models need an NVIDIA GPU"
        return DoctorCheck("GPU", "warn", found, advice)
    parts = []
    for card in cards:
        memory = f", {size(card.memory_total_bytes)}" if card.memory_total_bytes else ""
        capability = ".".join(map(str, card.compute_capability)) if card.compute_capability else "unknown"
        bf16 = {True: "bf16", False: "no bf16", None: "bf16 unknown"}[card.bf16]
        parts.append(f"{card.name}{memory}, compute capability {capability}, {bf16}")
    text = "; ".join(parts) + (f"; driver {driver.version}" if driver and driver.version else "")
    if any(card.bf16 is False for card in cards):
        advice = "compute in float32 or float16: bfloat16 needs compute capability 8.0 (the lab selects it)"
        return DoctorCheck("GPU", "ok", text, advice)
    return DoctorCheck("GPU", "ok", text)


def check_pocket() -> DoctorCheck:
    entry = catalog.pocket()
    if entry.refused:
        return DoctorCheck("bundled model", "warn", "missing or damaged", entry.refused)
    return DoctorCheck("bundled model", "ok", f"{count(entry.parameters)} parameters, {entry.context} tokens")
