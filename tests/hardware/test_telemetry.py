"""Which GPUs CUDA shows, whose memory it is, what was drawn, many samples as one record."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.hardware.gpu import Gpu, GpuProcess, ProcessUse
from tui_lab.hardware.telemetry import (
    MAX_GAP_S,
    EnergyMeter,
    ProcessRecord,
    TelemetryWindow,
    match_uuids,
    memory_shares,
    plain_uuid,
    visible_gpus,
)

MIB = 1 << 20


def card(index: int = 0, uuid: str = "GPU-aa11", **changes: Any) -> Gpu:
    return replace(Gpu(index, "card", uuid, None, None, None, None, None, None), **changes)


THREE = [card(0, "GPU-aa11"), card(1, "GPU-aa22"), card(2, "GPU-bb33")]
SLICED = [
    card(0, "MIG-11", mig=True, card_uuid="GPU-aa11"),
    card(0, "MIG-12", mig=True, card_uuid="GPU-aa11"),
    card(1, "GPU-aa22"),
]


def shown(cards: list[Gpu], text: str | None, **more: str) -> list[str]:
    environment = dict(more) if text is None else {"CUDA_VISIBLE_DEVICES": text, **more}
    return [str(one.uuid) for one in visible_gpus(cards, environment)]


# --------------------------------------------------------------------------------------------------
# which GPUs


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        (" 1 , 2", [1, 2]),
        ("0,-1,2", [0]),  # what follows an invalid one is not shown
        ("0,7,2", [0]),
        ("0,x", [0]),
        ("1gpu2,2ampere", [1, 2]),
        ("1,1", []),  # twice: nothing
        ("NoDevFiles", []),
        ("GPU-bb33", [2]),
        ("GPU-b", [2]),  # a beginning is enough
        ("gpu-bb33", []),
        ("GPU-bb33,GPU-aa11", [2, 0]),
        ("GPU-bb33,GPU-zz", [2]),
        ("GPU-aa", []),  # which of two?
        ("GPU-bb33,GPU-bb33", []),
        ("GPU-bb33,0", [2]),
        ("MIG-11", []),
    ],
)
def test_visible_devices(text: str | None, indices: list[int]) -> None:
    assert shown(THREE, text) == [THREE[i].uuid for i in indices]


@given(st.text(alphabet="0123 ,-+GPUaxb", max_size=12))
def test_numbers_are_read_as_torch_reads_them(text: str) -> None:
    import torch

    with mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": text}):
        try:
            wanted = torch.cuda._parse_visible_devices()
        except ValueError:
            return  # a sign without a number is too much for torch
    if any(isinstance(one, str) for one in wanted) or text.startswith(("GPU-", "MIG-")):
        return  # torch leaves the meaning of UUIDs to NVML
    valid: list[str] = []
    for one in wanted:
        if not 0 <= int(one) < len(THREE):
            break
        valid.append(str(THREE[int(one)].uuid))
    assert shown(THREE, text) == valid


def test_uuids_are_read_as_torch_reads_them() -> None:
    import torch

    uuids = [str(one.uuid) for one in THREE]
    for text in (
        "GPU-bb33",
        "GPU-b",
        "GPU-aa",
        "GPU-bb33,GPU-aa11",
        "GPU-aa11,GPU-zz",
        "GPU-b,GPU-x,GPU-aa1",
    ):
        places = torch.cuda._transform_uuid_to_ordinals(text.split(","), uuids)
        assert shown(THREE, text) == [uuids[place] for place in places], text


def test_the_order_of_cuda() -> None:
    slow, fast = (
        card(0, "GPU-s", cores=2_560, clock_max_mhz=1_590),
        card(1, "GPU-f", cores=16_384, clock_max_mhz=3_105),
    )
    assert shown([slow, fast], "0") == ["GPU-f"]  # the fastest first, unless the bus is asked for
    assert shown([slow, fast], "0", CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["GPU-s"]
    assert shown([slow, fast], None, CUDA_DEVICE_ORDER="FASTEST_FIRST") == ["GPU-f", "GPU-s"]
    assert shown([slow, replace(fast, cores=None)], None) == ["GPU-s", "GPU-f"]  # no guess without figures
    same = [card(i, f"GPU-{i}", cores=100, clock_max_mhz=100) for i in range(3)]
    assert shown(same, None) == ["GPU-0", "GPU-1", "GPU-2"]


def test_of_a_divided_card_the_first_slice_is_seen() -> None:
    assert shown(SLICED, None) == ["MIG-11", "GPU-aa22"]
    assert shown(SLICED, "1") == ["GPU-aa22"]
    assert shown(SLICED, "MIG-12") == ["MIG-12"]
    assert shown(SLICED, "MIG-12,MIG-11") == ["MIG-12", "MIG-11"]
    assert shown(SLICED, "MIG-1") == []
    assert shown(SLICED, "GPU-aa11") == ["MIG-11"]


def test_devices_are_matched_by_uuid_not_by_place() -> None:
    assert (
        plain_uuid("GPU-AB") == plain_uuid("MIG-ab") == plain_uuid("MIG-GPU-ab") == plain_uuid("ab") == "ab"
    )
    assert plain_uuid(None) == ""
    found = match_uuids(THREE, ["bb33", "AA11"], {})
    assert [one.index for one in found] == [2, 0]
    assert [one.index for one in match_uuids(THREE, ["aa22"], {"CUDA_VISIBLE_DEVICES": "1"})] == [1]


def test_a_slice_is_matched_by_its_own_uuid_or_its_cards() -> None:
    assert [one.uuid for one in match_uuids(SLICED, ["12"], {})] == ["MIG-12"]
    named = {"CUDA_VISIBLE_DEVICES": "MIG-12"}
    assert [one.uuid for one in match_uuids(SLICED, ["aa11"], named)] == ["MIG-12"]
    assert [one.uuid for one in match_uuids(SLICED, ["aa11"], {})] == ["MIG-11"]


def test_a_device_without_a_uuid_is_found_by_its_place() -> None:
    assert [one.index for one in match_uuids(THREE, ["", "?"], {"CUDA_VISIBLE_DEVICES": "2,0"})] == [2, 0]
    assert match_uuids(THREE, ["?"], {"CUDA_VISIBLE_DEVICES": ""}) == []
    assert match_uuids([], ["aa11"], {}) == []


# --------------------------------------------------------------------------------------------------
# whose memory

OURS, OTHER = GpuProcess(7, 900 * MIB), GpuProcess(8, 600 * MIB)


def used(*processes: GpuProcess | int, reserved: int | None = 100) -> Gpu:
    """A card with 1,700 MiB in use, 100 of them the driver's own."""
    return card(
        memory_used_bytes=1_700 * MIB,
        memory_reserved_bytes=None if reserved is None else reserved * MIB,
        processes=tuple(one for one in processes if isinstance(one, GpuProcess)),
    )


