"""The sampler of a run over a fake driver: what it writes, when it ends, and that no driver holds it up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest
import torch

from tests.hardware.fake_nvml import MIB, FakeDriver, a100_slices, install, rtx_4090, t4
from tests.records import read_log
from tui_lab.core.errors import LabError
from tui_lab.hardware import cuda_memory
from tui_lab.hardware.cuda_memory import memory_of_others
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.telemetry import plain_uuid
from tui_lab.models import loading
from tui_lab.playground import worker
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs.events import EventTail, EventWriter
from tui_lab.runs.schema import RunEvent, WarningEvent
from tui_lab.training import telemetry
from tui_lab.training.telemetry import TelemetrySampler

CUDA = DeviceFacts("cuda", "a card", 0, True, 1)
CPU = DeviceFacts("cpu", "cpu", 0, True, 1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def events_of(log: Path, kind: str = "telemetry") -> list[dict[str, Any]]:
    return [event for event in read_log(log) if event["kind"] == kind]


def on_cuda(monkeypatch: pytest.MonkeyPatch, *uuids: str, held: int | None = None) -> None:
    """Lets torch have these devices."""
    bare = [uuid.removeprefix("GPU-") for uuid in uuids]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_memory, "cuda_uuids", lambda: bare)
    monkeypatch.setattr(cuda_memory, "reserved_bytes", lambda: [held] * len(uuids))


def sampler(log: Path, **changes: Any) -> TelemetrySampler:
    return TelemetrySampler(EventWriter(log), lambda: 3, **{"interval_s": 0.02, "record_s": 0.1, **changes})


def wait(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_without_a_gpu_memory_and_cpu(log: Path) -> None:
    one = sampler(log, record_s=60.0)
    one.start(CPU)
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        sum(range(1_000))
    one.stop()
    [record] = events_of(log)
    assert record["gpus"] == [] and record.get("energy_j") is None and record["step"] == 3
    assert record["process"]["resident_bytes"] > 50 * MIB
    assert record["process"]["cpu_percent"] > 1
    assert 0.2 <= record["seconds"] < 5


def test_short_run_has_one_record(log: Path) -> None:
    one = sampler(log, interval_s=60.0)
    one.start(CPU)
    one.stop()
    assert len(events_of(log)) == 1


def test_records_are_regular_and_end_with_stop(log: Path) -> None:
    one = sampler(log)
    one.start(CPU)
    wait(lambda: len(events_of(log)) >= 3)
    one.stop()
    count = len(events_of(log))
    one.stop()
    time.sleep(0.2)
    assert len(events_of(log)) == count
    assert one._thread is not None and not one._thread.is_alive()


def test_a_gpu_in_use(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    card = t4(compute=[(os.getpid(), 700 * MIB), (1, 300 * MIB)])
    driver = FakeDriver(rtx_4090(), card)
    install(monkeypatch, driver)
    on_cuda(monkeypatch, card.uuid, held=600 * MIB)  # CUDA shows the run the second card only
    one = sampler(log, energy_before_j=1_000.0)
    one.start(CUDA)
    wait(lambda: len(driver.calls) > 60)
    card.millijoules += 500_000
    wait(lambda: len(events_of(log)) >= 2)
    one.stop()
    records = events_of(log)
    first = records[0]["gpus"]
    assert [gpu["uuid"] for gpu in first] == [card.uuid]
    assert first[0]["others_bytes"] == 327 * MIB and first[0]["own_bytes"] == 700 * MIB
    assert first[0]["used_bytes"] == 1_476 * MIB and first[0]["throttle"] == ["power limit"]
    assert first[0]["pcie_rx_bytes_s"] == 900_000_000
    assert records[-1].get("energy_j") == 1_500.0
    assert sum(record["seconds"] for record in records) < 10


def test_memory_of_others_names_who_holds_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    card = t4(used_mib=11_553, compute=[(os.getpid(), 700 * MIB), (1, 10_853 * MIB)])
    install(monkeypatch, FakeDriver(card))
    on_cuda(monkeypatch, card.uuid, held=600 * MIB)
    said = memory_of_others()
    name = psutil.Process(1).name()
    assert said == f"other processes (process 1, {name}) hold 10.6 GiB of this GPU"


def test_memory_of_others_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver lists no process, or one of the host: what cannot be this process's is the others'."""
    for compute in ([], [(4_711, 10_000 * MIB)]):
        install(monkeypatch, FakeDriver(t4(used_mib=11_553, compute=compute)))
        on_cuda(monkeypatch, t4().uuid, held=600 * MIB)
        # 11,553 MiB in use, without 600 of torch's and 1,024 for the context
        assert memory_of_others() == "other processes hold about 9.7 GiB of this GPU"
    install(monkeypatch, FakeDriver(t4(used_mib=1_900, compute=[])))
    assert memory_of_others() == ""
    install(monkeypatch, FakeDriver(t4(compute=[])))
    on_cuda(monkeypatch, t4().uuid, held=None)  # before this process has used the GPU everything is theirs
    assert memory_of_others() == "other processes hold 1 GiB of this GPU"


