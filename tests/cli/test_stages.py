"""``tui-lab stages``: the matrix for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import lab
from tui_lab.cli import jobs
from tui_lab.core.errors import LabError
from tui_lab.evaluation.records import MeasuredStages
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder, stage_matrix
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import ScoreEvent


@pytest.fixture
def line(runs_dir: Path) -> list[Run]:
    """Two runs that recorded their own scores."""
    found: list[Run] = []
    for name, data, start, end in (("one", "json", 0.0, 0.75), ("two", "support", 0.25, 0.5)):
        earlier = {"from_run": str(found[0].path)} if found else {}
        run = folder.create(build({"model": "pocket", "data": data, **earlier}), name=name)
        log = EventWriter(run.events_path)
        for when, value in (("start", start), ("end", end)):
            log.write(ScoreEvent(step=0, name="exact", value=value, rows=4, seconds=0.1, when=when))
        log.close()
        found.append(run)
    return found


def test_what_is_recorded_and_what_is_not(line: list[Run]) -> None:
    shown = lab("stages", "two")
    assert shown.returncode == 0
    rows = [text.split() for text in shown.stdout.splitlines()[:4]]
    assert rows[1] == ["base", "0.000", "–"]
    assert rows[2][-2:] == ["0.750", "0.250"] and rows[3][-2:] == ["–", "0.500"]
    assert "backward transfer –" in shown.stdout and "2 scores not measured (–); --measure" in shown.stderr
    found = json.loads(lab("stages", "two", "-o", "json").stdout)
    assert found["kind"] == "stages" and found["missing"] == 2 and found["backward_transfer"] is None
    assert found["scores"][0] == [
        {"value": 0.75, "source": "recorded"},
        {"value": 0.25, "source": "recorded"},
    ]
    assert found["scores"][1][0] == {"value": None, "source": ""} and found["forgetting"] == [None]


def test_what_is_measured_completes_the_figures(line: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    last = stage_matrix.identities(line)[2]

    def run_job(module: str, request: Any, **_: Any) -> MeasuredStages:
        assert module == "tui_lab.evaluation.stage_scores" and request.run == str(line[1].path)
        stage_matrix.add_score(line[0], "exact", 4, last, 0.5)
        return MeasuredStages(1, ["task 2 cannot be measured: the data is gone"])

    monkeypatch.setattr(jobs, "run_job", run_job)
    shown = lab("stages", "two", "--measure")
    assert "backward transfer -0.250" in shown.stdout and "forgetting task 1 json 0.250" in shown.stdout
    assert "task 2 cannot be measured: the data is gone" in shown.stderr
    found = json.loads(lab("stages", "two", "--json").stdout)
    assert found["backward_transfer"] == -0.25 and found["forgetting"] == [0.25] and found["missing"] == 1


def test_a_run_without_an_earlier_stage_is_a_sentence(line: list[Run]) -> None:
    shown = lab("stages", "one")
    assert shown.returncode == 2 and "starts from the base: there is no earlier stage" in shown.stderr
    with pytest.raises(LabError):
        stage_matrix.line_of(line[0])
