"""Telemetry of a run as text: order of importance, width, damaged records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import parse
from tui_lab.runs.state import RunState
from tui_lab.ui.views.telemetry import about_machine, activity, forecast_text, machine_lines

GIB = 1 << 30
BUSY: dict[str, Any] = {
    "uuid": "GPU-1", "index": 0, "name": "NVIDIA GeForce RTX 4090", "mig": False, "used_bytes": 15 * GIB,
    "total_bytes": 24 * GIB, "own_bytes": 9 * GIB, "others_bytes": 6 * GIB, "utilization_percent": 97.0,
    "temperature_c": 71.2, "power_w": 382.4, "clock_mhz": 2520, "clock_max_mhz": 3105,
    "throttle": ["power limit", "heat"], "pcie_rx_bytes_s": 1 << 30, "pcie_tx_bytes_s": 300 << 20,
}  # fmt: skip


def state_of(*gpus: dict[str, Any], **fields: Any) -> RunState:
    state = RunState()
    process = {"resident_bytes": 2 * GIB, "cpu_percent": 187.0}
    event = {
        "kind": "telemetry",
        "step": 3,
        "gpus": list(gpus),
        "process": process,
        "energy_j": None,
        **fields,
    }
    state.apply(parse([event]))
    return state


def texts(state: RunState, width: int = 78, most: int = 9, status: str = "running") -> list[str]:
    return [text for text, _ in machine_lines(state, status, width, most)]


def test_no_lines_before_the_first_record() -> None:
    assert machine_lines(RunState(), "running", 80, 4) == []
    assert about_machine(RunState()) == []


def test_a_gpu_shared_with_another_process() -> None:
    lines = machine_lines(state_of(BUSY), "running", 100, 4)
    assert [text for text, _ in lines] == [
        "other processes hold 6 GiB · this run 9 GiB · 9 GiB of 24 GiB free",
        "slowed down by power limit, heat",
        "97% busy · 71 °C · 382 W · 2520 of 3105 MHz · PCIe in 1 GiB/s, out 300 MiB/s",
    ]
    assert [role for _, role in lines] == ["state-paused", "state-paused", "axis"]


def test_no_line_about_other_processes_when_there_are_none() -> None:
    assert texts(state_of({**BUSY, "others_bytes": 20 << 20}))[0] == "this run 9 GiB · 9 GiB of 24 GiB free"


def test_unknown_shares_are_called_unknown() -> None:
    first = texts(state_of({**BUSY, "own_bytes": None, "others_bytes": None}))[0]
    assert first == "others' share unknown · 9 GiB of 24 GiB free"


def test_a_mig_slice_says_that_heat_is_the_cards() -> None:
    lines = texts(state_of({**BUSY, "mig": True, "utilization_percent": None, "throttle": []}))
    assert lines[1].startswith("a slice: heat and power are the card's · 71 °C")


def test_a_gpu_without_readings_has_no_line() -> None:
    silent = {"uuid": None, "index": 0, "name": "x"}
    assert texts(state_of(silent)) == []
    assert texts(state_of({**silent, "used_bytes": 5 * GIB})) == ["others' share unknown · 5 GiB in use"]


def test_a_lost_gpu_is_not_shown_with_old_readings() -> None:
    state = state_of(BUSY)
    gone = {"kind": "telemetry", "step": 4, "gpus": [], "process": {"resident_bytes": GIB}}
    state.apply(parse([gone]))
    assert texts(state) == ["the GPU does not answer any more"]
    about = "".join(text for text, _ in about_machine(state))
    assert "97%" not in about and "at most 15 GiB in use" in about and "slowed" not in about
    state.apply(parse([{**gone, "gpus": [BUSY]}]))
    assert texts(state)[0].startswith("other processes hold 6 GiB")


def test_a_run_without_a_gpu_is_labelled() -> None:
    assert texts(state_of()) == ["no GPU: resident memory 2 GiB · CPU 187% (100 is one core)"]
    assert texts(state_of(), status="finished")[0].startswith("no GPU; at the end: resident memory")


def test_several_gpus_are_numbered_with_memory_first() -> None:
    lines = texts(state_of(BUSY, {**BUSY, "uuid": "GPU-2", "index": 1, "others_bytes": 0}), most=3)
    assert lines[0].startswith("GPU 0 other processes hold 6 GiB")
    assert lines[1].startswith("GPU 1 this run 9 GiB")
    assert lines[2] == "GPU 0 slowed down by power limit, heat"


def test_an_ended_run_shows_the_readings_at_its_end() -> None:
    assert texts(state_of(BUSY), status="failed")[0].startswith("at the end: other processes")


@pytest.mark.parametrize("width", [17, 24, 28, 40, 78, 118])
def test_lines_fit(width: int) -> None:
    two = state_of(BUSY, {**BUSY, "uuid": "GPU-2", "index": 1})
    for state in (state_of(BUSY), two, state_of()):
        for most in (1, 2, 4):
            lines = machine_lines(state, "running", width, most)
            assert 0 < len(lines) <= most
            assert all(len(text) <= width for text, _ in lines), lines
    assert "hold 6 GiB" in texts(two, max(width, 24))[0]


def test_the_forecast_and_the_measured_peak() -> None:
    state = RunState()
    assert forecast_text(state) == ""
    state.apply(parse([{"kind": "forecast", "total": 7.5 * GIB, "low": 7 * GIB, "high": 8 * GIB}]))
    assert forecast_text(state) == "7.5 GiB (7 GiB to 8 GiB)"
    memory = {"cuda_allocated": 5 * GIB, "cuda_peak": 7 * GIB, "gpu_used": 20 * GIB}
    state.apply(parse([{"kind": "step", "step": 1, "memory": memory}]))
    assert forecast_text(state) == "7.5 GiB (7 GiB to 8 GiB), highest so far 7 GiB"


def test_about_lists_all_telemetry() -> None:
    words = "".join(text for text, _ in about_machine(state_of(BUSY)))
    for part in ("RTX 4090: 97% busy", "other processes hold 6 GiB", "at most 15 GiB", "heat", "CPU 187%"):
        assert part in words


def test_names_and_reasons_are_sanitized() -> None:
    odd = {**BUSY, "name": "\x1b[31mcard", "index": "\x1b]0;", "throttle": ["\x1b[2J", 3, None]}
    shown = [*texts(state_of(odd, {**odd, "uuid": "2"})), *(text for text, _ in about_machine(state_of(odd)))]
    assert all(text.replace("\n", "").isprintable() for text in shown)


wild = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.integers(), max_size=2)
)


@given(
    gpu=st.dictionaries(st.sampled_from(sorted(BUSY)), wild),
    process=st.dictionaries(st.sampled_from(["resident_bytes", "cpu_percent"]), wild),
    forecast=st.dictionaries(st.sampled_from(["total", "low", "high"]), wild),
    width=st.integers(1, 120),
)
def test_any_record_gives_text(
    gpu: dict[str, Any], process: dict[str, Any], forecast: dict[str, Any], width: int
) -> None:
    state = state_of(gpu, process=process)
    state.apply(parse([{"kind": "forecast", **forecast}]))
    for status in ("running", "finished", "crashed"):
        assert len(machine_lines(state, status, width, 3)) <= 3
    about_machine(state)
    for known in state.telemetry.gpus.values():
        assert all(isinstance(piece, str) for piece in activity(known.now))
