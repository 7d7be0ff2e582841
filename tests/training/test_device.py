"""What the run process finds out about its own memory."""

from pathlib import Path

import psutil
import torch

from tui_lab.training import device


def test_peak_resident_memory(tmp_path: Path) -> None:
    ballast = torch.ones(64 << 20, dtype=torch.uint8)
    with_it = device.peak_resident_bytes()
    now = psutil.Process().memory_info().rss
    del ballast
    # the kernel counts on each processor apart, and adds up roughly
    assert with_it > 0.95 * now
    assert device.peak_resident_bytes() > 0.95 * with_it
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  1234 kB\nVmRSS:\t 1000 kB\n")
    assert device.peak_resident_bytes(str(status)) == 1234 * 1024
    status.write_text("VmHWM:\n")
    assert device.peak_resident_bytes(str(status)) == 0
    assert device.peak_resident_bytes(str(tmp_path / "absent")) == 0
