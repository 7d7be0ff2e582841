"""The strength sweep of a run, as a job: acquisition and retention at each strength of its adapter, and the
recommended strength; or saving at one strength. The score of every item is written as it is ready, so an
interrupted sweep resumes, and strengths that are added later cost only themselves. Strength 0, the base,
comes first: all others are compared with it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tui_lab.core import files, input_files, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json, to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import prompts, score_cache, strength_target
from tui_lab.evaluation.acquisition import HeldOutTask
from tui_lab.evaluation.records import SavedStrength, SweepRequest
from tui_lab.evaluation.strength_target import LoadedTarget, SweepTarget
from tui_lab.hardware import memory_budget
from tui_lab.retention import results, statistics, strength_grid
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.statistics import Interval
from tui_lab.retention.stored import (
    FOLDER,
    STRENGTH,
    Recommendation,
    StrengthCurve,
    StrengthPoint,
    SweepInfo,
)
from tui_lab.runs import folder, inputs
from tui_lab.runs.state import Watcher

#: In that folder: the scores at single strengths, so that a sweep can resume.
PARTS, ANSWER_SCORES, LOCK = "strength", "marks.json", "lock"
#: Items between two progress reports.
_PROGRESS_ITEMS = 16


def handle(request: SweepRequest, on_progress: job_protocol.OnProgress) -> StrengthCurve | SavedStrength:
    """The job: sweeps, or saves at a strength. Raises LabError."""
    request = request.validated()
    memory_budget.take_gpu()
    run = folder.open_run(request.run, Path(request.runs_dir) if request.runs_dir else None)
    target = SweepTarget.of(run)
    inputs.require_unchanged(inputs.changed_of_run(run, target.recipe, target.base), f"run {run.id}")
    with locked(run):
        try:
            if request.save is not None:
                return SavedStrength(strength_target.save(target, request.save))
            return Sweep(target, request, on_progress).run()
        except OSError as error:
            what = error.strerror or error
            raise LabError(f"run {run.id}: its folder cannot be read or written ({what})") from None


@contextlib.contextmanager
def locked(run: folder.Run) -> Iterator[None]:
    """Holds the lock of the run's sweep. Raises LabError if another sweep holds it."""
    parts = run.path / FOLDER / PARTS
    try:
        parts.parent.mkdir(mode=0o700, exist_ok=True)
        parts.mkdir(mode=0o700, exist_ok=True)
        lock = files.FileLock.acquire(parts / LOCK)
    except OSError as error:
        raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None
    if lock is None:
        raise LabError(f"run {run.id}: its strength is being swept already; wait for it or end it")
    with lock:
        yield


class NewTask:
    """The scores of a run's held-out rows. ``problem``: why there are none, if so."""

    def __init__(self, target: SweepTarget) -> None:
        from tui_lab.data import templates

        self.rows, self.metric, self.problem = 0, "", ""
        self._task: HeldOutTask | None = None
        recipe = target.recipe
        try:
            tokenizer = templates.load_tokenizer(target.base, recipe.revision or None)
            task = HeldOutTask(recipe, Watcher(target.run).read_all(), tokenizer, target.path)
        except LabError as error:
            self.problem = f"acquisition is not measured: {error}"
            return
        if not task.examples:
            self.problem = "acquisition is not measured: the run has no held-out rows with answers"
            return
        self._task, self.rows, self.metric = task, len(task.examples), task.metric

    def key(self, weights: str) -> str:
        """The key of the scores of these weights."""
        return prompts.with_prompts(weights, self._task.tokenizer) if self._task else weights

    def scores(self, model: object) -> list[float]:
        """The score of each answer, 0 to 1; empty without held-out rows."""
        return self._task.scores(model) if self._task else []