def mib(pair: tuple[int | None, int | None]) -> tuple[float | None, float | None]:
    own, others = (None if one is None else one / MIB for one in pair)
    return own, others


def test_what_is_listed_is_ours_and_the_rest_others() -> None:
    assert mib(memory_shares(used(OURS, OTHER), [7], 800 * MIB)) == (900, 700)
    # a stranger whom the driver does not list (another container's) still holds his memory
    assert mib(memory_shares(used(OURS), [7], 800 * MIB)) == (900, 700)


def test_an_older_driver_counts_its_own_part_as_used() -> None:
    assert mib(memory_shares(used(OURS, OTHER, reserved=None), [7], 800 * MIB)) == (900, 600)
    silent = GpuProcess(8, None)
    assert mib(memory_shares(used(OURS, silent, reserved=None), [7], 800 * MIB)) == (900, 800)


def test_before_the_gpu_is_touched_everything_is_others() -> None:
    assert mib(memory_shares(used(OTHER), [7], None)) == (0, 1_600)
    assert mib(memory_shares(used(), [7], None)) == (0, 1_600)  # also where nobody is listed
    assert memory_shares(card(), [7], None) == (0, None)


@pytest.mark.parametrize(
    "listed",
    [
        (),  # a container: nobody is listed
        (OTHER,),  # others are, under the host's numbers, and we are not
        (GpuProcess(7, None),),  # Windows, a virtual GPU
        (GpuProcess(7, 10 * MIB),),  # a stranger who has our number on the host
    ],
)
def test_unknown_when_we_hold_memory_and_are_not_listed(listed: tuple[GpuProcess, ...]) -> None:
    assert memory_shares(used(*listed), [7], 800 * MIB) == (None, None)


def test_unknown_without_a_list_or_a_sum() -> None:
    assert memory_shares(card(memory_used_bytes=1_700 * MIB, processes=None), [7], 800 * MIB) == (None, None)
    assert memory_shares(card(processes=(OURS,), memory_reserved_bytes=0), [7], 0) == (900 * MIB, None)


# --------------------------------------------------------------------------------------------------
# energy


def drawn(*samples: tuple[float, dict[str, Any]], before_j: float | None = 0.0) -> float | None:
    energy = EnergyMeter(before_j)
    for now, figures in samples:
        energy.add([card(**figures)], now)
    return energy.total_j(samples[-1][0])


