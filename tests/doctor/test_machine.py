"""GPUs, drivers and processors that this machine has not."""

from dataclasses import replace
from pathlib import Path

import pytest

from tui_lab.doctor import machine
from tui_lab.hardware import gpu
from tui_lab.hardware.cuda_support import Machine
from tui_lab.models import catalog

T4 = gpu.Gpu(0, "Tesla T4", "GPU-1", 16 << 30, 1 << 30, 0, 40, 20.0, (7, 5))
V100 = gpu.Gpu(0, "Tesla V100-SXM2-16GB", "GPU-0", 16 << 30, 0, 0, 30, 80.0, (7, 0))
H200 = gpu.Gpu(0, "NVIDIA H200", "GPU-2", 140 << 30, 0, 0, 30, 80.0, (9, 0))
NEW = gpu.Driver("580.1", (13, 0))
OLD = gpu.Driver("550.54", (12, 4))


def test_gpu() -> None:
    none = machine.check_gpu(Machine())
    assert none.state == "warn" and "CPU" in none.advice
    good = machine.check_gpu(Machine([H200], NEW))
    assert good.state == "ok" and "compute capability 9.0, bf16" in good.found and "580.1" in good.found
    older = machine.check_gpu(Machine([T4], OLD))
    assert "16 GiB" in older.found and "no bf16" in older.found and "8.0" in older.advice
    bare = machine.check_gpu(Machine([gpu.Gpu(0, "MIG", None, None, None, None, None, None, None)]))
    assert bare.state == "ok" and "unknown" in bare.found
    shared = machine.check_gpu(
        Machine([gpu.Gpu(0, "NVIDIA GB10", "GPU-3", None, None, None, None, None, (12, 1))])
    )
    assert "memory shared with the machine" in shared.found
    busy = machine.check_gpu(Machine([replace(H200, memory_used_bytes=100 << 30)], NEW))
    assert busy.state == "warn" and "(40 GiB free)" in busy.found and "nvidia-smi" in busy.advice
    lost = machine.check_gpu(Machine([], NEW, "the GPU no longer answers"))
    assert lost.state == "fail" and "no longer answers" in lost.found


def test_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "_POCKET_DIR", tmp_path)
    check = machine.check_pocket()
    assert check.state == "warn" and "tui_lab.pocket.builder.build" in check.advice


def test_a_gpu_without_a_driver_is_the_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    found, advice = "there is an NVIDIA GPU, but no driver answers", "install it"
    monkeypatch.setattr(machine, "missing_driver", lambda: (found, advice))
    check = machine.check_gpu(Machine())
    assert (check.state, check.found, check.advice) == ("warn", found, advice)
