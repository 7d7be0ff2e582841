"""The cost of a run as text: known figures with their formula, unknown ones with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.records import parse
from tests.runs.test_cost_so_far import COST, live, telemetry
from tests.ui.helpers import screen_text, until
from tui_lab.forecast import cost as costs
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import RunLock, create
from tui_lab.runs.schema import PhaseEvent, PlanEvent, ResumedEvent, StartedEvent, StepEvent
from tui_lab.runs.state import RunState
from tui_lab.ui.app import LabApp
from tui_lab.ui.views import cost as cost_text


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (costs.PRICE, costs.CURRENCY, costs.GRID):
        monkeypatch.delenv(name, raising=False)


def account(state: RunState, status: str) -> str:
    return "".join(text for text, _ in cost_text.about(state, status, now=1000.0))


def test_a_run_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    state = live(telemetry(1, 100.0, 20_000.0, 1000.0))
    assert cost_text.line(state, "running", now=1000.0) == "5.56 Wh of about 22.2 Wh, 2.47 g CO₂ · MFU 40.0%"
    text = account(state, "running")
    assert "work: 2 GFLOP a token = 4N + 6n + 3A" in text
    assert "MFU = tok/s × FLOP a token / 100 TFLOP/s (a card, bfloat16, dense)" in text
    assert "445 g a kWh (world average 2024" in text and "own meter" in text
    monkeypatch.setenv(costs.PRICE, "0.9")
    monkeypatch.setenv(costs.CURRENCY, "EUR")
    assert cost_text.line(state, "running", now=1000.0).startswith("0.03 EUR of about 0.10 EUR · ")
    assert "money: 0.90 EUR an hour" in account(state, "running")


def test_about_is_unchanged_while_only_time_passes() -> None:
    """It is a text that people scroll in: what changes from step to step is told elsewhere."""
    state = live(telemetry(1, 100.0, 20_000.0, 1000.0))
    before = account(state, "running")
    state.apply(parse([telemetry(1, 5.0, 21_000.0, 1005.0)]))
    assert account(state, "running") == before


def test_a_finished_run_on_a_card() -> None:
    end = {"kind": "end", "state": "finished", "step": 100, "mfu": 0.37, "energy_j": 90_000.0}
    text = account(live(telemetry(1, 400.0, 80_000.0, 1300.0), end), "finished")
    assert "time: 6:40" in text and "energy: 25 Wh, 11.1 g CO₂" in text and "MFU 37.0% = " in text


def test_energy_without_a_gpu_is_unknown() -> None:
    state = live(telemetry(1, 100.0, None, 1000.0), cost={**COST, "peak_flops": None, "peak_of": ""})
    assert cost_text.line(state, "running", now=1000.0) == ""
    text = account(state, "running")
    assert "energy: not known" in text and "MFU not given: the rate of this device is not known" in text


def test_mfu_is_not_given_without_a_rate() -> None:
    why = "no figures are known for the laptop card 'X'"
    state = live(cost={**COST, "peak_flops": None, "peak_of": why})
    assert why in account(state, "running")


def test_an_invalid_price_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(costs.PRICE, "cheap")
    state = live()
    assert "€" not in cost_text.line(state, "running", now=1000.0)
    assert f"! {costs.PRICE} = 'cheap'" in account(state, "running")


@pytest.mark.parametrize("cost", [None, 3, {"formula": None, "peak_of": ["x"]}])
def test_damaged_logs_give_text(cost: Any) -> None:
    for status in ("created", "running", "finished", "crashed"):
        cost_text.line(live(cost=cost), status, now=1000.0)
        account(live(cost=cost), status)
        account(RunState(), status)


@pytest.mark.usefixtures("runs_dir")
async def test_train_shows_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(costs.CURRENCY, "[red]\x1b[2J")
    monkeypatch.setenv(costs.PRICE, "1")
    run = create(Recipe())
    lock, events = RunLock.take(run), EventWriter(run.events_path)
    events.write(ResumedEvent(from_step=0, attempt=1))
    events.write(StartedEvent(pid=1, device={"type": "cuda", "name": "a card"}, threads=2))
    events.write(PlanEvent(total_steps=20, cost=COST))
    events.write(PhaseEvent(name="training"))
    for step in range(1, 5):
        events.write(StepEvent(step=step, loss=2.0, tok_per_s=20_000.0, eta_s=300.0))
    app = LabApp(run_id=run.id)
    try:
        async with app.run_test(size=(100, 30)):
            await until(lambda: "MFU 40.0%" in screen_text(app))
            assert "4/20 steps" in screen_text(app) and "\x1b" not in screen_text(app)
    finally:
        assert lock is not None
        lock.release()