def test_the_drivers_counter_counts() -> None:
    counted = [(0.0, {"energy_j": 5_000.0}), (1.0, {"energy_j": 5_300.0}), (100.0, {"energy_j": 9_000.0})]
    assert drawn(*counted) == 4_000.0  # also over a gap: the counter went on
    assert drawn(*counted, before_j=60.0) == 4_060.0
    assert drawn(*counted, before_j=None) is None


def test_without_a_counter_power_times_time() -> None:
    assert drawn((0.0, {"power_w": 100.0}), (2.0, {"power_w": 200.0}), (3.0, {"power_w": 200.0})) == 500.0


def test_a_counter_that_begins_anew_is_bridged_by_power_when_the_gap_is_short() -> None:
    first = (0.0, {"energy_j": 5_000.0, "power_w": 100.0})
    assert drawn(first, (1.0, {"energy_j": 10.0, "power_w": 100.0}), (2.0, {"energy_j": 110.0})) == 200.0
    assert drawn(first, (MAX_GAP_S + 1, {"energy_j": 10.0, "power_w": 100.0})) is None


def test_what_is_not_known_stays_unknown() -> None:
    assert drawn((0.0, {"power_w": 100.0}), (1.0, {}), (2.0, {"power_w": 100.0})) is None
    assert drawn((0.0, {"power_w": 100.0}), (60.0, {"power_w": 100.0})) is None
    assert drawn((0.0, {"power_w": 9.0, "mig": True}), (1.0, {"power_w": 9.0, "mig": True})) is None
    energy = EnergyMeter()
    assert energy.total_j(0.0) is None  # never looked
    energy.add([card(power_w=100.0)], 0.0)
    assert energy.total_j(1.0) == 0.0
    energy.add([], 5.0)  # the driver is away
    assert energy.total_j(MAX_GAP_S + 1) is None


def test_every_gpu_counts() -> None:
    energy = EnergyMeter()
    for now in (0.0, 1.0):
        energy.add([card(0, "a", power_w=100.0), card(1, "b", energy_j=50.0 * now)], now)
    assert energy.total_j(1.0) == 150.0


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=20))
def test_both_ways_agree_where_power_is_even(gaps: list[float]) -> None:
    now, by_counter, by_power = 0.0, EnergyMeter(), EnergyMeter()
    for gap in gaps:
        now += min(gap, MAX_GAP_S - 1)
        by_counter.add([card(energy_j=250.0 * now)], now)
        by_power.add([card(power_w=250.0)], now)
    assert by_counter.total_j(now) == pytest.approx(by_power.total_j(now), abs=1e-6)


# --------------------------------------------------------------------------------------------------
# records


def test_a_record_has_means_and_for_memory_the_highest() -> None:
    window = TelemetryWindow()
    assert window.empty
    first = card(
        memory_used_bytes=5, memory_total_bytes=24, utilization_percent=90, temperature_c=70, power_w=300.0,
        clock_mhz=2_000, clock_max_mhz=3_000, throttle=("heat",), pcie_rx_bytes_s=10, pcie_tx_bytes_s=20,
    )  # fmt: skip
    second = replace(
        first,
        memory_used_bytes=9,
        utilization_percent=None,
        power_w=100.0,
        throttle=("power limit", "heat"),
        pcie_rx_bytes_s=None,
        pcie_tx_bytes_s=None,
    )
    third = replace(second, memory_used_bytes=7)
    window.add([first], [(3, 2)], ProcessUse(100, 150.0))
    window.add([second], [(4, 5)], None)
    window.add([third], [(2, 5)], ProcessUse(90, 50.0))
    assert not window.empty
    [gpu], process = window.flush()
    assert process == ProcessRecord(100, 100.0)
    assert (gpu.used_bytes, gpu.total_bytes, gpu.own_bytes, gpu.others_bytes) == (9, 24, 4, 5)
    assert (gpu.utilization_percent, gpu.power_w, gpu.temperature_c) == (90.0, 166.7, 70.0)
    assert gpu.throttle == ["heat", "power limit"]
    assert (gpu.pcie_rx_bytes_s, gpu.pcie_tx_bytes_s) == (10, 20)  # of the one look that asked
    assert window.empty and window.flush() == ([], ProcessRecord())


def test_a_share_that_is_not_known_any_more_is_not_told() -> None:
    window = TelemetryWindow()
    window.add([card()], [(3, 2)], None)
    window.add([card()], [(None, None)], None)
    [gpu], _ = window.flush()
    assert (gpu.own_bytes, gpu.others_bytes) == (None, None)
