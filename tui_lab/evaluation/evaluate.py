"""Measures retention on demand: ``python -m tui_lab.evaluation.evaluate``, a job that speaks the protocol of
:mod:`tui_lab.core.job_protocol`, and :func:`evaluate` for the command line. Base and tuned model are scored on the same
items from one loaded base where an adapter allows it; scores are written as they come, so that what was
interrupted goes on, and a base is scored once. A run keeps its results in its own folder."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from tui_lab import __version__
from tui_lab.core import files, job_protocol, records
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import score_cache
from tui_lab.evaluation.request import EvaluationRequest, EvaluationTarget, request_of, resolve_target
from tui_lab.evaluation.score_cache import LoadConfig, ScoreFile
from tui_lab.retention import results
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Suite
from tui_lab.runs.folder import Run
from tui_lab.runs.references import Target
from tui_lab.runs.state import Watcher

FOLDER = "retention"
ACQUISITION = "acquisition.json"
#: Names that a suite's file may not take.
_TAKEN = {"acquisition", "strength"}
VERSIONED = ("torch", "transformers", "peft")
#: Items that the job's answer holds: about 10 MB.
MOST_ITEMS_TOLD = 10_000
#: Seconds between two reports of progress.
INTERVAL_S = 0.2

Say = Callable[..., None]  # text, done, total


# --- the whole ----------------------------------------------------------------------------------------


def evaluate(
    request: EvaluationRequest, say: Say = lambda *_: None, cancelled: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """``suites``: the result of every suite, in the order asked for; ``acquisition``: of a run, what it
    learned (None where that is not known). Raises Cancelled, and LabError in one sentence."""
    loaded = [registry.load(name, request.limit) for name in request.suites]
    subject = resolve_target(request)
    return _Evaluation(request, subject, loaded, say, cancelled).run()


class _Evaluation:
    def __init__(
        self,
        request: EvaluationRequest,
        subject: EvaluationTarget,
        loaded: list[Suite],
        say: Say,
        cancelled: Callable[[], bool],
    ) -> None:
        self._request, self._subject, self._suites = request, subject, loaded
        self._say, self._cancelled = say, cancelled
        self._model: Any = None
        self._tokenizer: Any = None
        self._seconds: dict[str, float] = {}
        self._warnings: dict[str, list[str]] = {suite.sha256: [] for suite in loaded}
        self._notes: list[str] = []
        self._told = 0.0
        self._is_tuned = False

    def run(self) -> dict[str, Any]:
        """Everything before the adapter is put on, then everything after."""
        subject = self._subject
        before = [self._scores(suite, "base") for suite in self._suites]
        after: list[list[ItemScore]] | None = None
        if subject.tuned is not None:
            task, base_answers = self._acquisition_before()
            after = [self._scores(suite, "tuned") for suite in self._suites]
            if task is not None:
                self._report("answering held-out rows with the tuned model")
                tuned_answers = task.answers(self._tuned_model())
                self._store(
                    ACQUISITION, records.jsonable(self._marked(task.result(base_answers, tuned_answers)))
                )
        found = []
        for at, suite in enumerate(self._suites):
            result = results.build(
                suite,
                self._facts(suite),
                before[at],
                after[at] if after is not None else None,
                subject.threshold,
                [*self._warnings[suite.sha256], *self._notes],
            )
            self._keep(result)
            found.append(result)
        self._forget_parts()
        return {"suites": found, "acquisition": self._acquisition()}

    # ------------------------------------------------------------------ models

    def _base_model(self) -> Any:
        """The base, loaded when it is first needed."""
        if self._model is None:
            self._model = self._load(self._subject.base)
        return self._model

    def _tuned_model(self) -> Any:
        """What was tuned: the loaded base with the adapter on it, or other weights in the base's place."""
        if self._is_tuned:
            return self._model
        target = self._subject.tuned
        assert target is not None
        if target.adapter is None:
            self._free()
            self._model = self._load(target)
        else:
            from tui_lab.decoding.adapters import load_peft_model

            self._report(f"loading {sanitize(self._subject.name)}")
            self._model = load_peft_model(self._base_model(), target.adapter, self._subject.name)
        self._is_tuned = True
        return self._model

    def _free(self) -> None:
        """Two whole models need not fit the memory: the first goes before the second comes."""
        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, target: Target) -> Any:
        from tui_lab.models import catalog
        from tui_lab.models.load_progress import report_load_progress
        from tui_lab.models.loading import ModelSource, Precision, load_model, quiet_libraries

        name = sanitize(self._subject.label if target is self._subject.base else self._subject.name)
        self._report(f"loading {name}")
        with quiet_libraries(), report_load_progress(lambda text: self._report(text), name, target.location):
            how = self._subject.how
            model = load_model(
                ModelSource(target.location, target.revision),
                Precision(how.dtype, four_bit=how.quantization == "nf4"),
            )
        catalog.check_size(target.location, model.num_parameters(), self._request.allow_large)
        return model

    def _tokenizer_of_base(self) -> Any:
        """The base's own, for both: the same items are the same tokens."""
        if self._tokenizer is None:
            from tui_lab.data.templates import load_tokenizer

            base = self._subject.base
            self._tokenizer = load_tokenizer(base.location, base.revision or None)
        return self._tokenizer

    # ------------------------------------------------------------------ suites

    def _scores(self, suite: Suite, side: str) -> list[ItemScore]:
        """The scores of a suite, those on disk and the rest, which is written as it comes."""
        subject = self._subject
        tuned = side == "tuned"
        model = subject.tuned_identity if tuned else subject.base_identity
        if not tuned and not Path(subject.base.location).is_dir():
            self._base_model()  # which commit of the hub it is, is known once it is here
            model = subject.base_identity
        place = self._parts_folder() if tuned else score_cache.folder()
        with ScoreFile(place, model, subject.how, suite) as kept:
            if not tuned and not kept.done:
                self._say_of_others(suite, kept.others())
            if kept.complete:
                self._report(f"{suite.name}: {side} is known", len(suite.items), len(suite.items), True)
                return [kept.done[item.id] for item in suite.items]
            return self._score(suite, side, kept, self._tuned_model() if tuned else self._base_model())

    def _score(self, suite: Suite, side: str, kept: ScoreFile, model: Any) -> list[ItemScore]:
        from tui_lab.models.loading import quiet_libraries
        from tui_lab.retention.scoring.score import score

        total, was = len(suite.items), len(kept.done)
        already = f", {was:,} of them before" if was else ""
        began = time.monotonic()

        def ready(one: ItemScore) -> None:
            kept.add(one)
            self._report(
                f"{suite.name}: {side}, {len(kept.done):,} of {total:,} items{already}", len(kept.done), total
            )

        self._report(f"{suite.name}: {side}{already}", was, total, True)
        try:
            with quiet_libraries():
                return score(
                    model,
                    self._tokenizer_of_base(),
                    suite,
                    done=dict(kept.done),
                    on_score=ready,
                    on_warning=self._warn_once(suite),
                    cancelled=self._cancelled,
                )
        finally:
            spent = self._seconds.get(suite.sha256, 0.0)
            self._seconds[suite.sha256] = spent + time.monotonic() - began

    def _warn_once(self, suite: Suite) -> Callable[[str], None]:
        """Collects warnings for the suite's result; base and tuned model often give the same one."""
        warnings = self._warnings[suite.sha256]
        return lambda text: None if text in warnings else warnings.append(text)

    def _say_of_others(self, suite: Suite, others: list[LoadConfig]) -> None:
        if others:
            self._warnings[suite.sha256].append(
                f"the baseline of {suite.name} that was kept is of the model {others[0]}; this evaluation is "
                f"{self._subject.how}, so the base was measured again"
            )

    def _facts(self, suite: Suite) -> results.MeasurementInfo:
        how, subject = self._subject.how, self._subject
        return results.MeasurementInfo(
            model=sanitize(subject.label),
            revision=subject.base.revision,
            quantization=how.quantization,
            dtype=how.dtype,
            adapter=sanitize(subject.name) if subject.tuned is not None else None,
            versions={"tui_lab": __version__, **{name: version(name) for name in VERSIONED}},
            seconds=round(self._seconds.get(suite.sha256, 0.0), 3),
        )

    # ------------------------------------------------------------------ acquisition

    def _acquisition_before(self) -> tuple[Any, list[str]]:
        """The run's held-out rows with the base's answers; None where there are none to ask."""
        run = self._subject.run
        if run is None or not self._request.acquisition or self._acquired(run):
            return None, []
        from tui_lab.data.templates import load_tokenizer
        from tui_lab.evaluation.acquisition import HeldOutTask

        base = self._subject.base
        try:
            state = Watcher(run).read_all()
            task = HeldOutTask(run.recipe(), state, load_tokenizer(base.location, base.revision or None))
        except LabError as error:
            self._notes.append(f"what the run learned could not be measured: {error}")
            return None, []
        if not task.examples:
            return None, []
        self._report("answering held-out rows with the base")
        return task, task.answers(self._base_model())

    def _acquired(self, run: Run) -> bool:
        return (_object(run.path / FOLDER / ACQUISITION) or {}).get("of") == self._mark()

    def _acquisition(self) -> dict[str, Any] | None:
        run = self._subject.run
        found = _object(run.path / FOLDER / ACQUISITION) if run is not None else None
        return found if found is not None and found.get("of") == self._mark() else None

    def _mark(self) -> str:
        """Of which weights, loaded how, an acquisition was measured."""
        return f"{self._subject.tuned_identity} {self._subject.how}"

    def _marked(self, result: dict[str, Any]) -> dict[str, Any]:
        return {**result, "of": self._mark()}

    # ------------------------------------------------------------------ what is kept

    def _parts_folder(self) -> Path:
        """Where scores of what was tuned lie until the evaluation is whole."""
        run = self._subject.run
        if run is None:
            return score_cache.folder().parent / "evaluations"
        self._own_folder(run)
        return run.path / FOLDER / "parts"

    def _own_folder(self, run: Run) -> Path:
        place = run.path / FOLDER
        try:
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None
        return place

    def _keep(self, result: SuiteResult) -> None:
        """Stores a run's result; a part of a suite does not take the place of more of it."""
        run = self._subject.run
        if run is None:
            return
        name = f"{file_stem(result.suite)}.json"
        if self._request.limit:
            try:
                before = results.read(run.path / FOLDER / name)
                if before.version == result.version and before.n > result.n:
                    return
            except LabError:
                pass  # there is none yet, or it is damaged
        self._store(name, result)

    def _store(self, name: str, value: SuiteResult | dict[str, Any]) -> None:
        run = self._subject.run
        assert run is not None
        place = self._own_folder(run)
        try:
            files.write_atomically(place / name, results.text_of(value))
        except OSError as error:
            raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None

    def _forget_parts(self) -> None:
        """The parts are in the results now."""
        if self._subject.tuned is None:
            return
        for suite in self._suites:
            scores = ScoreFile(self._parts_folder(), self._subject.tuned_identity, self._subject.how, suite)
            scores.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other parts wait in it
            self._parts_folder().rmdir()

    def _report(
        self, text: str, done: int | None = None, total: int | None = None, now: bool = False
    ) -> None:
        """Progress, a few times a second at most while items are counted."""
        clock = time.monotonic()
        if done is not None and not now and done != total and clock - self._told < INTERVAL_S:
            return
        self._told = clock
        self._say(text, done, total)


def file_stem(suite: str) -> str:
    """A suite's name as the name of a file."""
    stem = re.sub(r"[^A-Za-z0-9._@-]+", "-", suite).strip("-.")[:80] or "suite"
    return f"{stem}-suite" if stem in _TAKEN else stem


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file; None for whatever else is there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def handle(value: dict[str, Any], progress: job_protocol.OnProgress) -> dict[str, Any]:
    """The job: one request, one result. Items of whole benchmarks, which no pipe takes in one line, stay in
    the run's folder."""
    found = evaluate(request_of(value), progress)
    if sum(len(result.items) for result in found["suites"]) > MOST_ITEMS_TOLD:
        found["suites"] = [msgspec.structs.replace(result, items=[]) for result in found["suites"]]
    return found


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle))
