"""What the run process finds out about its own memory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from tui_lab.hardware.device import DeviceFacts
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.state import Watcher
from tui_lab.training import device
from tui_lab.training.recorder import EventRecorder


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


def test_the_peak_of_steps_is_theirs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading and validation take more than a step: a simulated allocator keeps the highest since a reset."""
    card = SimpleNamespace(now=0, peak=0)

    def use(*amounts: int) -> None:
        for card.now in amounts:
            card.peak = max(card.peak, card.now)

    for name, answer in {
        "mem_get_info": lambda: (100 - card.now, 100),
        "memory_allocated": lambda: card.now,
        "memory_reserved": lambda: card.now,
        "max_memory_allocated": lambda: card.peak,
        "reset_peak_memory_stats": lambda: setattr(card, "peak", card.now),
        "synchronize": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    run = Run(tmp_path)
    recorder = EventRecorder(EventWriter(run.events_path))
    recorder.device = DeviceFacts("cuda", "a card", 100, True, 1)
    state: Any = SimpleNamespace(global_step=0, max_steps=2, epoch=0.0)
    arguments: Any = SimpleNamespace(fp16=True)
    use(90, 10)  # loading and the first probe
    for step, peak in ((1, 40), (2, 30)):
        state.global_step = step
        recorder.on_step_begin(arguments, state, None)  # type: ignore[arg-type]
        use(peak, 10)
        recorder.on_step_end(arguments, state, SimpleNamespace(should_log=True))  # type: ignore[arg-type]
        use(60, 10)  # validation
        recorder.on_log(arguments, state, None, {"loss": 1.0, "grad_norm": float("inf")})  # type: ignore[arg-type]
    found = Watcher(run).read_all()
    assert recorder.peak_memory["cuda_peak"] == 40 and recorder.peak_memory["cuda_peak_outside"] == 90
    assert found.memory["cuda_peak"].values == [40, 40]
    assert not found.warnings  # a skipped step of float16 is none
    # a step that is not logged is one of training, too
    recorder.on_step_begin(arguments, state, None)  # type: ignore[arg-type]
    use(95, 10)
    recorder.on_step_end(arguments, state, SimpleNamespace(should_log=False))  # type: ignore[arg-type]
    recorder.on_step_begin(arguments, state, None)  # type: ignore[arg-type]
    assert recorder._peaks.by_label == {"cuda_peak": 95, "cuda_peak_outside": 90}
