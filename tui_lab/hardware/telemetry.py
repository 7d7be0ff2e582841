"""Evaluates samples of :mod:`tui_lab.hardware.gpu`: the GPUs that CUDA shows a process, the shares of used
memory, energy, and the average of many samples as one record. Pure functions and small accumulators."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from tui_lab.hardware.gpu import Gpu, ProcessUse

#: The driver lists at least this share of what a process knows to hold, else the listed process is another
#: one: inside a container the number may belong to a process of the host.
PLAUSIBLE_SHARE = 0.5
#: Longest time between two samples over which power is integrated when the driver has no energy counter.
MAX_GAP_S = 10.0

_NUMBER = re.compile(r"[+-]?\d+")


# --------------------------------------------------------------------------------------------------
# visible GPUs


def plain_uuid(uuid: str | None) -> str:
    """A UUID without its kind (``GPU-``, ``MIG-``), lower case: torch gives it bare."""
    text = (uuid or "").casefold()
    for kind in ("mig-gpu-", "mig-", "gpu-"):
        text = text.removeprefix(kind)
    return text


def visible_gpus(cards: Sequence[Gpu], environment: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that CUDA would show a process with this environment, in CUDA's order. Reads
    CUDA_VISIBLE_DEVICES as CUDA does: numbers or prefixes of UUIDs; the list ends at the first invalid one,
    and a duplicate empties it. Of a divided card a process sees the first slice."""
    ordered = _in_order(cards, environment.get("CUDA_DEVICE_ORDER", ""))
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return ordered
    kind = next((kind for kind in ("GPU-", "MIG-") if wanted.startswith(kind)), "")
    chosen: list[Gpu] = []
    named: set[object] = set()
    for word in wanted.split(","):
        name: object = word
        if kind:
            found = [card for card in (cards if kind == "MIG-" else ordered) if _named(card, word, kind)]
            if not word.startswith(kind) or len(found) != 1:
                break
            [card] = found
        else:
            number = _NUMBER.match(word.strip())
            name = int(number[0]) if number else -1
            if not 0 <= name < len(ordered):
                break
            card = ordered[name]
        if name in named:
            return []
        named.add(name)
        chosen.append(card)
    return chosen


def _named(card: Gpu, word: str, kind: str) -> bool:
    uuid = card.card_uuid if kind == "GPU-" and card.mig else card.uuid
    return (uuid or "").casefold().startswith(word.casefold())


def _in_order(cards: Sequence[Gpu], order: str) -> list[Gpu]:
    """One entry per card, a divided one as its first slice: by bus for PCI_BUS_ID, else the fastest first, by
    cores times clock (CUDA uses a rule of its own)."""
    first_slices = list({card.index: card for card in reversed(cards)}.values())
    first_slices.sort(key=lambda card: card.index)
    speeds = [(card.cores or 0) * (card.clock_max_mhz or 0) for card in first_slices]
    if order != "PCI_BUS_ID" and all(speeds):
        ranked = sorted(zip(speeds, first_slices, strict=True), key=lambda pair: -pair[0])
        return [card for _, card in ranked]
    return first_slices


def match_uuids(cards: Sequence[Gpu], uuids: Sequence[str], environment: Mapping[str, str]) -> list[Gpu]:
    """NVML's samples of the devices with these CUDA UUIDs, in that order. CUDA may give a slice its own UUID
    or its card's; a device whose UUID NVML does not know is matched by position."""
    visible = visible_gpus(cards, environment)
    chosen = []
    for place, uuid in enumerate(uuids):
        wanted = plain_uuid(uuid)
        ours = [card for card in cards if wanted and plain_uuid(card.uuid) == wanted]
        slices = [card for card in cards if wanted and card.mig and plain_uuid(card.card_uuid) == wanted]
        of_slices = [card for card in slices if card in visible] or slices
        by_position = visible[place : place + 1] if not (ours or slices) else []
        chosen += (ours or of_slices or by_position)[:1]
    return chosen


# --------------------------------------------------------------------------------------------------
# memory shares


def memory_shares(
    card: Gpu, pids: Collection[int], allocated_bytes: int | None
) -> tuple[int | None, int | None]:
    """Bytes of a GPU's memory in use by this process and by others; None where unknown.

    ``pids`` are this process's numbers, ``allocated_bytes`` what it has allocated there by torch's account
    (None when it has not used the GPU). Inside a container the driver may list no process, or processes of
    the host: for a process that has allocated memory and is not listed neither share is known."""
    used = None
    if card.memory_used_bytes is not None:
        used = max(0, card.memory_used_bytes - (card.memory_reserved_bytes or 0))
    listed = [process for process in card.processes or () if process.pid in pids]
    if allocated_bytes is None and not listed:
        return 0, used
    if not listed or any(process.used_bytes is None for process in listed):
        return None, None
    own = sum(process.used_bytes or 0 for process in listed)
    if own < PLAUSIBLE_SHARE * (allocated_bytes or 0):
        return None, None
    if card.memory_reserved_bytes is None:
        # older drivers count their own part as used: the list of other processes is more accurate
        rest = [process.used_bytes for process in card.processes or () if process.pid not in pids]
        if all(one is not None for one in rest):
            return own, sum(one or 0 for one in rest)
    return own, None if used is None else max(0, used - own)


# --------------------------------------------------------------------------------------------------
# energy


