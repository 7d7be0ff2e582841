"""What samples of GPUs and of a process mean: which GPUs CUDA shows to a process, whose memory is in use,
how much energy was drawn, and many samples as one record. Pure functions and small accumulators over
:mod:`tui_lab.hardware.gpu`'s figures; the run's sampler and the lab use them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tui_lab.hardware.gpu import Gpu, ProcessUse

#: A process counts at least this part of what it knows to hold when it is the one that the driver lists
#: under our number: inside a container the number may be a stranger's.
PLAUSIBLE_SHARE = 0.5
#: Seconds between two samples over which power is taken as known when the driver counts no energy.
LONGEST_GAP_S = 10.0

_NUMBER = re.compile(r"[+-]?\d+")


# --------------------------------------------------------------------------------------------------
# which GPUs


def plain_uuid(uuid: str | None) -> str:
    """A UUID without its kind (``GPU-``, ``MIG-``), lower case: torch gives it bare."""
    text = (uuid or "").casefold()
    for kind in ("mig-gpu-", "mig-", "gpu-"):
        text = text.removeprefix(kind)
    return text


def visible_gpus(cards: Sequence[Gpu], environment: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that CUDA would show a process with this environment, in CUDA's order. Reads
    CUDA_VISIBLE_DEVICES as CUDA does: numbers or beginnings of UUIDs; the list ends at the first that
    is none, and one that comes twice empties it. Of a divided card a process sees the first slice."""
    whole = _in_order(cards, environment.get("CUDA_DEVICE_ORDER", ""))
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return whole
    kind = next((kind for kind in ("GPU-", "MIG-") if wanted.startswith(kind)), "")
    chosen: list[Gpu] = []
    named: set[Any] = set()
    for word in wanted.split(","):
        name: Any = word
        if kind:
            found = [card for card in (cards if kind == "MIG-" else whole) if _named(card, word, kind)]
            if not word.startswith(kind) or len(found) != 1:
                break
            [card] = found
        else:
            number = _NUMBER.match(word.strip())
            name = int(number[0]) if number else -1
            if not 0 <= name < len(whole):
                break
            card = whole[name]
        if name in named:
            return []
        named.add(name)
        chosen.append(card)
    return chosen


def _named(card: Gpu, word: str, kind: str) -> bool:
    uuid = card.card_uuid if kind == "GPU-" and card.mig else card.uuid
    return (uuid or "").casefold().startswith(word.casefold())


def _in_order(cards: Sequence[Gpu], order: str) -> list[Gpu]:
    """One entry a card, a divided one as its first slice: by bus when asked, else the fastest first, which
    CUDA guesses by a rule of its own; here cores times clock."""
    whole = list({card.index: card for card in reversed(cards)}.values())
    whole.sort(key=lambda card: card.index)
    speeds = [(card.cores or 0) * (card.clock_max_mhz or 0) for card in whole]
    if order != "PCI_BUS_ID" and all(speeds):
        ranked = sorted(zip(speeds, whole, strict=True), key=lambda pair: -pair[0])
        return [card for _, card in ranked]
    return whole


def matched(cards: Sequence[Gpu], uuids: Sequence[str], environment: Mapping[str, str]) -> list[Gpu]:
    """NVML's view of the devices that CUDA names by these UUIDs, in that order. CUDA may name a slice by its
    own UUID or by its card's; a device that NVML does not know by UUID is found by its place."""
    shown = visible_gpus(cards, environment)
    chosen = []
    for place, uuid in enumerate(uuids):
        wanted = plain_uuid(uuid)
        ours = [card for card in cards if wanted and plain_uuid(card.uuid) == wanted]
        slices = [card for card in cards if wanted and card.mig and plain_uuid(card.card_uuid) == wanted]
        of_slices = [card for card in slices if card in shown] or slices
        by_place = shown[place : place + 1] if not (ours or slices) else []
        chosen += (ours or of_slices or by_place)[:1]
    return chosen


# --------------------------------------------------------------------------------------------------
# whose memory


def shares(card: Gpu, pids: Collection[int], held_bytes: int | None) -> tuple[int | None, int | None]:
    """Bytes of a GPU's memory in use by this process and by others; None where it cannot be known.

    ``pids`` are this process's numbers, ``held_bytes`` what it knows itself to hold there (None when it
    has not touched the GPU). Inside a container the driver may list nobody, or strangers: then a
    process that holds memory without being listed knows neither share.
    """
    used = None
    if card.memory_used_bytes is not None:
        used = max(0, card.memory_used_bytes - (card.memory_reserved_bytes or 0))
    listed = [process for process in card.processes or () if process.pid in pids]
    if held_bytes is None and not listed:
        return 0, used
    if not listed or any(process.used_bytes is None for process in listed):
        return None, None
    own = sum(process.used_bytes or 0 for process in listed)
    if own < PLAUSIBLE_SHARE * (held_bytes or 0):
        return None, None
    if card.memory_reserved_bytes is None:
        # an older driver counts its own part as used: then the list of others is nearer to the truth
        rest = [process.used_bytes for process in card.processes or () if process.pid not in pids]
        if all(one is not None for one in rest):
            return own, sum(one or 0 for one in rest)
    return own, None if used is None else max(0, used - own)


