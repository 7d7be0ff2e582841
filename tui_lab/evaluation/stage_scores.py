"""Measures, as a job, what the stages of a line of runs score on each other's held-out rows, as far as that
is not known. Every score is written as it is ready, so an interrupted measurement goes on."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import free_memory
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.acquisition import HeldOutTask
from tui_lab.evaluation.evaluate import ProgressReport, TargetModels
from tui_lab.evaluation.records import EvaluationRequest, MeasuredStages, StagesRequest
from tui_lab.evaluation.request import resolve_target
from tui_lab.hardware import memory_budget
from tui_lab.runs import folder, inputs, stage_matrix
from tui_lab.runs.folder import Run
from tui_lab.runs.stage_matrix import StageTask
from tui_lab.runs.state import Watcher


def handle(request: StagesRequest, on_progress: job_protocol.OnProgress) -> MeasuredStages:
    """The job. Raises LabError."""
    runs_dir = Path(request.runs_dir) if request.runs_dir else None
    line = stage_matrix.line_of(folder.open_run(request.run, runs_dir))
    for run in line:
        recipe = run.recipe()
        if folder.is_locked(run):
            raise LabError(f"run {run.id} is still in progress; measure when it has ended, or stop it first")
        changed = inputs.changed_of_run(run, recipe, stage_matrix.base_of(recipe))
        inputs.require_unchanged(changed, f"run {run.id}")
    memory_budget.take_gpu()
    return _measure(line, on_progress)


def _measure(line: Sequence[Run], on_progress: job_protocol.OnProgress) -> MeasuredStages:
    table, weights = stage_matrix.read_table(line), stage_matrix.identities(line)
    missing = [
        [n for n, score in enumerate(row) if score.value is None] for row in (table.base, *table.scores)
    ]
    tasks, problems = _tasks(line, table.tasks, sorted({n for row in missing for n in row}))
    total, done = sum(n in tasks for row in missing for n in row), 0
    for stage, row in enumerate(missing):
        wanted = [n for n in row if n in tasks]
        if not wanted:
            continue
        if not weights[stage]:
            problems.append(f"stage {stage}: run {line[stage - 1].id} has saved no weights")
            continue
        run = line[max(0, stage - 1)]
        request = EvaluationRequest(run=str(run.path), allow_large=run.recipe().allow_large)
        target = resolve_target(request, on_progress)
        models = TargetModels(target, request.allow_large, ProgressReport(on_progress))
        model = models.tuned() if stage else models.base()
        for n in wanted:
            what = f"stage {stage}" if stage else "the base"
            on_progress(f"{what} answers the held-out rows of task {n + 1}", done, total)
            scores = tasks[n].scores(model)
            value = math.fsum(scores) / len(scores)
            stage_matrix.add_score(line[n], tasks[n].metric, len(scores), weights[stage], value)
            done += 1
        del models, model
        free_memory()
    return MeasuredStages(done, problems)


def _tasks(
    line: Sequence[Run], known: Sequence[StageTask], wanted: Sequence[int]
) -> tuple[dict[int, HeldOutTask], list[str]]:
    """The held-out rows of stages, and a sentence for each that has none."""
    from tui_lab.data import templates

    found, problems = {}, []
    for n in wanted:
        run = line[n]
        recipe = run.recipe()
        state = Watcher(run).read_all()
        try:
            tokenizer = templates.load_tokenizer(stage_matrix.base_of(recipe), recipe.revision or None)
            task = HeldOutTask(recipe, state, tokenizer, run.saved_path)
        except LabError as error:
            problems.append(f"task {n + 1} cannot be measured: {sanitize(str(error))}")
            continue
        before, now = (known[n].metric, known[n].rows), (task.metric, len(task.examples))
        if not task.examples:
            problems.append(f"task {n + 1} cannot be measured: it has no held-out rows with answers")
        elif state.scores and before != now:
            problems.append(
                f"task {n + 1} cannot be measured: its run recorded {sanitize(before[0])} on {before[1]} "
                f"rows, and they now give {now[0]} on {now[1]}"
            )
        else:
            found[n] = task
    return found, problems


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, StagesRequest))
