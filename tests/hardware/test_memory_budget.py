"""Where a run finds memory: GPUs as CUDA shows them, main memory, a container's limit, a known card."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tui_lab.hardware import cuda_support, gpu_specs, memory_budget
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import Driver, Gpu


def gpu(index: int, free_gib: int, **changes: object) -> Gpu:
    values = {
        "index": index, "name": "NVIDIA L4", "uuid": f"GPU-{index}", "memory_total_bytes": 24 << 30,
        "memory_used_bytes": (24 - free_gib) << 30, "utilization_percent": 0, "temperature_c": 40,
        "power_w": 20.0, "compute_capability": (8, 9),
    }  # fmt: skip
    return Gpu(**{**values, **changes})  # type: ignore[arg-type]


def test_the_freest_gpu_unless_the_environment_says_which() -> None:
    cards_here = [gpu(0, 3), gpu(1, 20), gpu(2, 9)]
    rooms = memory_budget.gpu_budgets(cards_here, {}, 4)
    assert [each.free_bytes for each in rooms] == [3 << 30, 20 << 30, 9 << 30]
    assert rooms[1].label == "GPU 1: NVIDIA L4" and rooms[1].device.bf16 and rooms[1].uuid == "GPU-1"
    assert memory_budget.select(rooms, {}) == 1
    chosen = {"CUDA_VISIBLE_DEVICES": "2,0"}
    rooms = memory_budget.gpu_budgets(cards_here, chosen, 4)
    assert [each.uuid for each in rooms] == ["GPU-2", "GPU-0"] and memory_budget.select(rooms, chosen) == 0
    assert memory_budget.gpu_budgets(cards_here, {"CUDA_VISIBLE_DEVICES": ""}, 4) == []


def test_a_gpu_whose_memory_is_not_told_has_no_free_figure() -> None:
    [only] = memory_budget.gpu_budgets([gpu(0, 3, memory_used_bytes=None)], {}, 4)
    assert only.free_bytes is None and only.label == "NVIDIA L4"


def test_a_card_of_the_table_is_empty() -> None:
    found = memory_budget.from_spec(gpu_specs.find("RTX 4090"))
    assert found.free_bytes == gpu_specs.find("RTX 4090").usable_bytes and found.kind == "cuda"
    assert found.uuid is None and "empty" in found.basis


def test_main_memory_is_no_more_than_the_container_has(tmp_path: Path) -> None:
    device = DeviceFacts("cpu", "the CPU", 64 << 30, False, 2)
    (tmp_path / "memory.max").write_text(f"{3 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{2 << 20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {1 << 19}\n")
    assert memory_budget.from_main_memory(device, tmp_path).free_bytes == (1 << 20) + (1 << 19)
    (tmp_path / "memory.max").write_text("max\n")
    free = memory_budget.from_main_memory(device, tmp_path).free_bytes
    assert free is not None and free > 16 << 20
    assert memory_budget.available_bytes(tmp_path / "nowhere") == free or abs(
        (memory_budget.available_bytes(tmp_path / "nowhere") or 0) - free
    ) < (2 << 30)


@pytest.mark.parametrize("free_gib", [(3, 20), (20, 3)])
def test_a_job_takes_the_freest_gpu_unless_its_parent_chose(
    monkeypatch: pytest.MonkeyPatch, free_gib: tuple[int, int]
) -> None:
    cards = [gpu(place, free) for place, free in enumerate(free_gib)]
    machine = cuda_support.Machine(cards, Driver("580.1", (13, 0)))
    monkeypatch.setattr(cuda_support, "survey", lambda: machine)
    monkeypatch.setattr(cuda_support, "installed_torch", lambda: cuda_support.TorchBuild("2.13.0", "13.0"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    memory_budget.take_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == f"GPU-{free_gib.index(20)}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-0")
    memory_budget.take_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-0"
    memory_budget.take_gpu("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