# --------------------------------------------------------------------------------------------------
# energy


class Energy:
    """Joules drawn by whole GPUs: by the driver's counter where there is one, else power times time. None as
    soon as a stretch is not known (a slice of a card, a driver that was away, no figures at all)."""

    def __init__(self, before_j: float | None = 0.0) -> None:
        """``before_j``: drawn by earlier attempts at the run; None when that is not known."""
        self._total_j = before_j
        self._last: dict[str, tuple[float, float | None, float | None]] = {}
        self._seen_s: float | None = None

    def add(self, cards: Sequence[Gpu], now_s: float) -> None:
        """A sample of every watched GPU at ``now_s`` on any steady clock."""
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
            self._seen_s = now_s

    def total_j(self, now_s: float) -> float | None:
        """Joules until ``now_s``; None when unknown, also when the newest sample is too long ago."""
        if self._seen_s is None or now_s - self._seen_s > LONGEST_GAP_S:
            return None
        return self._total_j


def _drawn(before: tuple[float, float | None, float | None], now_s: float, card: Gpu) -> float | None:
    """Joules between two samples of a GPU; None when they cannot be known."""
    then_s, counted_j, power_w = before
    if counted_j is not None and card.energy_j is not None and card.energy_j >= counted_j:
        return card.energy_j - counted_j
    # a counter that fell was reset with the driver: what was drawn in between is in neither figure
    gap_s = now_s - then_s
    if power_w is None or card.power_w is None or gap_s > LONGEST_GAP_S:
        return None
    return gap_s * (power_w + card.power_w) / 2


# --------------------------------------------------------------------------------------------------
# many samples, one record


def _mean(values: Iterable[float | None], digits: int = 1) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), digits) if known else None


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


class Window:
    """The samples since the last record: means, and for memory the highest."""

    def __init__(self) -> None:
        self._cards: dict[str, list[tuple[Gpu, int | None, int | None]]] = {}
        self._process: list[ProcessUse] = []

    def add(
        self,
        cards: Sequence[Gpu],
        owned: Sequence[tuple[int | None, int | None]],
        process: ProcessUse | None,
    ) -> None:
        """One sample; ``owned`` are the :func:`shares` of each card."""
        for card, (own, others) in zip(cards, owned, strict=True):
            self._cards.setdefault(card.uuid or str(card.index), []).append((card, own, others))
        if process is not None:
            self._process.append(process)

    @property
    def empty(self) -> bool:
        return not self._cards and not self._process

    def take(self) -> dict[str, Any]:
        """The fields ``gpus`` and ``process`` of a record; the window is empty afterwards."""
        gpus = [_gpu_record(samples) for samples in self._cards.values()]
        process = {
            "resident_bytes": _most(one.resident_bytes for one in self._process),
            "cpu_percent": _mean(one.cpu_percent for one in self._process),
        }
        self._cards, self._process = {}, []
        return {"gpus": gpus, "process": process}


def _gpu_record(samples: list[tuple[Gpu, int | None, int | None]]) -> dict[str, Any]:
    last, own, others = samples[-1]
    cards = [card for card, _, _ in samples]
    moved = [card for card in cards if card.pcie_rx_bytes_s is not None or card.pcie_tx_bytes_s is not None]
    return {
        "uuid": last.uuid,
        "index": last.index,
        "name": last.name,
        "mig": last.mig,
        "used_bytes": _most(card.memory_used_bytes for card in cards),
        "total_bytes": last.memory_total_bytes,
        # what was known earlier in the window and is not any more counts as not known
        "own_bytes": None if own is None else _most(one for _, one, _ in samples),
        "others_bytes": None if others is None else _most(one for _, _, one in samples),
        "utilization_percent": _mean(card.utilization_percent for card in cards),
        "memory_utilization_percent": _mean(card.memory_utilization_percent for card in cards),
        "temperature_c": _mean(card.temperature_c for card in cards),
        "power_w": _mean(card.power_w for card in cards),
        "clock_mhz": _mean((card.clock_mhz for card in cards), 0),
        "clock_max_mhz": last.clock_max_mhz,
        "throttle": list(dict.fromkeys(reason for card in cards for reason in card.throttle)),
        "pcie_rx_bytes_s": _mean((card.pcie_rx_bytes_s for card in moved), 0),
        "pcie_tx_bytes_s": _mean((card.pcie_tx_bytes_s for card in moved), 0),
    }
