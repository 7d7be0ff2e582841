"""GPUs, drivers and processors that this machine has not."""

from pathlib import Path

import pytest

from tui_lab.doctor import machine
from tui_lab.hardware import gpu
from tui_lab.models import catalog

T4 = gpu.Gpu(0, "Tesla T4", "GPU-1", 16 << 30, 1 << 30, 0, 40, 20.0, (7, 5))
H200 = gpu.Gpu(0, "NVIDIA H200", "GPU-2", 140 << 30, 0, 0, 30, 80.0, (9, 0))
NEW = gpu.Driver("580.1", (13, 0))
OLD = gpu.Driver("550.54", (12, 4))


def test_gpu() -> None:
    none = machine.check_gpu([], None)
    assert none.state == "warn" and "CPU" in none.advice
    good = machine.check_gpu([H200], NEW)
    assert good.state == "ok" and "compute capability 9.0, bf16" in good.found and "580.1" in good.found
    older = machine.check_gpu([T4], OLD)
    assert "16 GiB" in older.found and "no bf16" in older.found and "8.0" in older.advice
    bare = machine.check_gpu([gpu.Gpu(0, "MIG", None, None, None, None, None, None, None)], None)
    assert bare.state == "ok" and "unknown" in bare.found


def test_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "_POCKET_DIR", tmp_path)
    check = machine.check_pocket()
    assert check.state == "warn" and "tui_lab.pocket.builder.build" in check.advice


def test_a_gpu_without_a_driver_is_the_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    found, advice = "there is an NVIDIA GPU, but no driver answers", "install it"
    monkeypatch.setattr(machine, "missing_driver", lambda: (found, advice))
    check = machine.check_gpu([], None)
    assert (check.state, check.found, check.advice) == ("warn", found, advice)
