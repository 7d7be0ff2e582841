"""What the GPUs of this machine are and do right now, read from the driver through NVML, and what a process
uses of memory and CPU. Sampling is cheap enough for a screen that refreshes every second, loads no torch
and makes no CUDA context; without a driver there are simply no GPUs. Nothing here raises: a figure that
the driver does not give (a MIG slice, a passive card, a virtual GPU) is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tui_lab.safe_text import visible

#: bfloat16 arithmetic came with Ampere.
BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment. ``index`` is NVML's order (by bus), which CUDA_VISIBLE_DEVICES may change:
    match devices by ``uuid``."""

    index: int
    name: str
    uuid: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None  # by every process on the machine
    utilization_percent: int | None  # share of the last interval in which a kernel ran
    temperature_c: int | None
    power_w: float | None
    compute_capability: tuple[int, int] | None

    @property
    def bf16(self) -> bool | None:
        """Whether it computes in bfloat16; None when its compute capability is not known."""
        return None if self.compute_capability is None else self.compute_capability >= BF16_CAPABILITY


@dataclass(frozen=True)
class Driver:
    """The installed NVIDIA driver, and the newest CUDA that it runs."""

    version: str | None
    cuda: tuple[int, int] | None


@dataclass(frozen=True)
class ProcessUse:
    """What a process uses. ``cpu_percent`` counts cores: 200 is two full ones."""

    resident_bytes: int
    cpu_percent: float


_nvml: ModuleType | None = None


def _library() -> ModuleType | None:
    """pynvml, initialised; None without a driver. Only success is kept, so a driver that comes up later
    is found."""
    global _nvml
    if _nvml is None:
        try:
            import pynvml

            pynvml.nvmlInit()
            _nvml = pynvml
        except Exception:  # no package, no driver, a driver of another version: no GPUs
            return None
    return _nvml


def _ask(question: Callable[[], Any]) -> Any:
    """The answer, or None where the driver has none."""
    try:
        return question()
    except Exception:  # pynvml raises its own errors, and ctypes' where the library lacks a function
        return None


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return visible(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _read(nvml: ModuleType, index: int) -> Gpu | None:
    handle = _ask(lambda: nvml.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return None
    memory = _ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    rates = _ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    milliwatts = _ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    capability = _ask(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    return Gpu(
        index=index,
        name=_text(_ask(lambda: nvml.nvmlDeviceGetName(handle))) or f"GPU {index}",
        uuid=_text(_ask(lambda: nvml.nvmlDeviceGetUUID(handle))),
        memory_total_bytes=memory and int(memory.total),
        memory_used_bytes=memory and int(memory.used),
        utilization_percent=rates and int(rates.gpu),
        temperature_c=_ask(lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        power_w=None if milliwatts is None else milliwatts / 1000,
        compute_capability=capability and (int(capability[0]), int(capability[1])),
    )


def sample() -> list[Gpu]:
    """Every GPU of the machine, as it is now; an empty list without one."""
    nvml = _library()
    if nvml is None:
        return []
    count = _ask(lambda: nvml.nvmlDeviceGetCount()) or 0
    return [gpu for index in range(count) if (gpu := _read(nvml, index)) is not None]


def driver() -> Driver | None:
    """The driver; None where there is none."""
    nvml = _library()
    if nvml is None:
        return None
    cuda = _ask(lambda: nvml.nvmlSystemGetCudaDriverVersion_v2())  # 12040 is 12.4
    return Driver(
        version=_text(_ask(lambda: nvml.nvmlSystemGetDriverVersion())),
        cuda=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
    )


class ProcessSampler:
    """Memory and CPU of one process, from one look to the next."""

    def __init__(self, pid: int | None = None) -> None:
        """``pid``: the process to watch; None means this one."""
        import psutil

        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except (psutil.Error, ValueError, OverflowError):
            self._process = None

    def sample(self) -> ProcessUse | None:
        """What it uses, the CPU since the look before (0 at the first); None once it is gone."""
        import psutil

        if self._process is None:
            return None
        try:
            return ProcessUse(self._process.memory_info().rss, self._process.cpu_percent(interval=None))
        except psutil.Error:
            self._process = None
            return None


def cpu_has_bf16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the processor multiplies bfloat16 natively (AVX512-BF16, AMX, or ARM's extension); False where
    the system does not say."""
    try:
        with Path(cpuinfo).open(encoding="utf-8", errors="replace") as file:
            words = set(file.read(16_384).split())
    except OSError:
        return False
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
