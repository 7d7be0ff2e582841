"""What the GPUs of this machine are and do right now, read from the driver through NVML, and what a process
uses of memory and CPU. Sampling is cheap enough for a screen that refreshes every second, loads no torch
and makes no CUDA context; without a driver there are simply no GPUs. Nothing here raises: a figure that
the driver does not give (a MIG slice, a passive card, a virtual GPU, missing rights) is None, and a driver
that goes away in mid-run is a :attr:`GpuWatch.problem` and no GPUs until it is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tui_lab.core.sanitize import sanitize

#: bfloat16 arithmetic came with Ampere.
BF16_CAPABILITY = (8, 0)
#: NVML's error codes after which every later call says the same, in people's words.
GONE = {
    1: "the driver was shut down",  # UNINITIALIZED
    9: "the driver is not loaded any more",  # DRIVER_NOT_LOADED
    15: "the GPU does not answer any more",  # GPU_IS_LOST
    18: "the driver was replaced by another version",  # LIB_RM_VERSION_MISMATCH
}
#: UNKNOWN: of one figure it says nothing, of a handle or the memory it says that the driver is ill.
UNKNOWN_ERROR = 999
#: Seconds until a driver that went away is asked again: starting it may take seconds of the driver's time.
RETRY_S = 30.0
#: Why the clocks are below what was asked, by the names of NVML's bits; an idle GPU is not slowed down.
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
#: NVML's "no figure" in 64 bits, where pynvml does not translate it.
_NO_FIGURE = 2**63


@dataclass(frozen=True)
class GpuProcess:
    """A process with memory on a GPU. ``pid`` is the host's, also inside a container; ``used_bytes`` is None
    where the driver does not say (Windows, virtual GPUs)."""

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class Gpu:
    """One GPU at one moment. ``index`` is NVML's order (by bus), which CUDA_VISIBLE_DEVICES may change:
    match devices by ``uuid``. For a slice of a card (``mig``) memory and processes are the slice's, the
    rest is the whole card's."""

    index: int
    name: str
    uuid: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None  # by every process on the machine and by the driver itself
    utilization_percent: int | None  # share of the last interval in which a kernel ran
    temperature_c: int | None
    power_w: float | None
    compute_capability: tuple[int, int] | None
    memory_reserved_bytes: int | None = None  # of what is used: the driver's own
    memory_utilization_percent: int | None = None  # share of the last interval in which memory was moved
    clock_mhz: int | None = None
    clock_max_mhz: int | None = None
    throttle: tuple[str, ...] = ()  # why it runs below its clocks, in words; empty also where unknown
    pcie_rx_bytes_s: int | None = None  # into the GPU; None when not asked (it takes 20 ms)
    pcie_tx_bytes_s: int | None = None
    energy_j: float | None = None  # since the driver was loaded, the whole card
    processes: tuple[GpuProcess, ...] | None = None  # None where the driver lists none to us
    cores: int | None = None
    mig: bool = False
    card_uuid: str | None = None  # of a slice: the card's

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


# --------------------------------------------------------------------------------------------------
# asking the driver

_nvml: ModuleType | None = None


class _Gone(Exception):
    """The driver or the GPU went away; the message says which, in words."""


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


def _forget() -> None:
    """Ends the session with a driver that went away, so that the next question begins a new one."""
    global _nvml
    if _nvml is not None:
        nvml, _nvml = _nvml, None
        try:
            nvml.nvmlShutdown()
        except Exception:  # it is gone: there is nothing to end
            return


def _ask(question: Callable[[], Any], essential: bool = False) -> Any:
    """The answer, or None where the driver has none. Raises _Gone when driver or GPU went away."""
    try:
        return question()
    except Exception as error:  # pynvml raises its own errors, and ctypes' where the library lacks a function
        code = getattr(error, "value", None)
        if code in GONE:
            raise _Gone(GONE[code]) from None
        if essential and code == UNKNOWN_ERROR:
            raise _Gone("the driver gives an unknown error") from None
        return None


