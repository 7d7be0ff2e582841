"""An NVIDIA driver for the tests: the C library that pynvml calls, in Python. The real pynvml stays in
between, so that names, structures, sizes and errors are the package's own and the fake cannot drift from
it. What a card answers is written by hand after what such cards answer; a function that the driver lacks,
refuses or fails is set per function, and a driver can be unloaded, exchanged or made to hang in mid-run.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pynvml
import pytest

from tui_lab.hardware import gpu

MIB = 1 << 20
OK = pynvml.NVML_SUCCESS
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
#: What the driver writes where it does not know how much a process uses.
NOT_AVAILABLE = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value

#: Every error code that pynvml knows, by its name there.
ERRORS: dict[str, int] = {
    name: value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")
}


@dataclass
class Card:
    """What one GPU, or one slice of a divided one, answers. ``refuses`` maps a C function to its error."""

    name: str
    uuid: str
    total_mib: int
    used_mib: int = 0  # by processes
    reserved_mib: int = 0
    capability: tuple[int, int] = (8, 0)
    cores: int = 0
    gpu_percent: int = 0
    memory_percent: int = 0
    temperature_c: int = 40
    milliwatts: int = 50_000
    millijoules: int = 1_000_000
    clock_mhz: int = 1_000
    clock_max_mhz: int = 2_000
    throttle: int = 0
    rx_kb_s: int = 0
    tx_kb_s: int = 0
    compute: list[tuple[int, int]] = field(default_factory=list)  # (pid, bytes)
    graphics: list[tuple[int, int]] = field(default_factory=list)
    slices: list[Card | None] | None = None  # divided: its slices, None for a free place
    refuses: dict[str, int] = field(default_factory=dict)


def t4(**changes: Any) -> Card:
    """A cloud's Tesla T4, passively cooled, somewhat busy."""
    card = Card(
        "Tesla T4", "GPU-3ac9bb3c-7a9d-4e0f-9d9b-0f5b3c1a2e11", 15_360, used_mib=1_027, reserved_mib=449,
        capability=(7, 5), cores=2_560, gpu_percent=40, memory_percent=17, temperature_c=61,
        milliwatts=50_500, millijoules=4_000_000, clock_mhz=1_350, clock_max_mhz=1_590,
        throttle=pynvml.nvmlClocksEventReasonSwPowerCap, rx_kb_s=900_000, tx_kb_s=120_000,
    )  # fmt: skip
    return replace(card, **changes)


def rtx_4090(**changes: Any) -> Card:
    """A desktop's RTX 4090 that also draws the screen."""
    card = Card(
        "NVIDIA GeForce RTX 4090", "GPU-91d2a1f0-55aa-4c3b-8e77-6d5c4b3a2f10", 24_564, used_mib=1_100,
        reserved_mib=421, capability=(8, 9), cores=16_384, gpu_percent=3, temperature_c=44,
        milliwatts=31_020, millijoules=90_000_000, clock_mhz=210, clock_max_mhz=3_105,
        throttle=pynvml.nvmlClocksEventReasonGpuIdle, graphics=[(1_201, 1_000 * MIB), (2_044, 100 * MIB)],
    )  # fmt: skip
    return replace(card, **changes)


def a100_slices(**changes: Any) -> Card:
    """An A100 of 40 GB divided in two slices and a free place: utilisation is not measured, the card's own
    memory is nobody's business without rights to it."""
    parent = "GPU-5f0e8a2c-0b1c-4f7e-9a53-1d2e3f4a5b6c"
    no_rates = {"nvmlDeviceGetUtilizationRates": NOT_SUPPORTED}
    sensors = dict.fromkeys(
        [
            "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetPowerUsage",
            "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetClockInfo", "nvmlDeviceGetMaxClockInfo",
            "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
            "nvmlDeviceGetPcieThroughput", "nvmlDeviceGetNumGpuCores",
            "nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetMemoryInfo_v2",
        ],
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
    )  # fmt: skip
    one = Card(
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "MIG-7a6b5c4d-1111-5222-8333-944455566677", 4_864, used_mib=600,
        refuses={**no_rates, **sensors},
    )  # fmt: skip
    other = replace(one, uuid="MIG-7a6b5c4d-9999-5888-8777-966655544433", used_mib=0)
    card = Card(
        "NVIDIA A100-SXM4-40GB", parent, 40_960, used_mib=600, capability=(8, 0), cores=6_912,
        temperature_c=35, milliwatts=68_000, clock_mhz=1_410, clock_max_mhz=1_410, slices=[one, None, other],
        refuses={
            **no_rates,
            "nvmlDeviceGetMemoryInfo": NO_PERMISSION, "nvmlDeviceGetMemoryInfo_v2": NO_PERMISSION,
        },
    )  # fmt: skip
    return replace(card, **changes)


