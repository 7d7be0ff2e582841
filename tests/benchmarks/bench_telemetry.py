"""What the sampler of a run costs: CPU of one look and of the records, as a share of a core at one look a
second, with GPUs of the fake driver below the real pynvml and without any. The fake is Python: what it
takes itself is measured alone and told apart. A real driver's own time is not in these figures."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from tests.benchmarks.figures import Figure
from tests.hardware.fake_nvml import MIB, FakeDriver, install, rtx_4090, t4
from tui_lab.hardware import cuda_memory
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import GpuMonitor
from tui_lab.runs.events import EventWriter
from tui_lab.training import telemetry
from tui_lab.training.telemetry import INTERVAL_S, RECORD_S, TelemetrySampler

#: A hundred looks in quick succession; at one a second they would take as many seconds.
LOOKS = 100
#: Under one percent of a core is what the project promises.
LIMIT_PERCENT = 1.0


def looks_cpu_s(uuids: list[str]) -> tuple[float, int]:
    """CPU seconds of a sampler's thread that looks LOOKS times, a record at every fifth; and their bytes."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_memory, "cuda_uuids", lambda: uuids)
        patch.setattr(cuda_memory, "reserved_bytes", lambda: [500 * MIB] * len(uuids))
        log = Path(folder) / "events.jsonl"
        one = TelemetrySampler(EventWriter(log), lambda: 1)
        watch = GpuMonitor(lambda cards: telemetry.match_uuids(cards, uuids, {})) if uuids else None
        one._watch, one._cuda = watch, bool(uuids)
        process = telemetry.ProcessSampler()
        one._sample(process, pcie=False)  # the first asks for what never changes
        every = round(RECORD_S / INTERVAL_S)
        began = time.thread_time()
        for look in range(LOOKS):
            record = look % every == every - 1
            one._sample(process, pcie=record)
            if record:
                one._write_record()
        return time.thread_time() - began, log.stat().st_size


def pynvml_alone_s(driver: FakeDriver) -> float:
    """CPU seconds of a bare call through pynvml into the fake: what the fake takes of every look."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    began = time.thread_time()
    for _ in range(1_000):
        pynvml.nvmlDeviceGetPowerUsage(handle)
    return (time.thread_time() - began) / 1_000


def live_percent(seconds: float) -> float:
    """CPU of the whole thread as a run starts it, without a GPU, at its real pace: waits and all."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        used: list[float] = []
        look_on: Callable[[TelemetrySampler], None] = TelemetrySampler._run

        def timed(self: TelemetrySampler) -> None:
            look_on(self)
            used.append(time.thread_time())

        patch.setattr(TelemetrySampler, "_run", timed)
        one = TelemetrySampler(EventWriter(Path(folder) / "events.jsonl"), lambda: 1)
        one.start(DeviceFacts("cpu", "cpu", 0, True, 1))
        time.sleep(seconds)
        one.stop()
        assert threading.active_count() >= 1 and used
        return 100 * used[0] / seconds


def run() -> Iterator[Figure]:
    yield Figure(
        "one look a second, no GPU, as a run does it", live_percent(10.0), "% of a core", LIMIT_PERCENT
    )
    cpu_s, size = looks_cpu_s([])
    yield Figure("one look, no GPU", 1e3 * cpu_s / LOOKS, "ms")
    yield Figure("the log grows a day by", size / LOOKS * 86_400 / 1e6, "MB")
    busy = t4(compute=[(1_000 + i, 50 * MIB) for i in range(8)])
    for cards in ([busy], [busy, rtx_4090()]):
        with pytest.MonkeyPatch.context() as patch:
            driver = FakeDriver(*cards)
            install(patch, driver)
            cpu_s, size = looks_cpu_s([card.uuid for card in cards])
            name = f"{len(cards)} GPU{'s' if len(cards) > 1 else ''}"
            yield Figure(
                f"one look a second, {name}", 100 * cpu_s / LOOKS / INTERVAL_S, "% of a core", LIMIT_PERCENT
            )
            yield Figure(f"one look, {name}, the fake driver's own time included", 1e3 * cpu_s / LOOKS, "ms")
            yield Figure(f"  calls of the driver a look, {name}", len(driver.calls) / LOOKS, "")
            yield Figure(f"the log grows a day by, {name}", size / LOOKS * 86_400 / 1e6, "MB")
    with pytest.MonkeyPatch.context() as patch:
        driver = FakeDriver(t4())
        install(patch, driver)
        pynvml.nvmlInit()
        yield Figure("one call through pynvml into the fake", 1e6 * pynvml_alone_s(driver), "µs")
