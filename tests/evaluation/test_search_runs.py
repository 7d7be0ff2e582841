"""Pilots as runs, with a process and a measurement that are stand-ins: runs of a killed search are used, go
on or are trained; the budget ends a run; a base that cannot be measured is one sentence. And a search whose
process is killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.evaluation.test_search import Simulated, quiet, searched, settings
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.evaluation import search_runs
from tui_lab.evaluation.records import SweepRequest
from tui_lab.evaluation.search_plan import Pilot
from tui_lab.evaluation.search_runs import SearchRuns
from tui_lab.retention.statistics import Interval
from tui_lab.retention.stored import StrengthCurve, StrengthPoint
from tui_lab.runs import commands, folder
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import EndEvent, StartedEvent

SETTINGS = msgspec.structs.replace(
    settings(), preset="minute", overrides={"model": "pocket", "data": "support"}, budget_s=10.0
)
VALUES: dict[str, Any] = {"learning_rate": 1e-3, "lora_r": 8}
NAN = Interval(math.nan, math.nan, math.nan)


class Machine:
    """Stands for the processes of runs and of the measurement. ``ends``: how runs end, "" for never."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory, self.ends, self.retention = directory, "finished", Interval(0.97, 0.95, 0.99)
        self.started: list[Run] = []
        self.asked: list[SweepRequest] = []
        self.pid, self.child = 0, None
        patch.setattr(search_runs.launch, "start", self.start)
        patch.setattr(search_runs.job_client, "run_job", self.measure)
        patch.setattr(search_runs, "POLL_S", 0.001)

    def start(self, run: Run) -> Any:
        self.started.append(run)
        events = EventWriter(run.events_path)
        events.write(StartedEvent(pid=1, host="h"))
        if self.ends == "finished":
            run.adapter_path.mkdir(exist_ok=True)
        if self.ends:
            end = EndEvent(
                state=self.ends, message="out of memory", seconds=2.0, trained_s=0.0, energy_j=50.0
            )
            events.write(end)
        events.close()
        self.child = subprocess.Popen(["sleep", "30" if not self.ends else "0"], start_new_session=True)
        return self.child

    async def measure(self, module: str, request: SweepRequest, **_: Any) -> StrengthCurve:
        self.asked.append(request)
        points = [StrengthPoint(0.0, Interval(1, 1, 1), 0.1), StrengthPoint(1.0, self.retention, 0.6)]
        return StrengthCurve(points=points)

    def pilot(self, is_over: Any = lambda: False, confirms: bool = False) -> Pilot | None:
        runs = SearchRuns(SETTINGS, self.directory, quiet)
        return runs(VALUES, 20, 0, (0.5, 1.0), is_over, confirms=confirms)


@pytest.fixture
def machine(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(runs_dir, monkeypatch)


def test_a_pilot_is_a_run_with_its_figures(machine: Machine) -> None:
    found = machine.pilot()
    assert found is not None and found.base == 0.1 and found.power_w == 25.0
    assert [(point.strength, point.gain) for point in found.points] == [(1.0, 0.6)]
    recipe = machine.started[0].recipe()
    assert (recipe.max_steps, recipe.eval_steps, recipe.lora_alpha) == (20, 20, 16)
    assert recipe.stop_on_retention and recipe.retention_threshold == 0.9
    assert machine.asked[0].limit == 200 and machine.asked[0].until_kept == "halved"
    machine.pilot(confirms=True)
    assert machine.asked[1].limit == 0 and machine.asked[1].until_kept == "listed"
    assert len(machine.started) == 1, "a run that finished is not trained again"


@pytest.mark.parametrize(("ends", "runs"), [("stopped", 1), ("", 1), ("failed", 2)])
def test_a_run_of_a_killed_search_goes_on_unless_it_failed(machine: Machine, ends: str, runs: int) -> None:
    machine.ends = ends
    first = machine.pilot(lambda: not ends)
    if ends:
        assert first is not None and first.problem == f"run {machine.started[0].id}: out of memory"
    machine.ends = "finished"
    again = machine.pilot()
    assert again is not None and again.points and len(machine.started) == 2
    assert len(folder.list_runs(machine.directory)) == runs


def test_the_end_of_the_budget_stops_a_run_and_kills_one_that_does_not_stop(machine: Machine) -> None:
    machine.ends = ""
    began = time.monotonic()
    assert machine.pilot(lambda: True) is None
    assert machine.child is not None and machine.child.wait(5) == -signal.SIGKILL
    assert commands.size(machine.started[0]) > 0 and time.monotonic() - began < 8
    assert not machine.asked


def test_a_base_that_does_not_know_the_suite_is_one_sentence(machine: Machine) -> None:
    machine.retention = NAN
    with pytest.raises(LabError, match="the base is too near to guessing on everyday"):
        machine.pilot()


SLOW = """
import sys, time
from pathlib import Path
from tests.evaluation.test_search import Simulated, searched
class Slow(Simulated):
    def clock(self):
        time.sleep(0.002)
        return self.now
print("begins", flush=True)
searched(Path(sys.argv[1]), Slow(), budget_s=180.0)
"""


def test_a_search_whose_process_is_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", Simulated(), budget_s=180.0)
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path / "killed")], cwd=root, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    result = tmp_path / "killed" / "search.json"
    until = time.monotonic() + 60
    while not (result.exists() and '"trial": 1' in result.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    found = searched(tmp_path / "killed", Simulated(), budget_s=180.0)
    same = min(len(found.pilots), len(whole.pilots)) - 1  # the time of the killed pilot counts, too
    assert same >= 2
    assert to_json(found.pilots[:same]) == to_json(whole.pilots[:same])
    assert found.confirmed and found.spent_s <= 180.0