def vgpu(**changes: Any) -> Card:
    """A virtual GPU: its memory and little else."""
    refused = dict.fromkeys(
        [
            "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetPowerUsage",
            "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPcieThroughput",
            "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
        ],
        NOT_SUPPORTED,
    )  # fmt: skip
    card = Card(
        "NVIDIA T4-8Q", "GPU-00c0ffee-0000-11b2-a5a5-8badf00d0001", 8_192, used_mib=700, capability=(7, 5),
        cores=2_560, gpu_percent=12, compute=[(4_242, NOT_AVAILABLE)], refuses=refused,
    )  # fmt: skip
    return replace(card, **changes)


class FakeDriver:
    """The library's functions by their C names. ``fails`` maps a function to an error for every card;
    ``gone`` makes every function answer that error; ``lacks`` are functions of a newer driver."""

    def __init__(self, *cards: Card, cuda: int = 12_040, lacks: tuple[str, ...] = ()) -> None:
        self.cards = list(cards)
        self.cuda, self.lacks = cuda, lacks
        self.fails: dict[str, int] = {}
        self.gone = OK
        self.running = 0
        self.calls: list[str] = []
        self.hang: threading.Event | None = None  # while set to an event, every call waits for it

    # ------------------------------------------------------------------ as a ctypes library

    def __getattr__(self, name: str) -> Callable[..., int]:
        answer = getattr(type(self), f"_c_{name}", None)
        if answer is None or name in self.lacks:
            raise AttributeError(name)
        return lambda *arguments: self._call(name, answer, arguments)

    def _call(self, name: str, answer: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name == "nvmlErrorString":
            return b"an error"
        self.calls.append(name)
        if self.hang is not None:
            self.hang.wait()
        if self.gone:
            return self.gone
        if name in self.fails:
            return self.fails[name]
        if name not in ("nvmlInitWithFlags", "nvmlShutdown") and not self.running:
            return pynvml.NVML_ERROR_UNINITIALIZED
        if "Device" in name and arguments and isinstance(arguments[0], pynvml.c_nvmlDevice_t):
            card = self._card(arguments[0])
            if card is None:
                return pynvml.NVML_ERROR_INVALID_ARGUMENT
            if name in card.refuses:
                return card.refuses[name]
            return answer(self, card, *arguments[1:]) or OK
        return answer(self, *arguments) or OK

    # A handle is a number: the card's place from 1, and a hundred for each place of a slice.

    def _card(self, handle: Any) -> Card | None:
        number = ctypes.cast(handle, ctypes.c_void_p).value or 0
        card = self.cards[number % 100 - 1]
        return card if number < 100 else (card.slices or [])[number // 100 - 1]

    @staticmethod
    def _set_handle(reference: Any, number: int) -> None:
        ctypes.c_void_p.from_buffer(reference._obj).value = number

    # ------------------------------------------------------------------ the system

    def _c_nvmlInitWithFlags(self, flags: int) -> None:
        self.running += 1

    def _c_nvmlShutdown(self) -> int:
        if not self.running:
            return pynvml.NVML_ERROR_UNINITIALIZED
        self.running -= 1
        return OK

    def _c_nvmlErrorString(self, code: int) -> None: ...

    def _c_nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> None:
        buffer.value = b"550.54.14"

    def _c_nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> None:
        version._obj.value = self.cuda

    def _c_nvmlDeviceGetCount_v2(self, count: Any) -> None:
        count._obj.value = len(self.cards)

    def _c_nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        card = self.cards[index.value]
        if error := card.refuses.get("nvmlDeviceGetHandleByIndex_v2"):
            return error
        self._set_handle(device, index.value + 1)
        return OK

    # ------------------------------------------------------------------ one card

    def _c_nvmlDeviceGetName(self, card: Card, buffer: Any, size: Any) -> None:
        buffer.value = card.name.encode()

    def _c_nvmlDeviceGetUUID(self, card: Card, buffer: Any, size: Any) -> None:
        buffer.value = card.uuid.encode()

    def _c_nvmlDeviceGetCudaComputeCapability(self, card: Card, major: Any, minor: Any) -> None:
        major._obj.value, minor._obj.value = card.capability

    def _c_nvmlDeviceGetNumGpuCores(self, card: Card, count: Any) -> None:
        count._obj.value = card.cores

    def _c_nvmlDeviceGetMigMode(self, card: Card, current: Any, pending: Any) -> int:
        if card.capability[0] < 8 or "RTX" in card.name:
            return NOT_SUPPORTED
        current._obj.value = pending._obj.value = int(card.slices is not None)
        return OK

    def _c_nvmlDeviceGetMaxMigDeviceCount(self, card: Card, count: Any) -> None:
        count._obj.value = 7

    def _c_nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: Any, device: Any) -> int:
        places = card.slices or []
        if index.value >= len(places) or places[index.value] is None:
            return pynvml.NVML_ERROR_NOT_FOUND
        place = next(i for i, one in enumerate(self.cards) if one is card)
        self._set_handle(device, (index.value + 1) * 100 + place + 1)
        return OK

    def _c_nvmlDeviceGetMemoryInfo(self, card: Card, memory: Any) -> None:
        taken = (card.used_mib + card.reserved_mib) * MIB
        info = memory._obj
        info.total, info.used, info.free = card.total_mib * MIB, taken, card.total_mib * MIB - taken

    def _c_nvmlDeviceGetMemoryInfo_v2(self, card: Card, memory: Any) -> int:
        if memory._obj.version != pynvml.nvmlMemory_v2:
            return pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH
        self._c_nvmlDeviceGetMemoryInfo(card, memory)
        memory._obj.used, memory._obj.reserved = card.used_mib * MIB, card.reserved_mib * MIB
        return OK

    def _c_nvmlDeviceGetUtilizationRates(self, card: Card, rates: Any) -> None:
        rates._obj.gpu, rates._obj.memory = card.gpu_percent, card.memory_percent

    def _c_nvmlDeviceGetTemperatureV(self, card: Card, reading: Any) -> int:
        if reading._obj.sensorType != pynvml.NVML_TEMPERATURE_GPU:
            return pynvml.NVML_ERROR_INVALID_ARGUMENT
        reading._obj.temperature = card.temperature_c
        return OK

    def _c_nvmlDeviceGetTemperature(self, card: Card, sensor: Any, reading: Any) -> int:
        if sensor.value != pynvml.NVML_TEMPERATURE_GPU:
            return pynvml.NVML_ERROR_INVALID_ARGUMENT
        reading._obj.value = card.temperature_c
        return OK

    def _c_nvmlDeviceGetPowerUsage(self, card: Card, reading: Any) -> None:
        reading._obj.value = card.milliwatts

    def _c_nvmlDeviceGetTotalEnergyConsumption(self, card: Card, reading: Any) -> None:
        reading._obj.value = card.millijoules

    def _c_nvmlDeviceGetClockInfo(self, card: Card, kind: Any, reading: Any) -> int:
        reading._obj.value = card.clock_mhz
        return OK if kind.value == pynvml.NVML_CLOCK_SM else pynvml.NVML_ERROR_INVALID_ARGUMENT

    def _c_nvmlDeviceGetMaxClockInfo(self, card: Card, kind: Any, reading: Any) -> int:
        reading._obj.value = card.clock_max_mhz
        return OK if kind.value == pynvml.NVML_CLOCK_SM else pynvml.NVML_ERROR_INVALID_ARGUMENT

    def _c_nvmlDeviceGetCurrentClocksEventReasons(self, card: Card, reading: Any) -> None:
        reading._obj.value = card.throttle

    _c_nvmlDeviceGetCurrentClocksThrottleReasons = _c_nvmlDeviceGetCurrentClocksEventReasons

    def _c_nvmlDeviceGetPcieThroughput(self, card: Card, counter: Any, reading: Any) -> None:
        received = counter.value == pynvml.NVML_PCIE_UTIL_RX_BYTES
        reading._obj.value = card.rx_kb_s if received else card.tx_kb_s

    def _list(self, processes: list[tuple[int, int]], count: Any, array: Any) -> int:
        room, count._obj.value = count._obj.value, len(processes)
        if len(processes) > room:
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        for place, (pid, used) in enumerate(processes):
            array[place].pid, array[place].usedGpuMemory = pid, used
        return OK

    def _c_nvmlDeviceGetComputeRunningProcesses_v3(self, card: Card, count: Any, array: Any) -> int:
        return self._list(card.compute, count, array)

    def _c_nvmlDeviceGetGraphicsRunningProcesses_v3(self, card: Card, count: Any, array: Any) -> int:
        return self._list(card.graphics, count, array)

    def _c_nvmlDeviceGetMPSComputeRunningProcesses_v3(self, card: Card, count: Any, array: Any) -> int:
        return self._list([], count, array)


#: Every C function of the fake: what the parametrised tests let fail, one after another.
FUNCTIONS = sorted(
    name.removeprefix("_c_")
    for name in vars(FakeDriver)
    if name.startswith("_c_") and name != "_c_nvmlErrorString"
)


def install(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None) -> None:
    """Lets pynvml find this driver; None: no library on this machine."""

    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", driver)
    monkeypatch.setattr(pynvml, "CDLL", missing)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)
    monkeypatch.setattr(gpu, "_nvml", None)
