"""The GPUs of this machine, sampled from the driver through NVML, and the memory and CPU use of a process.

A sample is cheap enough for a screen that refreshes every second; it loads no torch and makes no CUDA
context. Nothing here raises. Without a driver there are no GPUs; a value that the driver does not report (MIG
slices, passive cards, virtual GPUs, missing permissions) is None; after the loss of a driver there are no
GPUs until it is back, and :attr:`GpuMonitor.problem` gives the reason."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from tui_lab.core.sanitize import sanitize

T = TypeVar("T")

#: bfloat16 arithmetic came with Ampere.
BF16_CAPABILITY = (8, 0)
#: In the names of GPUs that use main memory.
SHARED_MEMORY_NAMES = frozenset({"gb10", "orin", "xavier", "thor", "tegra", "jetson", "nvgpu"})
#: NVML's error codes after which every later call fails too, in words.
LOST_CODES = {
    1: "the driver was shut down",  # UNINITIALIZED
    9: "the driver is no longer loaded",  # DRIVER_NOT_LOADED
    15: "the GPU no longer answers",  # GPU_IS_LOST
    18: "the driver was replaced by another version",  # LIB_RM_VERSION_MISMATCH
}
#: UNKNOWN: for one value it means "not reported", for a handle or the memory that the driver has failed.
UNKNOWN_ERROR = 999
#: Seconds between two attempts to reach a lost driver: each may take the driver seconds.
RETRY_S = 30.0
#: NVML's reasons for clocks below the requested ones, in words; "idle" is left out.
THROTTLE_REASONS = {
    "nvmlClocksThrottleReasonApplicationsClocksSetting": "clocks set by hand",
    "nvmlClocksThrottleReasonSwPowerCap": "power limit",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSyncBoost": "sync boost",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "heat",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "heat (hardware)",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
    "nvmlClocksThrottleReasonDisplayClockSetting": "display clocks",
}
#: NVML's 64-bit "not available", where pynvml does not translate it.
_NOT_AVAILABLE = 2**63


@dataclass(frozen=True)
class GpuProcess:
    """A process with memory on a GPU. ``pid`` is the host's, also inside a container; ``used_bytes`` is None
    where the driver does not report it (Windows, virtual GPUs)."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class Gpu:
    """One sample of a GPU. ``index`` is NVML's order (by bus), which CUDA_VISIBLE_DEVICES may change: match
    devices by ``uuid``. For a MIG slice (``mig``) memory and processes are the slice's, the rest is the
    card's."""

    index: int
    name: str
    uuid: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None  # by all processes and the driver
    utilization_percent: int | None  # share of the last interval in which a kernel ran
    temperature_c: int | None
    power_w: float | None
    compute_capability: tuple[int, int] | None
    memory_reserved_bytes: int | None = None  # the driver's part of the used memory
    memory_utilization_percent: int | None = None  # share of the last interval with memory traffic
    clock_mhz: int | None = None
    clock_max_mhz: int | None = None
    throttle: tuple[str, ...] = ()  # reasons for reduced clocks, in words; empty where unknown
    pcie_rx_bytes_s: int | None = None  # into the GPU; None unless requested (20 ms)
    pcie_tx_bytes_s: int | None = None
    energy_j: float | None = None  # since the driver was loaded, the whole card
    processes: tuple[GpuProcess, ...] | None = None  # None where the driver lists none
    cores: int | None = None
    mig: bool = False
    card_uuid: str | None = None  # the card of a slice

    @property
    def bf16(self) -> bool | None:
        """Whether it computes in bfloat16; None when its compute capability is unknown."""
        return None if self.compute_capability is None else self.compute_capability >= BF16_CAPABILITY

    @property
    def shares_main_memory(self) -> bool:
        """Whether it has no memory of its own (GB10, Jetson): the driver then reports none."""
        words = set(re.findall(r"[a-z0-9]+", self.name.lower()))
        return self.memory_total_bytes is None and bool(words & SHARED_MEMORY_NAMES)


@dataclass(frozen=True)
class Driver:
    """The installed NVIDIA driver and the newest CUDA version that it supports."""

    version: str | None
    cuda: tuple[int, int] | None


@dataclass(frozen=True)
class ProcessUse:
    """Resource use of a process. ``cpu_percent`` is 200 for two busy cores."""

    resident_bytes: int
    cpu_percent: float


# --------------------------------------------------------------------------------------------------
# querying the driver

_nvml: ModuleType | None = None


class _DriverLost(Exception):
    """The driver or a GPU no longer answers; the message is the reason in words."""


def _library() -> ModuleType | None:
    """pynvml, initialised; None without a driver. Only success is cached, so a driver that starts later is
    found."""
    global _nvml
    if _nvml is None:
        try:
            import pynvml

            pynvml.nvmlInit()
            _nvml = pynvml
        except Exception:  # noqa: BLE001 (no package, no driver, or a driver of another version: no GPUs)
            return None
    return _nvml


def _reset() -> None:
    """Ends the session with a lost driver, so that the next query starts a new one."""
    global _nvml
    if _nvml is not None:
        nvml, _nvml = _nvml, None
        try:
            nvml.nvmlShutdown()
        except Exception:  # noqa: BLE001 (a lost driver cannot be shut down)
            return