def test_only_memory_that_counts_is_called_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card whose others are worked out, and hold little, beside one whose others the driver lists."""
    listed = t4(used_mib=11_553, compute=[(os.getpid(), 700 * MIB), (1, 10_853 * MIB)])
    little = rtx_4090(used_mib=1_900, compute=[], graphics=[])
    install(monkeypatch, FakeDriver(listed, little))
    on_cuda(monkeypatch, listed.uuid, little.uuid, held=600 * MIB)
    assert memory_of_others().endswith(") hold 10.6 GiB of this GPU")


def test_what_does_not_fit_because_of_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(t4(used_mib=11_553, compute=[(os.getpid(), 9), (1, 10_853 * MIB)])))
    on_cuda(monkeypatch, t4().uuid, held=0)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    said = str(worker.out_of_memory_message(error))
    assert "the GPU ran out of memory: other processes" in said and "end them, or load the model in 4" in said
    monkeypatch.setattr(loading, "_from_files", lambda *_: raise_(error))
    with pytest.raises(LabError, match=r"free memory: other processes .* hold .* GiB of this GPU; end them"):
        source = loading.ModelSource(str(MODEL_DIR))
        loading.load_model(source, loading.Precision("float16"), device="cuda")


def raise_(error: Exception) -> None:
    raise error


def test_memory_of_others_is_silent_about_a_small_share(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeDriver(t4(compute=[(os.getpid(), 700 * MIB), (1, 300 * MIB)])))
    on_cuda(monkeypatch, t4().uuid, held=600 * MIB)
    assert memory_of_others() == ""


def test_memory_shares_in_a_container(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    install(monkeypatch, FakeDriver(t4(compute=[])))
    on_cuda(monkeypatch, t4().uuid, held=600 * MIB)
    one = sampler(log)
    one.start(CUDA)
    wait(lambda: events_of(log))
    one.stop()
    [card] = events_of(log)[0]["gpus"]
    assert (card["own_bytes"], card["others_bytes"], card["used_bytes"]) == (None, None, 1_476 * MIB)


def test_mig_slice(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    install(monkeypatch, FakeDriver(a100_slices()))
    on_cuda(monkeypatch, a100_slices().uuid)
    one = sampler(log)
    one.start(CUDA)
    wait(lambda: events_of(log))
    one.stop()
    record = events_of(log)[0]
    [card] = record["gpus"]
    assert card["mig"] and card["utilization_percent"] is None and card["power_w"] == 68.0
    assert record.get("energy_j") is None


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_UNKNOWN,
    ],
)
def test_lost_driver_gives_one_warning(monkeypatch: pytest.MonkeyPatch, log: Path, code: int) -> None:
    driver = FakeDriver(t4())
    install(monkeypatch, driver)
    on_cuda(monkeypatch, t4().uuid)
    one = sampler(log)
    one.start(CUDA)
    one._watch._retry_s = 0.05  # type: ignore[union-attr]
    wait(lambda: events_of(log))
    driver.gone, driver.running = code, 0
    wait(lambda: events_of(log)[-1]["gpus"] == [])
    driver.gone = 0
    wait(lambda: events_of(log)[-1]["gpus"])
    driver.gone, driver.running = code, 0
    wait(lambda: events_of(log)[-1]["gpus"] == [])
    one.stop()
    [warning] = events_of(log, "warning")
    assert warning["text"].startswith("GPU telemetry pauses: the ")
    assert events_of(log)[-1]["process"]["resident_bytes"] > 0


def test_without_driver_the_process_is_sampled(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    install(monkeypatch, None)
    on_cuda(monkeypatch, t4().uuid)
    one = sampler(log)
    one.start(CUDA)
    wait(lambda: events_of(log))
    one.stop()
    assert "no NVIDIA driver answers" in events_of(log, "warning")[0]["text"]


def test_hanging_driver_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    driver = FakeDriver(t4())
    install(monkeypatch, driver)
    on_cuda(monkeypatch, t4().uuid)
    monkeypatch.setattr(telemetry, "PATIENCE_S", 0.1)
    one = sampler(log)
    one.start(CUDA)
    wait(lambda: events_of(log))
    driver.hang = threading.Event()
    calls = len(driver.calls)
    wait(lambda: len(driver.calls) > calls)
    began = time.monotonic()
    one.stop()
    assert time.monotonic() - began < 1.0
    assert one._thread is not None and one._thread.is_alive() and one._thread.daemon
    count = len(read_log(log))
    driver.hang.set()  # it wakes up after the end: too late to write
    one._thread.join(5.0)
    assert not one._thread.is_alive() and len(read_log(log)) == count


def test_full_disk_ends_only_the_sampler(log: Path) -> None:
    writer = EventWriter(log)
    one = TelemetrySampler(writer, lambda: 0, interval_s=0.01, record_s=0.02)

    def full(event: RunEvent) -> None:
        raise OSError(28, "No space left on device")

    writer.write = full  # type: ignore[method-assign]
    one.start(CPU)
    assert one._thread is not None
    one._thread.join(5.0)
    assert not one._thread.is_alive()
    one.stop()


def test_fault_of_the_sampler_is_logged(
    monkeypatch: pytest.MonkeyPatch, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(telemetry.ProcessSampler, "sample", broken)
    one = sampler(log)
    one.start(CPU)
    assert one._thread is not None
    one._thread.join(5.0)
    one.stop()
    assert "a fault of ours" in capfd.readouterr().err


def test_threads_write_whole_lines(log: Path) -> None:
    writer = EventWriter(log)

    def write(number: int) -> None:
        for _ in range(200):
            writer.write(WarningEvent(text=f"{number}" + "x" * 300))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tail = EventTail(log)
    assert len(tail.read_all()) == 1_600 and tail.skipped == 0


def test_torch_is_queried_only_after_cuda_is_initialised() -> None:
    count = torch.cuda.device_count()
    if not torch.cuda.is_initialized():
        assert cuda_memory.reserved_bytes() == [None] * count
    assert len(cuda_memory.cuda_uuids()) == count


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_real_gpu_agrees_with_torch(log: Path) -> None:
    held = torch.ones(256 * MIB, dtype=torch.uint8, device="cuda:0")
    one = sampler(log, interval_s=0.2, record_s=1.0)
    one.start(CUDA)
    wait(lambda: events_of(log))
    one.stop()
    assert not events_of(log, "warning")
    properties = torch.cuda.get_device_properties(0)
    card = events_of(log)[0]["gpus"][0]
    assert plain_uuid(card["uuid"]) == str(properties.uuid)
    assert card["total_bytes"] == pytest.approx(properties.total_memory, rel=0.05)
    free, total = torch.cuda.mem_get_info(0)
    assert card["used_bytes"] == pytest.approx(total - free, rel=0.2)
    assert card["own_bytes"] is None or card["own_bytes"] > held.numel()