def _first(*questions: Callable[[], Any]) -> Any:
    """The first answer there is: newer functions of the driver before the ones that they replace."""
    return next((answer for question in questions if (answer := _ask(question)) is not None), None)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return sanitize(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


@dataclass(frozen=True)
class _Device:
    """A GPU or a slice of one as the driver hands it out, with what never changes. ``card`` differs from
    ``handle`` for a slice: sensors belong to the card."""

    index: int
    handle: Any
    card: Any
    name: str
    uuid: str | None
    capability: tuple[int, int] | None
    clock_max_mhz: int | None
    cores: int | None
    mig: bool
    card_uuid: str | None


def _devices(nvml: ModuleType) -> tuple[list[_Device], str]:
    """Every GPU, and instead of a card that is divided its slices: a process can use nothing else of it.
    Also why one of them does not answer, "" when all do."""
    found, lost = [], ""
    for index in range(_ask(lambda: nvml.nvmlDeviceGetCount()) or 0):
        try:
            card = _ask(lambda: nvml.nvmlDeviceGetHandleByIndex(index))  # noqa: B023 - asked at once
            if card is not None:
                slices = _slices(nvml, card)
                found += [_device(nvml, index, one, card, bool(slices)) for one in slices or [card]]
        except _Gone as gone:
            lost = str(gone)  # this one fell off the bus; its neighbours go on
    return found, lost


def _slices(nvml: ModuleType, card: Any) -> list[Any]:
    mode = _ask(lambda: nvml.nvmlDeviceGetMigMode(card))
    if not mode or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return []
    most = _ask(lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(card)) or 0
    handles = [_ask(lambda i=i: nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, i)) for i in range(most)]  # type: ignore[misc]
    return [handle for handle in handles if handle is not None]


def _device(nvml: ModuleType, index: int, handle: Any, card: Any, mig: bool) -> _Device:
    capability = _ask(lambda: nvml.nvmlDeviceGetCudaComputeCapability(card))
    return _Device(
        index=index,
        handle=handle,
        card=card,
        name=_text(_first(lambda: nvml.nvmlDeviceGetName(handle), lambda: nvml.nvmlDeviceGetName(card)))
        or f"GPU {index}",
        uuid=_text(_ask(lambda: nvml.nvmlDeviceGetUUID(handle))),
        capability=capability and (int(capability[0]), int(capability[1])),
        clock_max_mhz=_ask(lambda: int(nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM))),
        cores=_ask(lambda: int(nvml.nvmlDeviceGetNumGpuCores(card))),
        mig=mig,
        card_uuid=_text(_ask(lambda: nvml.nvmlDeviceGetUUID(card))) if mig else None,
    )


def _memory(nvml: ModuleType, handle: Any) -> tuple[int | None, int | None, int | None]:
    """Total, used and of that the driver's own, in bytes. Used is what is not free, as CUDA counts."""
    newer = _ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2))
    if newer is not None:
        return int(newer.total), int(newer.total) - int(newer.free), int(newer.reserved)
    memory = _ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle), essential=True)
    if memory is None:
        return None, None, None
    return int(memory.total), int(memory.total) - int(memory.free), None


def _processes(nvml: ModuleType, handle: Any) -> tuple[GpuProcess, ...] | None:
    """Who has memory on the GPU, for computing or for graphics; None when the driver lists nobody to us."""
    lists = [
        _ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        _ask(lambda: nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle)),
        _ask(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)),
    ]
    if lists[0] is None:
        return None
    found: dict[int, int | None] = {}
    for process in (process for one in lists for process in one or []):
        used = process.usedGpuMemory
        used = None if used is None or used >= _NO_FIGURE else int(used)
        before = found.get(int(process.pid))
        found[int(process.pid)] = max(used, before) if used is not None and before is not None else used
    return tuple(GpuProcess(pid, used) for pid, used in found.items())


