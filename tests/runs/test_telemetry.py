"""What the lab keeps of a run's telemetry: bounded, cut where an attempt died, unharmed by odd records."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import parse
from tui_lab.runs.curves import MOST_POINTS, Track
from tui_lab.runs.schema import TelemetryEvent
from tui_lab.runs.state import RunState
from tui_lab.runs.telemetry import MOST_GPUS, Telemetry


def record(step: int, used: int = 10, energy_j: float | None = 100.0, **gpu: Any) -> dict[str, Any]:
    card = {"uuid": "GPU-1", "index": 0, "name": "card", "used_bytes": used, "power_w": 50.0, **gpu}
    process = {"resident_bytes": 7 * step, "cpu_percent": 90.0}
    return {
        "v": 1, "t": 1.0, "kind": "telemetry", "step": step, "gpus": [card], "process": process,
        "energy_j": energy_j, "seconds": 5.0,
    }  # fmt: skip


def state_of(*events: dict[str, Any]) -> RunState:
    state = RunState()
    state.apply(parse(events))
    return state


def test_tracks_and_the_newest_figures() -> None:
    state = state_of(record(1, 10), record(2, 30, energy_j=250.0, throttle=["heat"]))
    [gpu] = state.telemetry.gpus.values()
    assert (gpu.used.steps, gpu.used.values) == ([1, 2], [10.0, 30.0])
    assert (gpu.now.throttle, gpu.now.used_bytes) == (["heat"], 30)
    assert (state.telemetry.energy_j, state.telemetry.seconds, state.telemetry.records) == (250.0, 10.0, 2)
    assert state.telemetry.resident.values == [7.0, 14.0]


def test_within_a_step_memory_keeps_the_maximum_and_others_the_newest() -> None:
    state = state_of(record(3, 30, power_w=100.0), record(3, 10, power_w=200.0))
    [gpu] = state.telemetry.gpus.values()
    assert (gpu.used.values, gpu.power_w.values) == ([30.0], [200.0])


def test_gpus_are_distinguished_by_uuid() -> None:
    state = state_of(record(1, 10), record(2, 20, uuid="GPU-2", index=0), record(3, 30, uuid=None, index=5))
    assert {key: gpu.used.peak for key, gpu in state.telemetry.gpus.items()} == {
        "GPU-1": 10.0, "GPU-2": 20.0, "5": 30.0,
    }  # fmt: skip
    assert [gpu.answers for gpu in state.telemetry.gpus.values()] == [False, False, True]


def test_a_missing_gpu_is_a_gap() -> None:
    state = state_of(record(1, 10), {**record(2), "gpus": []}, record(3, 30))
    [gpu] = state.telemetry.gpus.values()
    assert gpu.used.steps == [1, 2, 3] and math.isnan(gpu.used.values[1]) and gpu.answers
    assert gpu.used.peak == 30.0


def test_a_resume_drops_later_tracks_and_keeps_energy() -> None:
    state = state_of(record(5), record(10, energy_j=900.0), {"kind": "resumed", "from_step": 5, "attempt": 2})
    assert state.telemetry.resident.steps == [5]
    assert state.telemetry.energy_so_far_j == 900.0
    assert RunState().telemetry.energy_so_far_j == 0.0
    assert state_of(record(1, energy_j=None)).telemetry.energy_so_far_j is None


@given(
    values=st.lists(st.floats(0, 1e12) | st.just(math.nan), min_size=1, max_size=3 * MOST_POINTS),
    highest=st.booleans(),
)
def test_a_track_is_bounded_and_keeps_its_peak(values: list[float], highest: bool) -> None:
    track = Track(highest=highest)
    for step, value in enumerate(values):
        track.add(step, value)
    assert len(track.steps) == len(track.values) <= MOST_POINTS
    assert track.steps == sorted(set(track.steps)) and track.steps[-1] == len(values) - 1
    known = [value for value in values if not math.isnan(value)]
    if highest and known:
        assert track.peak == max(known)


def test_thinning_keeps_the_shape_of_a_track() -> None:
    track = Track(highest=True)
    for step in range(50_000):
        track.add(step, 1e9 if step == 777 else float(step))
    assert MOST_POINTS / 2 <= len(track.values) <= MOST_POINTS
    assert track.peak == 1e9 and track.last == 49_999.0


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "telemetry"},
        {"kind": "telemetry", "step": "x"},
        {"kind": "telemetry", "step": 1, "gpus": 3},
        {"kind": "telemetry", "step": 1, "gpus": [3]},
        {"kind": "telemetry", "step": 1, "process": 3},
        {
            "kind": "telemetry",
            "step": 1,
            "seconds": "long",
            "energy_j": "much",
            "gpus": [{"used_bytes": "x"}],
        },
        {"kind": "forecast"},
        {"kind": "forecast", "total": "much"},
    ],
    ids=str,
)
def test_unusual_records_do_not_hide_others(odd: dict[str, Any]) -> None:
    state = state_of(record(1), odd, record(2, 20))
    assert state.telemetry.gpus["GPU-1"].used.values == [10.0, 20.0]
    assert state.forecast is None


def test_the_number_of_gpus_is_bounded() -> None:
    telemetry = Telemetry()
    for number in range(3 * MOST_GPUS):
        [event] = parse([record(1, uuid=f"GPU-{number}")])
        assert isinstance(event, TelemetryEvent)
        telemetry.add(event)
    assert len(telemetry.gpus) == MOST_GPUS


def test_the_forecast_of_a_run() -> None:
    event = {"kind": "forecast", "parts": {"weights": 5}, "total": 10, "low": 9, "high": 12, "device": "cuda"}
    assert state_of(event).forecast.total == 10.0
