"""NVIDIA GPUs without a driver, in folders like those of the kernel."""

from pathlib import Path

import pytest

from tui_lab.hardware import nvidia_hardware as machine


def test_a_gpu_without_a_driver_is_told_apart(tmp_path: Path) -> None:
    devices, pci = tmp_path / "dev", tmp_path / "pci"
    for place in (devices, pci):
        place.mkdir()
    assert machine.missing_driver(devices, pci) == ("", "")
    for name, vendor, kind in (("a", "0x8086", "0x030000"), ("b", "0x10de", "0x040300")):  # a sound card
        (pci / name).mkdir()
        (pci / name / "vendor").write_text(vendor + "\n")
        (pci / name / "class").write_text(kind + "\n")
    assert machine.missing_driver(devices, pci) == ("", "")
    (pci / "b" / "class").write_text("0x030200\n")
    assert "there is an NVIDIA GPU, but no driver" in machine.missing_driver(devices, pci)[0]
    (devices / "nvidia0").write_text("")
    (devices / "nvidiactl").write_text("")
    assert "no driver library" in machine.missing_driver(devices, pci)[0]


def test_a_gpu_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia0").write_text("")
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)  # root may open anything
    found, advice = machine.missing_driver(tmp_path, tmp_path)
    assert "no permission to open" in found and "group" in advice
