"""``tui-lab stages``: what the runs of a line that go on from one another score on each other's tasks."""

from __future__ import annotations

import argparse
import math

from msgspec.structs import asdict

from tui_lab.cli import jobs
from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, as_json, note, print_text, table
from tui_lab.core import format
from tui_lab.core.format import UNKNOWN, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import stage_matrix
from tui_lab.evaluation.records import MeasuredStages, StagesRequest
from tui_lab.evaluation.stage_matrix import StageScore, StageTable, StageTask
from tui_lab.retention import stage_transfer
from tui_lab.runs import folder

MODULE = "tui_lab.evaluation.stage_scores"


class StagesAnswer(Answer, tag="stages", kw_only=True, frozen=True):
    """The line of runs that ends with ``run``. ``scores``: a row for each stage, a column for each task, from
    0 to 1; ``base``: the scores of the base. ``backward_transfer``: the mean change of the earlier tasks
    since the stage that learned each; ``forgetting``: by task, its best score before the last stage less
    that after it. Null is unknown; ``missing``: how many scores are."""

    run: str
    tasks: list[StageTask]
    base: list[StageScore]
    scores: list[list[StageScore]]
    backward_transfer: float | None
    forgetting: list[float | None]
    missing: int
    problems: list[str]


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    last = folder.open_run(args.name, args.runs_dir)
    line = stage_matrix.line_of(last)
    problems: list[str] = []
    found = stage_matrix.read_table(line)
    if args.measure and found.missing:
        request = StagesRequest(run=str(last.path), runs_dir=str(args.runs_dir or ""))
        problems = jobs.run_job(MODULE, request, answer=MeasuredStages).problems
        found = stage_matrix.read_table(line)
    answer = _answer(last.id, found, problems)
    if args.json:
        as_json(answer)
    else:
        _print(answer)
    return EXIT_OK


def _answer(run_id: str, found: StageTable, problems: list[str]) -> StagesAnswer:
    return StagesAnswer(
        **asdict(found),
        run=run_id,
        backward_transfer=_known(stage_transfer.backward_transfer(found.matrix)),
        forgetting=[_known(each) for each in stage_transfer.forgetting(found.matrix)],
        missing=found.missing,
        problems=problems,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _print(answer: StagesAnswer) -> None:
    tasks = [f"{n} {_short(task.data)}" for n, task in enumerate(answer.tasks, 1)]
    names = ["base", *(f"stage {n}" for n in range(1, len(tasks) + 1))]
    runs = ["", *(task.run for task in answer.tasks)]
    rows = [
        [name, sanitize(run), *(format.decimal(score.value, 3) for score in row)]
        for name, run, row in zip(names, runs, (answer.base, *answer.scores), strict=True)
    ]
    table(("after", "run", *(f"task {task}" for task in tasks)), rows, right=range(2, 2 + len(tasks)))
    for task, about in zip(tasks, answer.tasks, strict=True):
        how = f"{sanitize(about.metric)} on {plural(about.rows, 'held-out row')}" if about.metric else UNKNOWN
        print_text(f"task {task}: {how}")
    transfer = answer.backward_transfer
    shown = UNKNOWN if transfer is None else f"{transfer:+.3f}"
    print_text(f"\nbackward transfer {shown}: mean change of the earlier tasks since each was learned")
    lost = ", ".join(
        f"task {task} {format.decimal(each, 3)}" for task, each in zip(tasks, answer.forgetting, strict=False)
    )
    print_text(f"forgetting {lost}: best score before the last stage, less the last one")
    for problem in answer.problems:
        note(sanitize(problem))
    if answer.missing:
        note(f"{plural(answer.missing, 'score')} not measured ({UNKNOWN}); --measure measures what can be")


def _short(data: str) -> str:
    return sanitize(data.rstrip("/").rpartition("/")[2])
