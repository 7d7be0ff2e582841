"""Measures retention on demand: ``python -m tui_lab.evaluation.evaluate`` is a job, :func:`evaluate` the same
for the command line. Base and tuned model are scored on the same items, from one loaded base if an adapter
allows it. Scores are written as they come, so an interrupted evaluation resumes and a base is scored once.
The results of a run are kept in its folder."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tui_lab.core import files, input_files, job_protocol
from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import free_memory
from tui_lab.core.records import from_json, to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.core.versions import versions_of
from tui_lab.data.rows import Model, Tokenizer
from tui_lab.evaluation import answer_scorers, prompts, score_cache
from tui_lab.evaluation.answer_scorers import AnswerScorer
from tui_lab.evaluation.records import EvaluationAnswer, EvaluationRequest
from tui_lab.evaluation.request import EvaluationTarget, accepted_changes, resolve_target
from tui_lab.evaluation.score_cache import LoadConfig, ScoreFile
from tui_lab.evaluation.weights import load_weights
from tui_lab.hardware import memory_budget
from tui_lab.models import download
from tui_lab.retention import results
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.stored import ACQUISITION, FOLDER, AcquisitionResult
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite
from tui_lab.retention.suites.scored import as_answers, aspect_of
from tui_lab.runs.folder import Run
from tui_lab.runs.references import ModelReference
from tui_lab.runs.state import Watcher

if TYPE_CHECKING:
    from tui_lab.evaluation.acquisition import HeldOutTask

#: File names in that folder that a suite must not take.
_RESERVED_NAMES = {"acquisition", "strength"}
VERSIONED_LIBRARIES = ("torch", "transformers", "peft")
#: Items in the job's answer: about 10 MB. Larger results stay in the run's folder.
MAX_ANSWER_ITEMS = 10_000
#: Seconds between two progress reports.
PROGRESS_INTERVAL_S = 0.2


def _ignore(text: str, done: int | None = None, total: int | None = None) -> None:
    del text, done, total


def evaluate(
    request: EvaluationRequest,
    on_progress: job_protocol.OnProgress = _ignore,
    cancelled: Callable[[], bool] = lambda: False,
) -> EvaluationAnswer:
    """Measures everything that the request names. Raises Cancelled, and LabError."""
    request = request.validated()
    with download.reporting(lambda progress: on_progress(progress.text)):
        suites = [registry.load(name, request.limit) for name in request.suites]
    load_scorer = answer_scorers.scorer_of(request, suites)
    target = resolve_target(request, on_progress)
    return _Evaluation(request, target, suites, load_scorer, ProgressReport(on_progress), cancelled).run()


class ProgressReport:
    """Reports progress, at most a few times per second while items are counted."""

    def __init__(self, on_progress: job_protocol.OnProgress) -> None:
        self._on_progress = on_progress
        self._reported_at = 0.0

    def report(self, text: str, done: int | None = None, total: int | None = None, now: bool = False) -> None:
        clock = time.monotonic()
        counted = done is not None and done != total
        if counted and not now and clock - self._reported_at < PROGRESS_INTERVAL_S:
            return
        self._reported_at = clock
        self._on_progress(text, done, total)


class TargetModels:
    """The base and the tuned model of a target, loaded when they are first needed."""

    def __init__(self, target: EvaluationTarget, allow_large: bool, progress: ProgressReport) -> None:
        self._target, self._allow_large, self._progress = target, allow_large, progress
        self._model: Model = None  # a transformers or peft model
        self._is_tuned = False
        self._tokenizers: prompts.Tokenizers | None = None

    def base(self) -> Model:
        """The base; not after :meth:`tuned`."""
        if self._model is None:
            self._model = self._load(self._target.base, self._target.label)
        return self._model

    def tuned(self) -> Model:
        """The loaded base with the adapter, or other weights in its place."""
        if self._is_tuned:
            return self._model
        tuned = self._target.tuned
        assert tuned is not None
        if tuned.adapter is None:
            self._model = None  # two whole models may not fit into memory
            free_memory()
            self._model = self._load(tuned, self._target.name)
        else:
            from tui_lab.decoding.adapters import load_peft_model

            self._progress.report(f"loading {sanitize(self._target.name)}")
            self._model = load_peft_model(self.base(), tuned.adapter, self._target.name)
        self._is_tuned = True
        return self._model

    def unload(self) -> None:
        """Frees the weights; they are loaded again when they are needed."""
        self._model, self._is_tuned = None, False
        free_memory()

    def tokenizer(self, tuned: bool) -> Tokenizer:
        """How the base or the tuned model is asked."""
        if self._tokenizers is None:
            self._tokenizers = prompts.Tokenizers.of(self._target.base, self._target.tuned)
        return self._tokenizers.side(tuned)

    def _load(self, source: ModelReference, label: str) -> Model:
        return load_weights(source, label, self._target.how, self._allow_large, self._progress.report)


class _Evaluation:
    """One evaluation: everything on the base first, then everything on the tuned model."""

    def __init__(
        self,
        request: EvaluationRequest,
        target: EvaluationTarget,
        suites: list[Suite],
        load_scorer: Callable[[job_protocol.OnProgress], AnswerScorer] | None,
        progress: ProgressReport,
        cancelled: Callable[[], bool],
    ) -> None:
        self._request, self._target, self._load_scorer = request, target, load_scorer
        self._aspects = [aspect_of(suite) if load_scorer else None for suite in suites]
        asked = zip(suites, self._aspects, strict=True)
        self._suites = suites = [as_answers(suite) if aspect else suite for suite, aspect in asked]
        self._progress, self._cancelled = progress, cancelled
        self._models = TargetModels(target, request.allow_large, progress)
        self._seconds: dict[str, float] = {}  # of scoring, by the hash of the suite
        self._warnings: dict[str, list[str]] = {suite.sha256: [] for suite in suites}
        self._notes = accepted_changes(target)  # warnings of all suites

    def run(self) -> EvaluationAnswer:
        before = [self._scores(suite, tuned=False) for suite in self._suites]
        after: list[list[ItemScore]] | None = None
        if self._target.tuned is not None:
            task = self._held_out_task()
            base_answers: list[str] = []
            if task is not None:
                self._progress.report("answering held-out rows with the base")
                base_answers = task.answers(self._models.base())
            after = [self._scores(suite, tuned=True) for suite in self._suites]
            if task is not None:
                self._progress.report("answering held-out rows with the tuned model")
                tuned_answers = task.answers(self._models.tuned())
                self._store(ACQUISITION, task.result(base_answers, tuned_answers, self._weights_key()))
        suite_results = []
        scored = self._scored(before, after)
        for suite, (shown, scores) in zip(self._suites, scored, strict=True):
            result = results.build(
                shown,
                self._info(suite),
                scores[0],
                scores[1] if after is not None else None,
                self._target.threshold,
                [*self._warnings[suite.sha256], *self._notes],
            )
            self._store_result(result)
            suite_results.append(result)
        self._delete_partial_scores()
        return EvaluationAnswer(suite_results, self._stored_acquisition())

    def _scored(
        self, before: list[list[ItemScore]], after: list[list[ItemScore]] | None
    ) -> list[tuple[Suite, list[list[ItemScore]]]]:
        """Each suite with the scores of base and tuned model, of some by the classifier or judge."""
        sides = [before] if after is None else [before, after]
        found = [(suite, [side[at] for side in sides]) for at, suite in enumerate(self._suites)]
        if self._load_scorer is None:
            return found
        self._models.unload()  # two models may not fit into memory
        scorer = self._load_scorer(self._progress.report)
        for at, (suite, scores) in enumerate(found):
            if aspect := self._aspects[at]:
                shown, scores, note = answer_scorers.rescore(
                    suite, aspect, scores, scorer, self._progress.report, self._cancelled
                )
                found[at] = shown, scores
                if note:
                    self._warn(suite, note)
        return found

    # ------------------------------------------------------------------ suites

    def _scores(self, suite: Suite, *, tuned: bool) -> list[ItemScore]:
        """The scores of a suite: those on disk, and the others computed and appended."""
        target = self._target
        if not tuned and not Path(target.base.location).is_dir():
            self._models.base()  # the commit of a hub id is known once it is downloaded
        weights = target.tuned_identity if tuned else target.base_identity
        identity = prompts.with_prompts(weights, self._models.tokenizer(tuned))
        directory = self._partial_folder() if tuned else score_cache.folder()
        side = "tuned" if tuned else "base"
        with ScoreFile(directory, identity, target.how, suite) as cached:
            if not tuned and not cached.done:
                self._warn_about_other_baselines(suite, cached.other_configs())
            if cached.complete:
                total = len(suite.items)
                self._progress.report(f"{suite.name}: {side} is known", total, total, now=True)
                return [cached.done[item.id] for item in suite.items]
            model = self._models.tuned() if tuned else self._models.base()
            return self._score(suite, side, cached, (model, self._models.tokenizer(tuned)))

    def _score(
        self, suite: Suite, side: str, cached: ScoreFile, asked: tuple[Model, Tokenizer]
    ) -> list[ItemScore]:
        from tui_lab.models.loading import quiet_libraries
        from tui_lab.retention.scoring.score import score

        total, known = len(suite.items), len(cached.done)
        known_text = f", {known:,} of them before" if known else ""
        began = time.monotonic()

        def on_score(one: ItemScore) -> None:
            cached.add(one)
            done = len(cached.done)
            self._progress.report(
                f"{suite.name}: {side}, {done:,} of {total:,} items{known_text}", done, total
            )

        self._progress.report(f"{suite.name}: {side}{known_text}", known, total, now=True)
        try:
            with quiet_libraries():
                return score(
                    *asked,
                    suite,
                    done=dict(cached.done),
                    on_score=on_score,
                    on_warning=lambda text: self._warn(suite, text),
                    cancelled=self._cancelled,
                )
        finally:
            spent = self._seconds.get(suite.sha256, 0.0)
            self._seconds[suite.sha256] = spent + time.monotonic() - began

    def _warn(self, suite: Suite, text: str) -> None:
        """Adds a warning to the suite's result, once: base and tuned model often give the same one."""
        if text not in self._warnings[suite.sha256]:
            self._warnings[suite.sha256].append(text)

    def _warn_about_other_baselines(self, suite: Suite, others: list[LoadConfig]) -> None:
        if others:
            self._warn(
                suite,
                f"the cached baseline of {suite.name} is of the model {others[0]}; this evaluation is "
                f"{self._target.how}, so the base was measured again",
            )

    def _info(self, suite: Suite) -> results.MeasurementInfo:
        how, target = self._target.how, self._target
        return results.MeasurementInfo(
            model=sanitize(target.label),
            revision=target.base.revision,
            quantization=how.quantization,
            dtype=how.dtype,
            adapter=sanitize(target.name) if target.tuned is not None else None,
            versions=versions_of(VERSIONED_LIBRARIES),
            seconds=round(self._seconds.get(suite.sha256, 0.0), 3),
        )

    # ------------------------------------------------------------------ acquisition

    def _held_out_task(self) -> HeldOutTask | None:
        """The run's held-out rows; None if there are none, or if they are not wanted or already scored."""
        run = self._target.run
        if run is None or not self._request.acquisition or self._stored_acquisition() is not None:
            return None
        from tui_lab.data.templates import load_tokenizer
        from tui_lab.evaluation.acquisition import HeldOutTask

        base = self._target.base
        try:
            state = Watcher(run).read_all()
            tokenizer = load_tokenizer(base.location, base.revision or None)
            task = HeldOutTask(run.recipe(), state, tokenizer, run.saved_path)
        except LabError as error:
            self._notes.append(f"what the run learned could not be measured: {error}")
            return None
        return task if task.examples else None

    def _stored_acquisition(self) -> AcquisitionResult | None:
        """The acquisition in the run's folder if it is of these weights; None for a damaged file, too."""
        run = self._target.run
        if run is None:
            return None
        try:
            text = input_files.read_bytes(run.path / FOLDER / ACQUISITION)
            stored = from_json(text, AcquisitionResult, ACQUISITION)
        except (OSError, LabError):
            return None
        return stored if stored.of == self._weights_key() else None

    def _weights_key(self) -> str:
        """The weights, how they are asked and how they are loaded."""
        weights = prompts.with_prompts(self._target.tuned_identity, self._models.tokenizer(True))
        return f"{weights} {self._target.how}"

    # ------------------------------------------------------------------ files

    def _partial_folder(self) -> Path:
        """The folder of the tuned model's scores until the evaluation is complete."""
        run = self._target.run
        if run is None:
            return score_cache.folder().parent / "evaluations"
        return self._results_folder(run) / "parts"

    def _results_folder(self, run: Run) -> Path:
        path = run.path / FOLDER
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None
        return path

    def _store_result(self, result: SuiteResult) -> None:
        """Stores the result of a run, unless it has fewer items of the suite than the stored one."""
        run = self._target.run
        if run is None:
            return
        name = f"{file_stem(result.suite)}.json"
        if self._request.limit:
            with contextlib.suppress(LabError):  # there is none yet, or it is damaged
                before = results.read(run.path / FOLDER / name)
                if before.version == result.version and before.n > result.n:
                    return
        self._store(name, result)

    def _store(self, name: str, value: SuiteResult | AcquisitionResult) -> None:
        run = self._target.run
        assert run is not None
        try:
            files.write_atomically(self._results_folder(run) / name, to_json(value) + "\n")
        except OSError as error:
            raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None

    def _delete_partial_scores(self) -> None:
        """Deletes the tuned model's scores, which are in the results now."""
        if self._target.tuned is None:
            return
        folder = self._partial_folder()
        for suite in self._suites:
            identity = prompts.with_prompts(self._target.tuned_identity, self._models.tokenizer(True))
            cached = ScoreFile(folder, identity, self._target.how, suite)
            cached.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # scores of other suites may be in it
            folder.rmdir()


def file_stem(suite: str) -> str:
    """A suite's name as a file name."""
    stem = re.sub(r"[^A-Za-z0-9._@-]+", "-", suite).strip("-.")[:80] or "suite"
    return f"{stem}-suite" if stem in _RESERVED_NAMES else stem


def handle(request: EvaluationRequest, on_progress: job_protocol.OnProgress) -> EvaluationAnswer:
    """The job. The items of whole benchmarks, too many for one line, are only in the run's folder."""
    memory_budget.take_gpu()
    answer = evaluate(request, on_progress)
    if sum(len(result.items) for result in answer.suites) <= MAX_ANSWER_ITEMS:
        return answer
    suites = [msgspec.structs.replace(result, items=[]) for result in answer.suites]
    return msgspec.structs.replace(answer, suites=suites)


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle, EvaluationRequest))
