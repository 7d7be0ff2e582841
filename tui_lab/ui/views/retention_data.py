"""The data of the Retention pane, read from run folders: results of suites, the strength sweep, the score of
the task, and all runs as points of retention over acquisition. Imports no torch. A damaged file loses only
its contents."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.recipes.mixture import short_name
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.advice import AdviceInput
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.stored import FOLDER, JudgeResult, StrengthCurve, read_results
from tui_lab.retention.strength_grid import strength_refusal
from tui_lab.runs import notes
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.stage_matrix import TASK_SCORES, StageTable, table_of
from tui_lab.runs.state import RunState, Watcher
from tui_lab.ui.views.run_time import run_time


@dataclass
class RetentionReport:
    """A run with its retention results."""

    run: Run
    recipe: Recipe | None
    state: RunState
    results: dict[str, SuiteResult] = field(default_factory=dict)  # by suite
    strength: StrengthCurve = field(default_factory=StrengthCurve)
    problems: list[str] = field(default_factory=list)
    stages: StageTable | None = None  # of the line of runs that ends with this one
    judge: JudgeResult = field(default_factory=JudgeResult)

    @property
    def threshold(self) -> float:
        """The retention threshold of the recipe."""
        return self.recipe.retention_threshold if self.recipe else 0.9

    @property
    def acquisition(self) -> tuple[float, float]:
        """(start, end) score of the new task; NaN where not measured."""
        return self.state.score("start"), self.state.score("end")


@dataclass(frozen=True)
class RunPoint:
    """A run in the plot of all runs."""

    run_id: str
    label: str
    name: str  # short: the user's, else the preset's
    gained: float  # acquisition after less before
    retention: float


#: The stamp of a run's files, and its point (None until both are measured).
KnownPoint = tuple[tuple[int, ...], RunPoint | None]


def read(run: Run, watcher: Watcher | None = None) -> RetentionReport:
    """Reads one run. ``watcher`` has read its log before and reads on; without one it is read from the
    start."""
    recipe: Recipe | None = None
    problems = []
    try:
        recipe = run.recipe()
    except LabError as error:
        problems.append(str(error))
    watcher = watcher or Watcher(run)
    while watcher.poll(max_records=50_000, max_s=2.0):
        pass
    stored = read_results(run.path)
    stages = table_of(run) if recipe and recipe.from_run else None
    return RetentionReport(
        run,
        recipe,
        watcher.state,
        stored.suites,
        stored.strength,
        [*problems, *stored.problems],
        stages,
        stored.judge,
    )


def advice_input(report: RetentionReport, suite: str) -> AdviceInput:
    """The input of the advice."""
    result = report.results.get(suite)
    comparison = result.comparison if result else None
    lost = {name: each.b for name, each in result.categories.items()} if result else {}
    worst = max(lost, key=lambda name: lost[name], default="")
    start, end = report.acquisition
    loss, validation = report.state.loss.last, report.state.validation.last
    recipe = report.recipe
    return AdviceInput(
        verdict=comparison.verdict if comparison else "",
        method=recipe.method if recipe else "lora",
        learning_rate=recipe.learning_rate if recipe else 0.0,
        replay_fraction=recipe.replay_fraction if recipe else 0.0,
        kl_weight=recipe.kl_weight if recipe else 0.0,
        gained=end - start if math.isfinite(end - start) else None,
        losses=(loss, validation) if math.isfinite(validation - loss) else None,
        strength_tried=bool(report.strength.points),
        strength_refused=_strength_refused(report),
        strength=report.strength.recommended.strength,
        worst_category=worst,
        worst_lost=lost.get(worst, 0),
    )


def _strength_refused(report: RetentionReport) -> str:
    """Why the strength of the adapter cannot be changed; "" when it can, or is unknown."""
    try:
        config = input_files.read_json(report.run.adapter_path / "adapter_config.json")
    except (OSError, ValueError, RecursionError):
        return ""  # full weights, nothing yet, or damaged: the sweep reports it
    if not isinstance(config, dict):
        return ""
    recipe = report.recipe
    return strength_refusal(config, recipe.init_lora_weights if recipe and recipe.method == "lora" else None)


def label(recipe: Recipe | None, run_id: str) -> str:
    """A short label of a run."""
    what = f"{recipe.preset or recipe.method} · {short_name(recipe.data)}" if recipe else ""
    return f"{run_time(run_id)}  {what}".strip()


def point(report: RetentionReport, suite: str) -> RunPoint | None:
    """The run as a point; None until gain and retention are measured."""
    start, end = report.acquisition
    result = report.results.get(suite)
    retention = math.nan
    if result and result.comparison:
        retention = result.comparison.headline.value
    elif report.state.item_probes and report.state.item_probes[-1].suite == suite:
        retention = report.state.retention.value if report.state.retention else math.nan
    if not math.isfinite(end - start) or not math.isfinite(retention):
        return None
    recipe = report.recipe
    name = notes.read(report.run).name or (recipe.preset or recipe.method if recipe else report.run.id)
    return RunPoint(report.run.id, label(recipe, report.run.id), sanitize(name), end - start, retention)


def front(points: Iterable[RunPoint]) -> list[RunPoint]:
    """The Pareto front of gain and retention, by ascending gain."""
    best: list[RunPoint] = []
    for each in sorted(points, key=lambda p: (-p.gained, -p.retention)):
        if not best or each.retention > best[-1].retention:
            best.append(each)
    return best[::-1]


def points(runs: Sequence[Run], suite: str, known: dict[tuple[str, str], KnownPoint]) -> list[RunPoint]:
    """All runs with gain and retention. ``known`` caches them by (run, suite) while the log and the results
    of the run are unchanged."""
    found = []
    for run in runs:
        stamp = _stamp(run)
        before = known.get((run.id, suite))
        # the point of a run in progress comes at its end
        if before is None or (before[0] != stamp and not is_locked(run)):
            before = known[run.id, suite] = (stamp, point(read(run), suite))
        if before[1] is not None:
            found.append(before[1])
    return found


def state_stamp(run: Run) -> tuple[int, ...]:
    """A value that changes whenever what the pane shows of a run may: its log, its results, its weights, and
    whether it is in progress."""
    weights = (run.adapter_path.is_dir(), run.model_path.is_dir())
    return (*_stamp(run), is_locked(run), *weights)


def _stamp(run: Run) -> tuple[int, ...]:
    """A value that changes whenever the log or the results of a run change."""
    stamp: list[int] = []
    results = (run.path / FOLDER / TASK_SCORES, *sorted((run.path / FOLDER).glob("*.json")))
    for path in (run.events_path, run.path / notes.FILE, *results):
        with contextlib.suppress(OSError):
            status = path.stat()
            stamp += [status.st_ino, status.st_size, status.st_mtime_ns]
    return tuple(stamp)
