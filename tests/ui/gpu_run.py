"""A run on disk whose events tell of GPUs, as a run on such a machine writes them: for the tests of Train and
to look at by eye (``python -m tests.ui.gpu_run KIND RUNS_DIR``). The records go through the run's own
window over cards that the fake driver answers; only what the cards answer is made up."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_lab.hardware.gpu import Gpu, GpuProcess, ProcessUse
from tui_lab.hardware.telemetry import EnergyMeter, TelemetryWindow, memory_shares
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock, create
from tui_lab.runs.schema import (
    ForecastEvent,
    PhaseEvent,
    PlanEvent,
    ResumedEvent,
    StartedEvent,
    StepEvent,
    TelemetryEvent,
)

GIB = 1 << 30
OURS, NOTEBOOK = 4_711, 1_201


def card(**changes: Any) -> Gpu:
    """An RTX 4090 in the middle of a training, beside a notebook that holds 6 GiB."""
    busy = Gpu(
        0, "NVIDIA GeForce RTX 4090", "GPU-91d2a1f0-55aa-4c3b-8e77-6d5c4b3a2f10", 24 * GIB, 15 * GIB, 97, 71,
        382.4, (8, 9), memory_reserved_bytes=GIB // 2, memory_utilization_percent=64, clock_mhz=2_520,
        clock_max_mhz=3_105, throttle=("power limit",), pcie_rx_bytes_s=1_200_000_000,
        pcie_tx_bytes_s=310_000_000, energy_j=5e6,
        processes=(GpuProcess(OURS, int(8.5 * GIB)), GpuProcess(NOTEBOOK, 6 * GIB)),
    )  # fmt: skip
    return replace(busy, **changes)


#: Machines by name.
MACHINES: dict[str, list[Gpu]] = {
    "notebook": [card()],
    "two": [
        card(uuid="GPU-a"),
        card(index=1, uuid="GPU-b", throttle=("heat", "power brake"), processes=(GpuProcess(OURS, 9 * GIB),)),
    ],
    "container": [card(processes=(), throttle=())],
    "slice": [
        card(
            name="NVIDIA A100-SXM4-40GB MIG 1g.5gb", mig=True, utilization_percent=None, throttle=(),
            memory_utilization_percent=None, memory_total_bytes=5 * GIB, memory_used_bytes=3 * GIB,
            pcie_rx_bytes_s=None, pcie_tx_bytes_s=None, energy_j=None,
            processes=(GpuProcess(OURS, int(2.4 * GIB)),),
        )
    ],
    "silent": [Gpu(0, "NVIDIA T4-8Q", None, 8 * GIB, 7 * GIB, None, None, None, (7, 5))],
    "cpu": [],
}  # fmt: skip


def write(
    run: Run, cards: Sequence[Gpu], steps: int = 40, total: int = 60, forecast: bool = True
) -> EventWriter:
    """Writes the log of a run at step ``steps`` of ``total``."""
    events = EventWriter(run.events_path)
    on_gpu = bool(cards)
    device = {"type": "cuda" if on_gpu else "cpu", "name": cards[0].name if on_gpu else "a CPU"}
    events.write(ResumedEvent(from_step=0, attempt=1))
    events.write(StartedEvent(pid=1, host="here", versions={}, device=device, threads=8))
    if forecast:
        parts = {"weights": 1_100 * 2**20, "activations": 5 * GIB, "context": 480 * 2**20}
        events.write(
            ForecastEvent(parts=parts, total=int(7.4 * GIB), low=7 * GIB, high=8 * GIB, device=device["type"])
        )
    events.write(PlanEvent(total_steps=total, epochs=1.0))
    events.write(PhaseEvent(name="training"))
    window, energy = TelemetryWindow(), EnergyMeter()
    for step in range(1, steps + 1):
        scale = (cards[0].memory_total_bytes or 0) / (24 * GIB) if on_gpu else 0.0
        grown = int(scale * (6.1 * GIB + 0.4 * GIB * math.tanh(step / 6)))
        memory: dict[str, int] = {"resident": 2 * GIB}
        if on_gpu:
            memory = {
                "cuda_allocated": grown, "cuda_reserved": int(1.15 * grown), "cuda_peak": int(1.07 * grown),
                "gpu_used": cards[0].memory_used_bytes or 0,
            }  # fmt: skip
        events.write(
            StepEvent(step=step, epoch=step / total, loss=3 / step, learning_rate=1e-4, grad_norm=1.0,
            tokens=step * 4_000, tok_per_s=8_100.0, step_time_s=0.5, eta_s=(total - step) / 2, memory=memory,
        ))  # fmt: skip
        now = [replace(one, energy_j=one.energy_j and one.energy_j + 400.0 * step) for one in cards]
        held = [memory.get("cuda_reserved", 0)] * len(now)
        owned = [memory_shares(one, (OURS,), own) for one, own in zip(now, held, strict=True)]
        window.add(now, owned, ProcessUse(2 * GIB, 187.0))
        energy.add(now, float(step))
        if step % 5 == 0:
            total_j = energy.total_j(float(step))
            gpus, process = window.flush()
            events.write(TelemetryEvent(step=step, gpus=gpus, process=process, energy_j=total_j, seconds=5.0))
    return events


def main(kind: str, folder: Path) -> None:
    """Writes the run and holds its lock until interrupted, so that it counts as live."""
    run = create(Recipe(preset="minute"), folder)
    lock = RunLock.take(run)
    write(run, MACHINES[kind])
    print(run.id, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    lock.release()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
