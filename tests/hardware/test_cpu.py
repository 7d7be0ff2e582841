"""The devices that the lab says a run could take, where there are several or some are hidden."""

from __future__ import annotations

import os

import pytest

from tests.hardware.fake_nvml import FakeDriver, a100_slices, install, rtx_4090, t4
from tui_lab.core.errors import LabError
from tui_lab.hardware import cuda_support, memory_budget
from tui_lab.recipes.recipe import build
from tui_lab.training.__main__ import _take_device


@pytest.mark.parametrize(
    ("visible", "order", "name"),
    [
        (None, "", "NVIDIA GeForce RTX 4090"),  # the fastest, though it is the second on the bus
        (None, "PCI_BUS_ID", "Tesla T4"),
        ("1", "PCI_BUS_ID", "NVIDIA GeForce RTX 4090"),
        (t4().uuid[:10], "", "Tesla T4"),
    ],
)
def test_the_gpu_that_cuda_shows_first(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, order: str, name: str
) -> None:
    install(monkeypatch, FakeDriver(t4(), rtx_4090()))
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = memory_budget.detect()[0].device
    assert (found.type, found.name) == ("cuda", name)
    assert found.memory_bytes == (15_360 if name == "Tesla T4" else 24_564) << 20
    assert found.bf16 is (name != "Tesla T4")


def test_of_a_divided_card_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(a100_slices()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = memory_budget.detect()[0].device
    assert (found.name, found.memory_bytes) == ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4_864 << 20)


@pytest.mark.parametrize("hidden", ["", "-1", "7", "GPU-none"])
def test_hidden_gpus_are_not_taken(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    install(monkeypatch, FakeDriver(t4()))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert memory_budget.detect()[0].device.type != "cuda"


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that can use the GPUs of the fake driver."""
    monkeypatch.setattr(cuda_support, "installed_torch", lambda: cuda_support.TorchBuild("2.13.0", "12.4"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "put back afterwards")


def test_a_run_of_one_process_is_shown_one_gpu(monkeypatch: pytest.MonkeyPatch, usable: None) -> None:
    install(monkeypatch, FakeDriver(t4(), rtx_4090()))
    for shown, taken in ((None, rtx_4090().uuid), (f"{t4().uuid},{rtx_4090().uuid}", t4().uuid)):
        if shown is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        assert memory_budget.current().uuid == taken
        _take_device(build({}))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == taken


def test_a_run_on_the_cpu_is_shown_none(monkeypatch: pytest.MonkeyPatch, usable: None) -> None:
    install(monkeypatch, FakeDriver(t4()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    _take_device(build({"device": "cpu", "deterministic": True}))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_run_refuses_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch, usable: None) -> None:
    install(monkeypatch, FakeDriver(t4(), cuda=11_080))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(LabError, match="CUDA up to 11"):
        _take_device(build({}))


def test_several_processes_share_the_gpus_among_themselves(
    monkeypatch: pytest.MonkeyPatch, usable: None
) -> None:
    install(monkeypatch, FakeDriver(t4(), rtx_4090()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    _take_device(build({}))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
