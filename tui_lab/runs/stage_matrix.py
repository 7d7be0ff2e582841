"""What each stage of a line of runs scores on the task of each stage: what the runs recorded, and what
:mod:`tui_lab.evaluation.stage_scores` has measured since. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tui_lab.core import files, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.format import UNKNOWN, decimal, metric_name, plural
from tui_lab.core.records import from_json, to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog
from tui_lab.models.digests import identity
from tui_lab.recipes.mixture import short_name
from tui_lab.recipes.recipe import FIELDS, Recipe
from tui_lab.retention import stage_transfer
from tui_lab.retention.stored import FOLDER
from tui_lab.runs import inputs, stages
from tui_lab.runs.folder import Run
from tui_lab.runs.state import RunState, Watcher

#: In the folder of a run, under :data:`FOLDER`: the scores of other weights on its held-out rows.
TASK_SCORES = Path("stages") / "scores.json"
#: Recipe fields besides those of the data that decide the held-out rows and how they are answered.
_TASK_FIELDS = ("model", "revision", "seed", "score_rows", "sample_max_new_tokens", "preference_loss")

ScoreSource = Literal["recorded", "measured", ""]


class TaskScores(msgspec.Struct, frozen=True):
    """Mean scores on the held-out rows of a run, by the identity of the weights."""

    metric: str = ""
    rows: int = 0
    values: dict[str, float] = {}
    v: int = 1


class StageTask(msgspec.Struct, frozen=True):
    """The task of a stage: its run, its data, and what its held-out rows are scored by ("" where unknown)."""

    run: str
    data: str
    metric: str = ""
    rows: int = 0


class StageScore(msgspec.Struct, frozen=True):
    """The score after a stage on a task, from 0 to 1, null where it is unknown. ``source``: recorded by a
    run, or measured since."""

    value: float | None = None
    source: ScoreSource = ""


class StageTable(msgspec.Struct, frozen=True):
    """``base``: the scores of the base on each task; ``scores``: a row for each stage, a column for each
    task."""

    tasks: list[StageTask]
    base: list[StageScore]
    scores: list[list[StageScore]]

    @property
    def matrix(self) -> list[list[float]]:
        """The scores of the stages; NaN is unknown."""
        return [[math.nan if one.value is None else one.value for one in row] for row in self.scores]

    @property
    def backward_transfer(self) -> float | None:
        """The mean change of the earlier tasks since the stage that learned each."""
        return _known(stage_transfer.backward_transfer(self.matrix))

    @property
    def forgetting(self) -> list[float | None]:
        """By task, its best score before the last stage less that after it."""
        return [_known(each) for each in stage_transfer.forgetting(self.matrix)]

    @property
    def task_names(self) -> list[str]:
        """The number and the data of each task."""
        return [f"{n} {short_name(task.data)}" for n, task in enumerate(self.tasks, 1)]

    @property
    def rows(self) -> list[list[str]]:
        """The scores as text, each row after the name of its stage and its run."""
        stages = [("base", ""), *((f"stage {n}", task.run) for n, task in enumerate(self.tasks, 1))]
        return [
            [name, run, *(decimal(score.value, 3) for score in row)]
            for (name, run), row in zip(stages, (self.base, *self.scores), strict=True)
        ]

    @property
    def sentences(self) -> list[str]:
        """How each task is scored, backward transfer and forgetting."""
        found = [
            f"task {name}: {metric_name(task.metric)} on {plural(task.rows, 'held-out row')}"
            if task.metric
            else f"task {name}: {UNKNOWN}"
            for name, task in zip(self.task_names, self.tasks, strict=True)
        ]
        change = self.backward_transfer
        lost = ", ".join(
            f"task {name} {decimal(each, 3)}"
            for name, each in zip(self.task_names, self.forgetting, strict=False)
        )
        shown = UNKNOWN if change is None else f"{change:+.3f}"
        return [
            f"backward transfer {shown}: mean change of the earlier tasks since each was learned",
            f"forgetting {lost}: best score before the last stage, less the last one",
            *found,
        ]

    @property
    def missing(self) -> int:
        """How many scores are unknown, those of the base among them."""
        return sum(score.value is None for row in (self.base, *self.scores) for score in row)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def table_of(run: Run) -> StageTable | None:
    """What is known of the line of runs that ends with ``run``; None for a run that starts from the base, or
    whose line cannot be read."""
    try:
        return read_table(line_of(run))
    except LabError:
        return None


def line_of(run: Run) -> list[Run]:
    """The line of runs that ends with ``run``, the first stage first. Raises LabError where it has one run
    or where one cannot be read."""
    line = [*reversed(list(stages.ancestors(run))), run]
    for each in line:
        each.recipe()
    if len(line) == 1:
        raise LabError(
            f"run {sanitize(run.id)} starts from the base: there is no earlier stage to compare with; "
            f"`tui-lab train --from {sanitize(run.id)}` goes on from it"
        )
    return line


def base_of(recipe: Recipe) -> str:
    """The folder or hub id of the base."""
    return catalog.find(recipe.model, allow_large=True).loadable


def identities(line: Sequence[Run]) -> list[str]:
    """The weights of the base and of each stage; "" for a stage that has saved none."""
    recipe = line[0].recipe()
    base = base_of(recipe)
    found = [identity(base, recipe.revision)]
    for run in line:
        if run.saved_path is None:
            found.append("")
        elif run.saved_path == run.adapter_path:
            found.append(identity(base, recipe.revision, run.adapter_path))
        else:
            found.append(identity(str(run.model_path)))
    return found


def read_scores(run: Run) -> TaskScores:
    """What was measured on the held-out rows of a run; nothing where the file is missing or damaged."""
    try:
        content = input_files.read_bytes(run.path / FOLDER / TASK_SCORES)
        return from_json(content, TaskScores, TASK_SCORES.name)
    except (OSError, LabError):
        return TaskScores()


def add_score(run: Run, metric: str, rows: int, weights: str, value: float) -> None:
    """Stores a score on the held-out rows of a run. Raises LabError."""
    before = read_scores(run)
    same = (before.metric, before.rows) == (metric, rows)
    found = TaskScores(metric, rows, {**(before.values if same else {}), weights: value})
    path = run.path / FOLDER / TASK_SCORES
    try:
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        files.write_atomically(path, to_json(found) + "\n")
    except OSError as error:
        raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None


def read_table(line: Sequence[Run]) -> StageTable:
    """What is known of a line of runs. Raises LabError where a recipe cannot be read."""
    recipes, states = [run.recipe() for run in line], [Watcher(run).read_all() for run in line]
    measured = [read_scores(run) for run in line]
    # reading large weights takes long
    weights = identities(line) if any(each.values for each in measured) else [""] * (len(line) + 1)
    tasks, columns = [], []
    for at, run in enumerate(line):
        stored, state = measured[at], states[at]
        metric = state.score_name or stored.metric
        rows = (state.scores[-1].rows if state.scores else stored.rows) or 0
        tasks.append(StageTask(run.id, recipes[at].data, metric, rows))
        known = stored.values if stored.metric == metric else {}
        recorded = _recorded(at, line, recipes, states)
        columns.append([_score(one, known.get(weights[n])) for n, one in enumerate(recorded)])
    base, *scores = (list(row) for row in zip(*columns, strict=True))
    return StageTable(tasks, base, scores)


def _score(recorded: float, measured: float | None) -> StageScore:
    if not math.isnan(recorded):
        return StageScore(recorded, "recorded")
    return StageScore() if measured is None else StageScore(measured, "measured")


def _recorded(
    task: int, line: Sequence[Run], recipes: Sequence[Recipe], states: Sequence[RunState]
) -> list[float]:
    """What the runs themselves scored on a task: the base, then every stage; NaN is unknown."""
    found = [math.nan] * (len(line) + 1)
    for stage, state in enumerate(states):
        if stage == task or _same_task(line, recipes, stage, task):
            # a run begins with the weights of the stage before it
            for place, when in ((stage, "start"), (stage + 1, "end")):
                if not math.isnan(value := state.score(when)) and (stage == task or math.isnan(found[place])):
                    found[place] = value
    return found


def _same_task(line: Sequence[Run], recipes: Sequence[Recipe], one: int, other: int) -> bool:
    """Whether two stages have the same held-out rows, answered in the same way."""
    names = [name for name, info in FIELDS.items() if info.group == "data" or name in _TASK_FIELDS]
    if any(getattr(recipes[one], name) != getattr(recipes[other], name) for name in names):
        return False
    cards = [inputs.read_card(path) for n in (one, other) if (path := line[n].saved_path) is not None]
    return len({card.data for card in cards if card is not None and card.data}) < 2