class Sweep:
    """Measures every strength that has no scores yet, and writes the curve after each."""

    def __init__(
        self, target: SweepTarget, request: SweepRequest, on_progress: job_protocol.OnProgress
    ) -> None:
        from tui_lab.retention.suites import registry

        self._target, self._request, self._on_progress = target, request, on_progress
        self._suite = registry.load(request.suite, request.limit)
        self._folder = target.run.path / FOLDER

    def run(self) -> StrengthCurve:
        """Measures all strengths; returns the curve, which is also in the run's folder."""
        self._on_progress("loading the model")
        loaded, task = LoadedTarget(self._target), NewTask(self._target)
        answer_scores = AnswerScores(
            self._folder / PARTS / ANSWER_SCORES, f"{loaded.how} {task.metric} {task.rows}"
        )
        info = self._info(task, loaded)
        points = {point.strength: point for point in self._earlier_points(info)}
        warnings = [*self._suite.warnings, *([task.problem] if task.problem else [])]
        base: list[ItemScore] = []
        curve: StrengthCurve | None = None
        ordered = list(self._request.strengths)
        while ordered:
            strength = ordered.pop(0)
            loaded.scale.set(strength)
            items = self._items(loaded, strength)
            base = base or items  # strength 0 is the first
            identity = task.key(self._target.identity(strength))
            scores = answer_scores.get(identity)
            if len(scores) != task.rows:
                self._on_progress(f"strength {strength:.2f}: answers to {task.rows} held-out rows")
                scores = task.scores(loaded.model)
                answer_scores.add(identity, scores)
            points[strength] = self._point(strength, base, items, scores)
            curve = self._curve(info, list(points.values()), warnings)
            files.write_atomically(self._folder / STRENGTH, to_json(curve) + "\n")
            kept = points[strength].headline.low >= self._request.keep
            if strength and kept and self._request.until_kept:
                ordered = self._between(strength)
        assert curve is not None  # there is at least strength 0
        return curve

    def _between(self, kept: float) -> list[float]:
        """What is measured after the highest of the listed strengths that is kept."""
        above = [strength for strength in self._request.strengths if strength > kept]
        if self._request.until_kept != "halved" or not above or kept not in self._request.strengths:
            return []
        return [(kept + min(above)) / 2]

    def _items(self, loaded: LoadedTarget, strength: float) -> list[ItemScore]:
        """The scores of the suite at a strength: those on disk, and the others computed and appended."""
        from tui_lab.models.loading import quiet_libraries
        from tui_lab.retention.scoring import score as scoring

        items = self._suite.items
        directory = self._folder / PARTS if strength else score_cache.folder()
        identity = prompts.with_prompts(self._target.identity(strength), loaded.tokenizer)
        with score_cache.ScoreFile(directory, identity, loaded.how, self._suite) as cached:

            def on_score(score: ItemScore) -> None:
                cached.add(score)
                self._report(strength, len(cached.done))

            if not cached.complete:
                with quiet_libraries():
                    scoring.score(
                        loaded.model,
                        loaded.tokenizer,
                        self._suite,
                        done=dict(cached.done),
                        on_score=on_score,
                    )
            return [cached.done[item.id] for item in items]

    def _report(self, strength: float, done: int) -> None:
        items = len(self._suite.items)
        if done % _PROGRESS_ITEMS and done != items:
            return
        listed = self._request.strengths
        before = (listed.index(strength) if strength in listed else len(listed) - 1) * items
        total = items * len(listed)
        self._on_progress(f"{self._suite.name}, strength {strength:.2f}", before + done, total)

    def _info(self, task: NewTask, loaded: LoadedTarget) -> SweepInfo:
        how = loaded.how
        return SweepInfo(
            suite=self._suite.name,
            version=self._suite.version,
            sha256=self._suite.sha256,
            n=len(self._suite.items),
            model=sanitize(self._target.recipe.model),
            weights=prompts.with_prompts(self._target.identity(1.0), loaded.tokenizer),
            quantization=how.quantization,
            dtype=how.dtype,
            acquisition_metric=task.metric,
            acquisition_rows=task.rows,
        )

    def _earlier_points(self, info: SweepInfo) -> list[StrengthPoint]:
        """The points of an earlier sweep of the same, at strengths that are not measured now. None of a
        damaged file."""
        try:
            earlier = from_json(input_files.read_bytes(self._folder / STRENGTH), StrengthCurve, STRENGTH)
        except (OSError, LabError):
            return []
        if earlier.info != info:
            return []
        return [point for point in earlier.points if point.strength not in self._request.strengths]

    def _point(
        self,
        strength: float,
        base: Sequence[ItemScore],
        items: Sequence[ItemScore],
        answer_scores: Sequence[float],
    ) -> StrengthPoint:
        threshold = self._target.recipe.retention_threshold
        compared = results.compare(self._suite, base, items, threshold)
        acquisition = acquisition_interval(answer_scores)
        return StrengthPoint(
            strength=strength,
            acquisition=acquisition.value,
            acquisition_interval=acquisition,
            retention=compared.headline,
            verdict=compared.verdict,
            pre=compared.pre,
            post=compared.post,
            b=compared.b,
            c=compared.c,
            mcnemar_p=compared.mcnemar_p,
        )

    def _curve(self, info: SweepInfo, points: list[StrengthPoint], warnings: list[str]) -> StrengthCurve:
        """The curve so far, with the recommended strength."""
        points = sorted(points, key=lambda point: point.strength)
        recommended = strength_grid.recommend(
            [
                strength_grid.PointSummary(p.strength, p.acquisition, p.retention.value, p.verdict)
                for p in points
            ],
            self._request.keep,
        )
        fields = {name: getattr(info, name) for name in SweepInfo.__struct_fields__}
        return StrengthCurve(
            **fields,
            keep=self._request.keep,
            points=points,
            recommended=Recommendation(*recommended),
            warnings=warnings,
        )


def acquisition_interval(scores: Sequence[float]) -> Interval:
    """The mean score with its interval: Wilson's if scores are 0 or 1, else Student's t."""
    if set(scores) <= {0.0, 1.0}:
        return statistics.wilson(sum(scores), len(scores))
    return statistics.mean_interval(scores)


class AnswerScores:
    """The scores of answers at strengths that were measured before, in one file; a damaged file is replaced.
    ``how``: everything besides the weights that changes a score."""

    def __init__(self, path: Path, how: str) -> None:
        self._path, self._how = path, how
        self._scores: dict[str, list[float]] = {}
        with contextlib.suppress(OSError, LabError):
            content = input_files.read_bytes(path, input_files.SCORES_BYTES)
            self._scores = from_json(content, dict[str, list[float]], path.name)

    def get(self, identity: str) -> list[float]:
        """The scores of a model's answers; empty if it was not measured."""
        return self._scores.get(f"{self._how}: {identity}", [])

    def add(self, identity: str, scores: list[float]) -> None:
        """Stores the scores of a model's answers."""
        self._scores[f"{self._how}: {identity}"] = scores
        files.write_atomically(self._path, to_json(self._scores))


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, SweepRequest))
