"""What a run has taken: reckoned from logs written by hand, against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.records import parse
from tui_lab.forecast.cost import Prices
from tui_lab.runs.cost_so_far import CostSoFar, cost_so_far, describe
from tui_lab.runs.state import RunState

TARIFF = Prices(per_hour=3.6, currency="€", g_co2_per_kwh=500.0)
COST = {
    "flops_per_token": 2e9, "formula": "2 GFLOP a token = 4N + 6n + 3A", "peak_flops": 100e12,
    "peak_of": "a card, bfloat16, dense",
}  # fmt: skip


def state_of(*events: dict[str, Any]) -> RunState:
    state = RunState()
    state.apply(parse({"t": 1000.0, **event} for event in events))
    return state


def telemetry(step: int, seconds: float, energy_j: float | None, t: float) -> dict[str, Any]:
    process = {"resident_bytes": 1, "cpu_percent": 100.0}
    return {
        "t": t, "kind": "telemetry", "step": step, "gpus": [], "process": process, "energy_j": energy_j,
        "seconds": seconds,
    }  # fmt: skip


def live(*more: dict[str, Any], cost: Any = COST) -> RunState:
    return state_of(
        {"kind": "resumed", "from_step": 0, "attempt": 1},
        {"kind": "started", "pid": 1, "t": 900.0},
        {"kind": "plan", "total_steps": 100, "cost": cost},
        {"kind": "step", "step": 1, "loss": 2.0, "tok_per_s": 20_000.0, "eta_s": 300.0, "t": 995.0},
        *more,
    )


def test_cost_so_far_and_in_total() -> None:
    """100 s of work that drew 20 kJ, 300 s to go at the same 200 W, at € 3.60 an hour."""
    found = cost_so_far(live(telemetry(1, 100.0, 20_000.0, 1000.0)), "running", TARIFF, now=1000.0)
    assert (found.seconds, found.seconds_in_all) == (100.0, 400.0)
    assert (found.energy_j, found.energy_in_all_j) == (20_000.0, 80_000.0)
    assert found.money == pytest.approx(0.1) and found.money_in_all == pytest.approx(0.4)
    assert found.co2_kg == pytest.approx(20_000 / 3.6e6 * 0.5)
    assert found.mfu == pytest.approx(20_000 * 2e9 / 100e12) and found.flops_s == pytest.approx(4e13)
    assert (
        describe(found, TARIFF, False)
        == "€0.10 of about €0.40 · 5.56 Wh of about 22.2 Wh, 2.78 g CO₂ · MFU 40.0%"
    )


def test_time_between_attempts_costs_nothing() -> None:
    """An attempt of 50 s, a night, and one of 30 s: its process lived for 80."""
    state = live(telemetry(1, 50.0, 5_000.0, 1000.0))
    state.apply(parse([
        {"t": 50_000.0, "kind": "resumed", "from_step": 1, "attempt": 2},
        telemetry(2, 30.0, 8_000.0, 50_030.0),
    ]))  # fmt: skip
    found = cost_so_far(state, "running", TARIFF, now=50_032.0)
    assert found.seconds == 82.0 and found.energy_j == 8_000.0
    assert cost_so_far(state, "crashed", TARIFF, now=99_000.0).seconds == 80.0


def test_the_end_event_has_the_final_cost() -> None:
    end = {
        "kind": "end",
        "state": "finished",
        "step": 100,
        "seconds": 410.0,
        "mfu": 0.37,
        "energy_j": 90_000.0,
    }
    found = cost_so_far(live(telemetry(1, 400.0, 80_000.0, 1300.0), end), "finished", TARIFF)
    assert (found.mfu, found.energy_j, found.energy_in_all_j) == (0.37, 90_000.0, 90_000.0)
    assert found.seconds == found.seconds_in_all == 400.0
    assert describe(found, TARIFF, True) == "€0.40 · 25 Wh, 12.5 g CO₂ · MFU 37.0%"


def test_without_a_gpu_and_a_price_cost_is_unknown() -> None:
    plain = {**COST, "peak_flops": None, "peak_of": ""}
    found = cost_so_far(live(telemetry(1, 100.0, None, 1000.0), cost=plain), "running", Prices(), now=1000.0)
    assert (found.energy_j, found.co2_kg, found.money, found.mfu) == (None,) * 4
    assert found.seconds_in_all == 400.0 and found.flops_s == pytest.approx(4e13)
    assert describe(found, Prices(), False) == ""


def test_logs_without_telemetry_use_the_start_time() -> None:
    """Without telemetry and without the cost of a token: time and money are still known."""
    state = live(cost=None)
    found = cost_so_far(state, "running", TARIFF, now=1100.0)
    assert found.seconds == 200.0 and found.mfu is None and found.flops_per_token is None
    ended = live({"kind": "end", "state": "finished", "step": 100, "seconds": 50.0}, cost=None)
    assert cost_so_far(ended, "finished", TARIFF).seconds == 50.0
    assert cost_so_far(RunState(), "created", TARIFF) == CostSoFar(*[None] * 11, "", None, "")


@pytest.mark.parametrize("cost", [3, [], {"flops_per_token": "many", "peak_flops": True}, {"formula": 7}])
def test_damaged_telemetry_is_ignored(cost: Any) -> None:
    found = cost_so_far(live(cost=cost), "running", TARIFF, now=1000.0)
    assert found.mfu is None and found.flops_s is None
