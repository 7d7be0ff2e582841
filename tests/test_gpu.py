"""GPU sampling through a fake driver that answers, refuses, or is not there; processes through real ones."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tui_lab import gpu


class NVMLError(Exception):
    pass


class FakeNvml(SimpleNamespace):
    """pynvml as its manual describes it: functions by name, errors by exception."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, devices: list[dict], cuda: int = 12040, refuse: tuple[str, ...] = ()) -> None:
        super().__init__(devices=devices, cuda=cuda, refuse=refuse, started=0)

    def __getattribute__(self, name: str) -> object:
        if name.startswith("nvml") and name in super().__getattribute__("refuse"):
            raise AttributeError(name)
        return super().__getattribute__(name)

    def _of(self, index: int, key: str) -> object:
        value = self.devices[index].get(key)
        if value is None:
            raise NVMLError("Not Supported")
        return value

    def nvmlInit(self) -> None:
        self.started += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.54.14"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._of(index, "name")
        return index

    def nvmlDeviceGetName(self, handle: int) -> object:
        return self._of(handle, "name")

    def nvmlDeviceGetUUID(self, handle: int) -> object:
        return self._of(handle, "uuid")

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> object:
        total, used = self._of(handle, "memory")
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> object:
        return SimpleNamespace(gpu=self._of(handle, "gpu"), memory=3)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> object:
        assert sensor == 0
        return self._of(handle, "temperature")

    def nvmlDeviceGetPowerUsage(self, handle: int) -> object:
        return self._of(handle, "milliwatts")

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> object:
        return self._of(handle, "capability")


T4 = {
    "name": b"Tesla T4", "uuid": "GPU-1", "memory": (16 << 30, 1 << 30), "gpu": 40, "temperature": 61,
    "milliwatts": 50_500, "capability": (7, 5),
}  # fmt: skip
A100 = {
    "name": "NVIDIA A100", "uuid": "GPU-2", "memory": (40 << 30, 0), "gpu": 0, "temperature": 30,
    "milliwatts": 0, "capability": (8, 0),
}  # fmt: skip


def install(monkeypatch: pytest.MonkeyPatch, fake: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(gpu, "_nvml", None)


def test_figures_in_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml([T4, A100])
    install(monkeypatch, fake)
    first, second = gpu.sample()
    assert first == gpu.Gpu(0, "Tesla T4", "GPU-1", 16 << 30, 1 << 30, 40, 61, 50.5, (7, 5))
    assert (second.memory_used_bytes, second.utilization_percent, second.power_w) == (0, 0, 0.0)
    assert (first.bf16, second.bf16) == (False, True)
    assert gpu.driver() == gpu.Driver("550.54.14", (12, 4))
    gpu.sample()
    assert fake.started == 1


def test_what_the_driver_does_not_give_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch, FakeNvml([{"name": "MIG slice"}, {}, T4], refuse=("nvmlSystemGetCudaDriverVersion_v2",))
    )
    slice_, card = gpu.sample()  # the second does not even answer
    assert slice_ == gpu.Gpu(0, "MIG slice", None, None, None, None, None, None, None)
    assert slice_.bf16 is None
    assert card.index == 2
    assert gpu.driver() == gpu.Driver("550.54.14", None)


def test_names_from_the_driver_are_made_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml([T4 | {"name": b"\x1b[31mcard\xff"}]))
    assert gpu.sample()[0].name.isprintable()


def test_no_driver_then_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NVMLError("Driver Not Loaded")

    broken = FakeNvml([T4])
    broken.nvmlInit = missing
    install(monkeypatch, broken)
    assert (gpu.sample(), gpu.driver()) == ([], None)
    del broken.nvmlInit
    assert [card.name for card in gpu.sample()] == ["Tesla T4"]


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)  # makes the import fail
    assert (gpu.sample(), gpu.driver()) == ([], None)


def test_the_real_driver_never_raises() -> None:
    for card in gpu.sample():
        assert card.name
        assert card.memory_total_bytes is None or card.memory_total_bytes > 0


def test_process_memory_and_cpu() -> None:
    code = "b = bytearray(60_000_000)\nimport sys; print('up', flush=True)\nwhile True: sum(range(1000))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline() == b"up\n"
        sampler = gpu.ProcessSampler(child.pid)
        first = sampler.sample()
        assert first and first.resident_bytes > 60_000_000
        assert first.cpu_percent == 0
        time.sleep(0.5)
        second = sampler.sample()
        assert second and second.cpu_percent > 1
    finally:
        child.kill()
        child.wait()
    assert sampler.sample() is None
    assert sampler.sample() is None


def test_this_process_and_none() -> None:
    mine = gpu.ProcessSampler().sample()
    assert mine and abs(mine.resident_bytes - psutil.Process().memory_info().rss) < 50_000_000
    assert gpu.ProcessSampler(2**31 - 2).sample() is None
    assert gpu.ProcessSampler(-1).sample() is None


def test_sampling_imports_nothing_before_it_is_asked() -> None:
    code = (
        "import sys; from tui_lab import gpu; print(sorted({'pynvml','psutil','torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("flags", "has"),
    [("fpu avx512f avx512_bf16", True), ("fpu avx2", False), ("", False), ("fp asimd bf16", True)],
)
def test_a_processor_says_whether_it_has_bf16(tmp_path: Path, flags: str, has: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor : 0\nflags : {flags}\n", encoding="utf-8")
    assert gpu.cpu_has_bf16(str(path)) is has
    assert gpu.cpu_has_bf16(str(tmp_path / "missing")) is False
