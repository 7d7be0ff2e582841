"""``tui-lab stages``: what the runs of a line that go on from one another score on each other's tasks."""

from __future__ import annotations

import argparse

from msgspec.structs import asdict

from tui_lab.cli import jobs
from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, as_json, note, print_text, table
from tui_lab.core.format import UNKNOWN, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.records import MeasuredStages, StagesRequest
from tui_lab.runs import folder, stage_matrix
from tui_lab.runs.stage_matrix import StageScore, StageTable, StageTask

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
    if args.json:
        as_json(_answer(last.id, found, problems))
    else:
        _print(found, problems)
    return EXIT_OK


def _answer(run_id: str, found: StageTable, problems: list[str]) -> StagesAnswer:
    return StagesAnswer(
        **asdict(found),
        run=run_id,
        backward_transfer=found.backward_transfer,
        forgetting=found.forgetting,
        missing=found.missing,
        problems=problems,
    )


def _print(found: StageTable, problems: list[str]) -> None:
    names = [sanitize(f"task {name}") for name in found.task_names]
    rows = [[sanitize(cell) for cell in row] for row in found.rows]
    table(("after", "run", *names), rows, right=range(2, 2 + len(names)))
    print_text(sanitize("\n".join(found.sentences)))
    for problem in problems:
        note(sanitize(problem))
    if found.missing:
        note(f"{plural(found.missing, 'score')} not measured ({UNKNOWN}); --measure measures what can be")
