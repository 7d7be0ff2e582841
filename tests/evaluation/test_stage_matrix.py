"""The scores of a line of runs: what the runs recorded stands at its place, what is unknown is measured with
the weights of each stage on the rows of each task, once."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tui_lab.core.errors import LabError
from tui_lab.evaluation import stage_scores
from tui_lab.evaluation.acquisition import HeldOutTask
from tui_lab.evaluation.records import StagesRequest
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder, stage_matrix
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import ScoreEvent

FEW = {"max_rows": 20, "score_rows": 3, "sample_max_new_tokens": 8}


METRICS = {"json": "schema", "support": "exact"}


def stage(name: str, data: str, earlier: Run | None = None, **scores: float) -> Run:
    """A run with the scores that it recorded of its own task."""
    start = {"from_run": str(earlier.path)} if earlier else {}
    run = folder.create(build({"model": "pocket", "data": data, **FEW, **start}), name=name)
    log = EventWriter(run.events_path)
    for when, value in scores.items():
        log.write(ScoreEvent(step=0, name=METRICS[data], value=value, rows=3, seconds=0.1, when=when))
    log.close()
    return run


def values(rows: list[list[stage_matrix.StageScore]]) -> list[list[float | None]]:
    return [[score.value for score in row] for row in rows]


def test_what_the_runs_recorded_stands_at_its_place(runs_dir: Path) -> None:
    first = stage("one", "json", start=0.125, end=0.75)
    second = stage("two", "support", first, start=0.25, end=0.5)
    third = stage("three", "json", second, start=0.375, end=1.0)
    line = stage_matrix.line_of(third)
    assert [run.id for run in line] == [first.id, second.id, third.id]
    table = stage_matrix.read_table(line)
    # the third stage has the task of the first: what it recorded stands in both columns
    assert values([table.base]) == [[0.125, None, 0.125]]
    assert values(table.scores) == [[0.75, 0.25, 0.75], [0.375, 0.5, 0.375], [1.0, None, 1.0]]
    assert table.missing == 2 and [task.metric for task in table.tasks] == ["schema", "exact", "schema"]
    assert math.isnan(table.matrix[2][1]) and table.scores[2][1].source == ""


def test_a_line_has_two_runs_that_can_be_read(runs_dir: Path) -> None:
    first = stage("one", "json")
    with pytest.raises(LabError, match="starts from the base: there is no earlier stage"):
        stage_matrix.line_of(first)
    second = stage("two", "json", first)
    shutil.rmtree(first.path)
    with pytest.raises(LabError, match=r"recipe"):
        stage_matrix.line_of(second)


@pytest.fixture
def line(runs_dir: Path, adapters: dict[str, Path]) -> list[Run]:
    """Two stages; the adapter of the second has twice the B of the first."""
    first = stage("one", "json", start=0.5)
    second = stage("two", "support", first, end=0.25)
    for run in (first, second):
        shutil.copytree(adapters["own"], run.adapter_path)
    path = second.adapter_path / "adapter_model.safetensors"
    tensors = {name: tensor * (2 if "lora_B" in name else 1) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return [first, second]


def size_of_b(tensors: Any) -> float:
    return sum(float(tensor.detach().abs().sum()) for name, tensor in tensors if "lora_B" in name)


def test_the_rest_is_measured_once_with_the_weights_of_its_stage(
    line: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def scores(task: HeldOutTask, model: Any) -> list[float]:
        asked.append(task.examples[0].expected)
        return [size_of_b(model.named_parameters())] * len(task.examples)

    monkeypatch.setattr(HeldOutTask, "scores", scores)
    found = stage_scores.handle(StagesRequest(run=line[1].id), lambda *_: None)
    assert found.scores == 4 and found.problems == []
    once = size_of_b(load_file(line[0].adapter_path / "adapter_model.safetensors").items())
    table = stage_matrix.read_table(line)
    assert once > 0 and values([table.base]) == [[0.5, 0.0]]
    assert [score for row in values(table.scores) for score in row] == pytest.approx(
        [once, once, 2 * once, 0.25]
    )
    assert [score.source for score in table.scores[1]] == ["measured", "recorded"]
    assert len(set(asked)) == 2, "each task has its own rows"
    stage_scores.handle(StagesRequest(run=line[1].id), lambda *_: None)
    assert len(asked) == 4, "what is known is not measured again"
    # other weights have other scores
    shutil.copyfile(
        line[1].adapter_path / "adapter_model.safetensors", line[0].adapter_path / "adapter_model.safetensors"
    )
    changed = stage_matrix.read_table(line)
    assert values(changed.scores)[0] == [pytest.approx(2 * once), None]


def test_a_damaged_file_of_scores_and_a_stage_without_weights(line: list[Run]) -> None:
    path = line[0].path / "retention" / stage_matrix.TASK_SCORES
    path.parent.mkdir(parents=True)
    path.write_text("[" * 1000)
    assert stage_matrix.read_scores(line[0]).values == {}
    assert stage_matrix.read_table(line).missing == 4
    shutil.rmtree(line[0].adapter_path)
    assert stage_matrix.identities(line)[1] == ""


def test_scores_of_two_metrics_are_not_mixed(line: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeldOutTask, "scores", lambda *_: [1.0])
    log = EventWriter(line[0].events_path)
    log.write(ScoreEvent(step=0, name="exact", value=0.5, rows=3, seconds=0.1, when="end"))
    log.close()
    found = stage_scores.handle(StagesRequest(run=line[1].id), lambda *_: None)
    [problem] = found.problems
    assert "task 1 cannot be measured: its run recorded exact on 3 rows" in problem and "schema" in problem
    assert stage_matrix.read_table(line).scores[1][0].value is None