def _query(call: Callable[[], T], essential: bool = False) -> T | None:
    """The result of a call, or None where the driver does not support it. Raises _DriverLost when the driver
    or the GPU no longer answers; for an ``essential`` call also on an unknown error."""
    try:
        return call()
    # pynvml raises its own errors, and ctypes' where the library lacks a function
    except Exception as error:  # noqa: BLE001
        code = getattr(error, "value", None)
        if code in LOST_CODES:
            raise _DriverLost(LOST_CODES[code]) from None
        if essential and code == UNKNOWN_ERROR:
            raise _DriverLost("the driver reports an unknown error") from None
        return None


def _first(*calls: Callable[[], T]) -> T | None:
    """The first result: newer functions of the driver go before the ones that they replace."""
    return next((result for call in calls if (result := _query(call)) is not None), None)


def _text(value: object) -> str | None:
    if value is None:
        return None
    return sanitize(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


@dataclass(frozen=True)
class _Device:
    """The driver's handle of a GPU or a slice, with its constant properties. ``card`` differs from ``handle``
    for a slice: sensors belong to the card."""

    index: int
    handle: object
    card: object
    name: str
    uuid: str | None
    capability: tuple[int, int] | None
    clock_max_mhz: int | None
    cores: int | None
    mig: bool
    card_uuid: str | None


def _devices(nvml: ModuleType) -> tuple[list[_Device], str]:
    """Every GPU, a divided card as its slices (a process can use nothing else of it), and the reason why one
    of them does not answer, "" when all do."""
    found, lost = [], ""
    for index in range(_query(lambda: nvml.nvmlDeviceGetCount()) or 0):
        try:
            card = _query(lambda: nvml.nvmlDeviceGetHandleByIndex(index))  # noqa: B023 - called at once
            if card is not None:
                slices = _slices(nvml, card)
                found += [_device(nvml, index, one, card, bool(slices)) for one in slices or [card]]
        except _DriverLost as error:
            lost = str(error)  # this one fell off the bus; the others still answer
    return found, lost


def _slices(nvml: ModuleType, card: object) -> list[object]:
    mode = _query(lambda: nvml.nvmlDeviceGetMigMode(card))
    if not mode or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    most = _query(lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(card)) or 0
    handles = [_query(lambda i=i: nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, i)) for i in range(most)]  # type: ignore[misc]
    return [handle for handle in handles if handle is not None]


def _device(nvml: ModuleType, index: int, handle: object, card: object, mig: bool) -> _Device:
    capability = _query(lambda: nvml.nvmlDeviceGetCudaComputeCapability(card))
    return _Device(
        index=index,
        handle=handle,
        card=card,
        name=_text(_first(lambda: nvml.nvmlDeviceGetName(handle), lambda: nvml.nvmlDeviceGetName(card)))
        or f"GPU {index}",
        uuid=_text(_query(lambda: nvml.nvmlDeviceGetUUID(handle))),
        capability=capability and (int(capability[0]), int(capability[1])),
        clock_max_mhz=_query(lambda: int(nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM))),
        cores=_query(lambda: int(nvml.nvmlDeviceGetNumGpuCores(card))),
        mig=mig,
        card_uuid=_text(_query(lambda: nvml.nvmlDeviceGetUUID(card))) if mig else None,
    )


def _memory(nvml: ModuleType, handle: object) -> tuple[int | None, int | None, int | None]:
    """Total, used, and the driver's part of the used memory, in bytes. Used is what is not free, as for
    CUDA."""
    newer = _query(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
    if newer is not None:
        return int(newer.total), int(newer.total) - int(newer.free), int(newer.reserved)
    memory = _query(lambda: nvml.nvmlDeviceGetMemoryInfo(handle), essential=True)
    if memory is None:
        return None, None, None
    return int(memory.total), int(memory.total) - int(memory.free), None


def _processes(nvml: ModuleType, handle: object) -> tuple[GpuProcess, ...] | None:
    """Processes with memory on the GPU, for computing or graphics; None when the driver lists none."""
    lists = [
        _query(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        _query(lambda: nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle)),
        _query(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)),
    ]
    if lists[0] is None:
        return None
    found: dict[int, int | None] = {}
    for process in (process for one in lists for process in one or []):
        used = process.usedGpuMemory
        used = None if used is None or used >= _NOT_AVAILABLE else int(used)
        before = found.get(int(process.pid))
        found[int(process.pid)] = max(used, before) if used is not None and before is not None else used
    return tuple(GpuProcess(pid, used) for pid, used in found.items())


def _throttle(nvml: ModuleType, card: object) -> tuple[str, ...]:
    bits = _first(
        lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(card),
        lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card),
    )
    if not bits:
        return ()
    return tuple(reason for name, reason in THROTTLE_REASONS.items() if bits & getattr(nvml, name, 0))