class EnergyMeter:
    """Energy drawn by GPUs in joules: from the driver's counter, else power integrated over time. None once
    an interval is unknown (a MIG slice, a lost driver, no readings)."""

    def __init__(self, before_j: float | None = 0.0) -> None:
        """``before_j``: energy of earlier attempts of the run; None when unknown."""
        self._total_j = before_j
        self._last: dict[str, tuple[float, float | None, float | None]] = {}
        self._last_sample_s: float | None = None

    def add(self, cards: Sequence[Gpu], now_s: float) -> None:
        """Adds a sample of every GPU at ``now_s`` of a monotonic clock."""
        for card in cards:
            key = card.uuid or str(card.index)
            before = self._last.get(key)
            self._last[key] = (now_s, card.energy_j, card.power_w)
            if card.mig or (card.energy_j is None and card.power_w is None):
                self._total_j = None
            elif before is not None and self._total_j is not None:
                drawn = _drawn(before, now_s, card)
                self._total_j = None if drawn is None else self._total_j + drawn
        if cards:
            self._last_sample_s = now_s

    def total_j(self, now_s: float) -> float | None:
        """Joules until ``now_s``; None when unknown, also when the newest sample is too old."""
        if self._last_sample_s is None or now_s - self._last_sample_s > MAX_GAP_S:
            return None
        return self._total_j


def _drawn(before: tuple[float, float | None, float | None], now_s: float, card: Gpu) -> float | None:
    """Joules between two samples of a GPU; None when unknown."""
    then_s, counted_j, power_w = before
    if counted_j is not None and card.energy_j is not None and card.energy_j >= counted_j:
        return card.energy_j - counted_j
    # a counter that decreased was reset with the driver
    gap_s = now_s - then_s
    if power_w is None or card.power_w is None or gap_s > MAX_GAP_S:
        return None
    return gap_s * (power_w + card.power_w) / 2


# --------------------------------------------------------------------------------------------------
# averages


def _mean(values: Iterable[float | None], digits: int = 1) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), digits) if known else None


def _max(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


class GpuRecord(msgspec.Struct, frozen=True):
    """One GPU in a telemetry record; None for what its driver does not report."""

    uuid: str | None = ""
    index: int | None = None
    name: str = ""
    mig: bool | str | None = None
    used_bytes: float | None = None
    total_bytes: float | None = None
    own_bytes: float | None = None
    others_bytes: float | None = None
    utilization_percent: float | None = None
    memory_utilization_percent: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    clock_max_mhz: float | None = None
    throttle: list[str] = []
    pcie_rx_bytes_s: float | None = None
    pcie_tx_bytes_s: float | None = None


class ProcessRecord(msgspec.Struct, frozen=True):
    """The run's own process in a telemetry record."""

    resident_bytes: float | None = None
    cpu_percent: float | None = None


class TelemetryWindow:
    """The samples since the last record, as means; for memory the maximum."""

    def __init__(self) -> None:
        self._cards: dict[str, list[tuple[Gpu, int | None, int | None]]] = {}
        self._process: list[ProcessUse] = []

    def add(
        self,
        cards: Sequence[Gpu],
        owned: Sequence[tuple[int | None, int | None]],
        process: ProcessUse | None,
    ) -> None:
        """Adds a sample; ``owned`` are the :func:`memory_shares` of each card."""
        for card, (own, others) in zip(cards, owned, strict=True):
            self._cards.setdefault(card.uuid or str(card.index), []).append((card, own, others))
        if process is not None:
            self._process.append(process)

    @property
    def empty(self) -> bool:
        return not self._cards and not self._process

    def flush(self) -> tuple[list[GpuRecord], ProcessRecord]:
        """The records of the GPUs and of the process; empties the window."""
        gpus = [_gpu_record(samples) for samples in self._cards.values()]
        process = ProcessRecord(
            _max(one.resident_bytes for one in self._process), _mean(one.cpu_percent for one in self._process)
        )
        self._cards, self._process = {}, []
        return gpus, process


def _gpu_record(samples: list[tuple[Gpu, int | None, int | None]]) -> GpuRecord:
    last, own, others = samples[-1]
    cards = [card for card, _, _ in samples]
    moved = [card for card in cards if card.pcie_rx_bytes_s is not None or card.pcie_tx_bytes_s is not None]
    return GpuRecord(
        uuid=last.uuid,
        index=last.index,
        name=last.name,
        mig=last.mig,
        used_bytes=_max(card.memory_used_bytes for card in cards),
        total_bytes=last.memory_total_bytes,
        # unknown in the newest sample means unknown
        own_bytes=None if own is None else _max(one for _, one, _ in samples),
        others_bytes=None if others is None else _max(one for _, _, one in samples),
        utilization_percent=_mean(card.utilization_percent for card in cards),
        memory_utilization_percent=_mean(card.memory_utilization_percent for card in cards),
        temperature_c=_mean(card.temperature_c for card in cards),
        power_w=_mean(card.power_w for card in cards),
        clock_mhz=_mean((card.clock_mhz for card in cards), 0),
        clock_max_mhz=last.clock_max_mhz,
        throttle=list(dict.fromkeys(reason for card in cards for reason in card.throttle)),
        pcie_rx_bytes_s=_mean((card.pcie_rx_bytes_s for card in moved), 0),
        pcie_tx_bytes_s=_mean((card.pcie_tx_bytes_s for card in moved), 0),
    )
