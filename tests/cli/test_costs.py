"""The costs of a run at its end on the command line: in words and as JSON."""

from __future__ import annotations

import json

import pytest

from tests.runs.test_cost_so_far import COST, telemetry
from tui_lab.cli import main
from tui_lab.forecast import cost
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, create
from tui_lab.runs.schema import EndEvent, PlanEvent, ResumedEvent, StartedEvent, StepEvent


@pytest.fixture
def run(runs_dir: object, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that has ended, on a card."""
    for name in (cost.PRICE, cost.CURRENCY, cost.GRID):
        monkeypatch.delenv(name, raising=False)
    made = create(Recipe(), name="a")
    events = EventWriter(made.events_path)
    events.write(ResumedEvent(from_step=0, attempt=1))
    events.write(StartedEvent(pid=1))
    events.write(PlanEvent(total_steps=10, cost=COST))
    events.write(StepEvent(step=10, loss=2.0, tok_per_s=1000.0, eta_s=0.0))
    events.append(telemetry(10, 3600.0, 720_000.0, 0.0))
    events.write(
        EndEvent(state="finished", step=10, seconds=3600.0, train_loss=2.0, validation_loss=2.0,
        flops_per_token=2e9, mfu=0.37, energy_j=720_000.0, path="adapter",
    ))  # fmt: skip
    events.close()
    return made


def test_the_list_of_runs_has_them(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["runs", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)["items"]
    assert (found["flops_per_token"], found["mfu"], found["energy_j"]) == (2e9, 0.37, 720_000.0)


def test_the_end_of_a_run_tells_them(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tui_lab.cli.follow import print_end
    from tui_lab.runs.state import Watcher

    watcher = Watcher(run)
    watcher.read_all()
    monkeypatch.setenv(cost.PRICE, "0.5")
    assert print_end(run, watcher, "finished", False, False, False, False) == 0
    assert "  $0.50 · 200 Wh, 89 g CO₂ · MFU 37.0%\n" in capsys.readouterr().out
    monkeypatch.setenv(cost.PRICE, "free")
    assert print_end(run, watcher, "finished", False, False, False, False) == 0
    said = capsys.readouterr()
    assert cost.PRICE in said.err and "MFU 37.0%" in said.out and "finished at step 10" in said.out