def _throttle(nvml: ModuleType, card: Any) -> tuple[str, ...]:
    bits = _first(
        lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(card),
        lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card),
    )
    if not bits:
        return ()
    return tuple(words for name, words in THROTTLE_REASONS.items() if bits & getattr(nvml, name, 0))


def _read(nvml: ModuleType, device: _Device, pcie: bool) -> Gpu:
    """The device as it is now. Raises _Gone."""
    handle, card = device.handle, device.card
    total, used, reserved = _memory(nvml, handle)
    rates = _ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    milliwatts = _ask(lambda: nvml.nvmlDeviceGetPowerUsage(card))
    millijoules = None if device.mig else _ask(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(card))

    def moved(counter: str) -> int | None:
        """Bytes a second; the driver counts kilobytes over 20 ms."""
        kilobytes = _ask(lambda: nvml.nvmlDeviceGetPcieThroughput(card, getattr(nvml, counter)))
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
        clock_mhz=_ask(lambda: int(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))),
        clock_max_mhz=device.clock_max_mhz,
        throttle=_throttle(nvml, card),
        pcie_rx_bytes_s=moved("NVML_PCIE_UTIL_RX_BYTES") if pcie else None,
        pcie_tx_bytes_s=moved("NVML_PCIE_UTIL_TX_BYTES") if pcie else None,
        energy_j=None if millijoules is None else millijoules / 1000,
        processes=_processes(nvml, handle),
        cores=device.cores,
        mig=device.mig,
        card_uuid=device.card_uuid,
    )


class GpuWatch:
    """GPUs looked at again and again: handles and unchanging facts are asked once. After the driver or a
    GPU went away, :attr:`problem` says so in words, what still answers is read on, and every ``retry_s``
    seconds the driver is asked anew."""

    def __init__(
        self,
        pick: Callable[[Sequence[Gpu]], Sequence[Gpu]] = lambda cards: cards,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pick``: chooses among all GPUs, and their order, whenever the driver is asked anew."""
        self.problem = ""
        self._pick, self._retry_s, self._clock = pick, retry_s, clock
        self._watched: list[_Device] = []
        self._connect_at: float | None = clock()  # None: connected, and all is well

    def read(self, pcie: bool = False) -> list[Gpu]:
        """The GPUs as they are now; empty without any. ``pcie`` adds what moves over the bus, for 40 ms more
        a GPU."""
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
            except _Gone as gone:
                self._lost(str(gone))
        self._watched = answering
        return cards

    def _lost(self, problem: str) -> None:
        self.problem = problem
        if self._connect_at is None:
            self._connect_at = self._clock() + self._retry_s

    def _connect(self) -> None:
        if self.problem:
            _forget()
        self.problem, self._connect_at, self._watched = "", None, []
        nvml = _library()
        if nvml is None:
            return self._lost("no NVIDIA driver answers")
        seen: list[tuple[Gpu, _Device]] = []
        try:
            devices, lost = _devices(nvml)
        except _Gone as gone:
            devices, lost = [], str(gone)
        for device in devices:
            try:
                seen.append((_read(nvml, device, False), device))
            except _Gone as gone:
                lost = str(gone)
        chosen = self._pick([card for card, _ in seen])
        self._watched = [device for one in chosen for card, device in seen if card is one]
        if lost or not self._watched:
            self._lost(lost or "the driver shows no GPU")
        return None


def sample() -> list[Gpu]:
    """Every GPU of the machine, as it is now, a divided one as its slices; an empty list without one."""
    return GpuWatch().read()


def driver() -> Driver | None:
    """The driver; None where there is none."""
    nvml = _library()
    if nvml is None:
        return None
    try:
        cuda = _ask(lambda: nvml.nvmlSystemGetCudaDriverVersion_v2())  # 12040 is 12.4
        version = _text(_ask(lambda: nvml.nvmlSystemGetDriverVersion()))
    except _Gone:
        _forget()
        return None
    return Driver(version=version, cuda=None if cuda is None else (cuda // 1000, cuda % 1000 // 10))


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
