"""NVIDIA GPUs that the machine has although no driver answers, from the device files and the PCI bus."""

from __future__ import annotations

import os
from pathlib import Path

DEVICES, PCI = Path("/dev"), Path("/sys/bus/pci/devices")
#: NVIDIA's PCI vendor id, and the PCI class of display controllers.
_NVIDIA, _DISPLAY_CLASS = "0x10de", "0x03"


def missing_driver(devices: Path = DEVICES, pci: Path = PCI) -> tuple[str, str]:
    """A GPU without a working driver: what was found and what to do; ("", "") where there is no NVIDIA
    GPU."""
    nodes = sorted(devices.glob("nvidia[0-9]*"))
    unreadable = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if unreadable:
        return (
            f"no permission to open {unreadable[0]}",
            "add this user to the group that owns it (often video or render), then log in again",
        )
    if nodes:
        return (
            f"{nodes[0]} exists, but no driver library answers",
            "in a container: start it with --gpus all; else install the driver (`nvidia-smi` must work)",
        )
    if any(_read(card / "vendor") == _NVIDIA and _read(card / "class").startswith(_DISPLAY_CLASS)
           for card in sorted(pci.glob("*"))):  # fmt: skip
        return (
            "there is an NVIDIA GPU, but no driver answers",
            "install NVIDIA's driver, or start the container with --gpus all",
        )
    return "", ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