def _read(nvml: ModuleType, device: _Device, pcie: bool) -> Gpu:
    """A sample of the device. Raises _DriverLost."""
    handle, card = device.handle, device.card
    total, used, reserved = _memory(nvml, handle)
    rates = _query(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    milliwatts = _query(lambda: nvml.nvmlDeviceGetPowerUsage(card))
    millijoules = None if device.mig else _query(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(card))

    def pcie_bytes_s(counter: str) -> int | None:
        """The driver counts kilobytes over 20 ms."""
        kilobytes = _query(lambda: nvml.nvmlDeviceGetPcieThroughput(card, getattr(nvml, counter)))
        return None if kilobytes is None else int(kilobytes) * 1000

    return Gpu(
        index=device.index,
        name=device.name,
        uuid=device.uuid,
        memory_total_bytes=total,
        memory_used_bytes=used,
        utilization_percent=rates and int(rates.gpu),
        temperature_c=_first(
            lambda: int(nvml.nvmlDeviceGetTemperatureV(card, nvml.NVML_TEMPERATURE_GPU)),
            lambda: int(nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)),
        ),
        power_w=None if milliwatts is None else milliwatts / 1000,
        compute_capability=device.capability,
        memory_reserved_bytes=reserved,
        memory_utilization_percent=rates and int(rates.memory),
        clock_mhz=_query(lambda: int(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))),
        clock_max_mhz=device.clock_max_mhz,
        throttle=_throttle(nvml, card),
        pcie_rx_bytes_s=pcie_bytes_s("NVML_PCIE_UTIL_RX_BYTES") if pcie else None,
        pcie_tx_bytes_s=pcie_bytes_s("NVML_PCIE_UTIL_TX_BYTES") if pcie else None,
        energy_j=None if millijoules is None else millijoules / 1000,
        processes=_processes(nvml, handle),
        cores=device.cores,
        mig=device.mig,
        card_uuid=device.card_uuid,
    )


class GpuMonitor:
    """Samples GPUs repeatedly; handles and constant properties are queried once. After the loss of the driver
    or of a GPU, :attr:`problem` is the reason in words, GPUs that still answer are sampled, and every
    ``retry_s`` seconds the driver is queried again."""

    def __init__(
        self,
        select: Callable[[Sequence[Gpu]], Sequence[Gpu]] = lambda cards: cards,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``select``: chooses among all GPUs, and their order, after each connection to the driver."""
        self.problem = ""
        self._select, self._retry_s, self._clock = select, retry_s, clock
        self._watched: list[_Device] = []
        self._connect_at: float | None = clock()  # None: connected, without a problem

    def read(self, pcie: bool = False) -> list[Gpu]:
        """A sample of every GPU; empty without any. ``pcie`` adds the bus traffic, which takes 40 ms per
        GPU."""
        if self._connect_at is not None and self._clock() >= self._connect_at:
            self._connect()
        nvml = _library() if self._watched else None
        if nvml is None:
            return []
        cards, answering = [], []
        for device in self._watched:
            try:
                cards.append(_read(nvml, device, pcie))
                answering.append(device)
            except _DriverLost as error:
                self._set_problem(str(error))
        self._watched = answering
        return cards

    def _set_problem(self, problem: str) -> None:
        self.problem = problem
        if self._connect_at is None:
            self._connect_at = self._clock() + self._retry_s

    def _connect(self) -> None:
        if self.problem:
            _reset()
        self.problem, self._connect_at, self._watched = "", None, []
        nvml = _library()
        if nvml is None:
            return self._set_problem("no NVIDIA driver answers")
        sampled: list[tuple[Gpu, _Device]] = []
        try:
            devices, lost = _devices(nvml)
        except _DriverLost as error:
            devices, lost = [], str(error)
        for device in devices:
            try:
                sampled.append((_read(nvml, device, False), device))
            except _DriverLost as error:
                lost = str(error)
        chosen = self._select([card for card, _ in sampled])
        self._watched = [device for one in chosen for card, device in sampled if card is one]
        if lost or not self._watched:
            self._set_problem(lost or "the driver shows no GPU")
        return None


def sample() -> list[Gpu]:
    """A sample of every GPU of the machine, a divided one as its slices; an empty list without one."""
    return GpuMonitor().read()


def driver() -> Driver | None:
    """The NVIDIA driver; None without one."""
    nvml = _library()
    if nvml is None:
        return None
    try:
        cuda = _query(lambda: nvml.nvmlSystemGetCudaDriverVersion_v2())  # 12040 is 12.4
        version = _text(_query(lambda: nvml.nvmlSystemGetDriverVersion()))
    except _DriverLost:
        _reset()
        return None
    return Driver(version=version, cuda=None if cuda is None else (cuda // 1000, cuda % 1000 // 10))


class ProcessSampler:
    """Memory and CPU of one process, from one sample to the next."""

    def __init__(self, pid: int | None = None) -> None:
        """``pid``: the process; None for this one."""
        import psutil

        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except (psutil.Error, ValueError, OverflowError):
            self._process = None

    def sample(self) -> ProcessUse | None:
        """Its memory, and its CPU since the sample before (0 at the first); None once it has ended."""
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
    that is unknown."""
    try:
        with Path(cpuinfo).open(encoding="utf-8", errors="replace") as file:
            flags = set(file.read(16_384).split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
