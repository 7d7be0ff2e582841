"""The strength sweep of a run, as a job: what the new task gains and what the base keeps at each strength,
the strength that is recommended, and an adapter or model saved at one. Speaks the job protocol on stdin and
stdout. Every item's score is written as it is ready, so that a sweep that was interrupted goes on where it
stopped, and strengths that are added later cost only themselves. Strength 0 comes first: it is the base."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tui_lab.core import files, job_protocol, records
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import score_cache
from tui_lab.models import catalog
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.state import Watcher

VERSION = 1
FOLDER, RESULT = "retention", "strength.json"
#: In that folder: what was found at single strengths, so that a sweep goes on where it stopped.
PARTS, MARKS, LOCK = "strength", "marks.json", "lock"
SUITE = "everyday"
MOST_STRENGTHS = 32
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class SweepRequest:
    """What is asked. ``save`` alone saves; otherwise the strengths are swept."""

    run: str
    suite: str = SUITE
    strengths: tuple[float, ...] = ()
    keep: float = 0.0
    limit: int = 0
    save: float | None = None
    runs_dir: str = ""


def read_request(fields: dict[str, Any]) -> SweepRequest:
    """The request out of JSON. Raises LabError."""
    from tui_lab.retention import strength_grid as strength

    def number(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise LabError(f"{name} of a strength sweep is a number, not {sanitize(repr(value))[:80]}")
        if not math.isfinite(value):
            raise LabError(f"{name} of a strength sweep is a finite number, not {value}")
        return float(value)

    strengths = fields.get("strengths") or list(strength.STRENGTHS)
    if not isinstance(strengths, list) or len(strengths) > MOST_STRENGTHS:
        raise LabError(f"strengths are a list of at most {MOST_STRENGTHS} numbers")
    # the base comes first: everything is compared with it
    wanted = sorted({0.0, *(strength.check(number("a strength", value)) for value in strengths)})
    keep = number("keep", fields.get("keep", strength.KEEP))
    if not 0 < keep <= 1:
        raise LabError(f"keep is the share of retention that must stay, above 0 and at most 1, not {keep:g}")
    save = fields.get("save")
    return SweepRequest(
        run=str(fields.get("run") or ""),
        suite=str(fields.get("suite") or SUITE),
        strengths=tuple(wanted),
        keep=keep,
        limit=max(0, int(number("limit", fields.get("limit") or 0))),
        save=None if save is None else strength.check(number("save", save)),
        runs_dir=str(fields.get("runs_dir") or ""),
    )


def handle(fields: dict[str, Any], progress: job_protocol.OnProgress) -> dict[str, Any]:
    """Answers one request: sweeps, or saves. Raises LabError."""
    request = read_request(fields)
    if not request.run:
        raise LabError("no run was named: the strength that is changed is that of what a run saved")
    run = folder.open_run(request.run, Path(request.runs_dir) if request.runs_dir else None)
    subject = SweepTarget.of(run)
    with locked(run):
        try:
            if request.save is not None:
                return {"saved": save(subject, request.save)}
            return Sweep(subject, request, progress).run()
        except OSError as error:
            what = error.strerror or error
            raise LabError(f"run {run.id}: its folder cannot be read or written ({what})") from None


@contextlib.contextmanager
def locked(run: folder.Run) -> Iterator[None]:
    """One sweep of a run at a time. Raises LabError."""
    place = run.path / FOLDER / PARTS
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        file = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LabError(f"run {run.id}: its folder cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise LabError(f"run {run.id}: its strength is being swept already; wait for it or end it") from None
    try:
        yield
    finally:
        os.close(file)


# --- what a run left ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SweepTarget:
    """What a run saved, and the base that it goes with."""

    run: folder.Run
    recipe: Recipe
    path: Path  # the adapter's folder or the tuned model's
    base: str  # a folder or hub id
    whole: bool  # whole weights rather than an adapter

    @classmethod
    def of(cls, run: folder.Run) -> SweepTarget:
        """Raises LabError with the reason when there is nothing whose strength could be changed."""
        if folder.is_locked(run):
            raise LabError(f"run {run.id} still goes on: its strength is swept when it has ended")
        recipe = run.recipe()
        base = catalog.find(recipe.model, recipe.allow_large).loadable
        if (run.adapter_path / _CONFIG).is_file():
            if reason := refused(run.adapter_path, recipe):
                raise LabError(f"run {run.id}: the strength of its adapter cannot be changed: {reason}")
            return cls(run, recipe, run.adapter_path, base, False)
        if (run.model_path / "config.json").is_file():
            return cls(run, recipe, run.model_path, base, True)
        raise LabError(f"run {run.id} has saved no adapter and no model yet; let it finish or resume it")

    @property
    def four_bit(self) -> bool:
        """Whether the base is loaded in 4 bits, as the run had it."""
        return self.recipe.quantization == "nf4" and not self.whole

    def identity(self, strength: float) -> str:
        """What is scored at a strength; at 0 that is the base, whose scores are shared with evaluations."""
        revision = self.recipe.revision
        base = score_cache.identity(self.base, revision)
        if not strength:
            return base
        tuned = score_cache.identity(
            *((str(self.path), "") if self.whole else (self.base, revision, self.path))
        )
        return f"{base} to {tuned} at {strength:.6f}"

    def saved_as(self, strength: float) -> str:
        """The folder of what is saved at a strength."""
        digits = f"{strength:.2f}"
        number = digits if float(digits) == strength else f"{strength:g}"
        return f"{'model' if self.whole else 'adapter'}-strength-{number}"

    def saved_dtype(self) -> str:
        """The precision that whole weights were saved in; "auto" where their configuration names none."""
        from tui_lab.models.loading import DTYPES

        try:
            config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
            found = str(config.get("dtype") or config.get("torch_dtype"))
        except (OSError, ValueError, AttributeError):
            return "auto"
        return found if found in DTYPES else "auto"


def refused(adapter: Path, recipe: Recipe) -> str:
    """Why the strength of a run's adapter cannot be changed; "" when it can."""
    from tui_lab.retention.strength_grid import refusal

    try:
        config = json.loads((adapter / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"its {_CONFIG} cannot be read"
    if not (adapter / _WEIGHTS).is_file():
        return f"it has no {_WEIGHTS}, and only safetensors are read"
    began = recipe.init_lora_weights if recipe.method == "lora" else None
    return refusal(config if isinstance(config, dict) else {}, began)


# --- saving -------------------------------------------------------------------------------------------


def save(subject: SweepTarget, strength: float) -> str:
    """Saves what the run left at a strength, whole or not at all; the folder's name in the run's."""
    from tui_lab.retention.strength_grid import check

    name = subject.saved_as(check(strength))
    path = subject.run.path / name
    partial = path.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(mode=0o700)
        write(subject, strength, partial)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except OSError as error:
        what = error.strerror or error
        raise LabError(f"{name} cannot be saved in run {subject.run.id}: {what}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return name


def write(subject: SweepTarget, strength: float, target: Path) -> None:
    """The weights at a strength, and everything that is not weights as it was."""
    from safetensors.torch import load_file, save_file

    from tui_lab.retention.strength import scaled_adapter

    if subject.whole:
        loaded = Loaded(subject, subject.saved_dtype())
        loaded.scale.set(strength)
        loaded.model.save_pretrained(target)
    for file in subject.path.iterdir():
        weights = file.suffix == ".safetensors" or file.name.endswith(".index.json")
        if file.is_file() and not weights and not (target / file.name).exists():
            shutil.copyfile(file, target / file.name)
    if not subject.whole:
        tensors = scaled_adapter(load_file(subject.path / _WEIGHTS), strength)
        save_file(tensors, target / _WEIGHTS, metadata={"format": "pt"})


# --- measuring ----------------------------------------------------------------------------------------


class Loaded:
    """The model that the run made, and the scale of its adapter."""

    def __init__(self, subject: SweepTarget, dtype: str = "auto") -> None:
        from tui_lab.data import templates
        from tui_lab.decoding.adapters import load_peft_model
        from tui_lab.models.loading import ModelSource, Precision, best_device, load_model, quiet_libraries
        from tui_lab.retention.strength import AdapterScale

        revision = subject.recipe.revision
        with quiet_libraries():
            base = load_model(
                ModelSource(subject.base, revision), Precision(dtype, four_bit=subject.four_bit)
            )
            self.model: Any
            if subject.whole:
                self.model = load_model(ModelSource(str(subject.path)), Precision(dtype))
                self.scale = AdapterScale(self.model, dict(base.named_parameters()))
            else:
                self.model = load_peft_model(base, subject.path, subject.run.id)
                self.scale = AdapterScale(self.model)
            # the base's own, as in evaluations: the same items are the same tokens
            self.tokenizer = templates.load_tokenizer(subject.base, revision or None)
        found = str(base.dtype).removeprefix("torch.")
        self.how = score_cache.LoadConfig("nf4" if subject.four_bit else "none", found, best_device())


class NewTask:
    """How well the held-out rows of the new task are answered."""

    def __init__(self, subject: SweepTarget) -> None:
        from tui_lab.data import templates
        from tui_lab.evaluation.acquisition import HeldOutTask

        recipe = subject.recipe
        self.rows, self.metric, self.problem = 0, "", ""
        self._task: HeldOutTask | None = None
        try:
            tokenizer = templates.load_tokenizer(subject.base, recipe.revision or None)
            task = HeldOutTask(recipe, Watcher(subject.run).read_all(), tokenizer)
        except LabError as error:
            self.problem = f"the new task is not measured: {error}"
            return
        if not task.examples:
            self.problem = "the new task is not measured: the run holds no rows out to be answered"
            return
        # a continued text is never word for word the same
        near = "rouge_l" if any(example.text is not None for example in task.examples) else "exact"
        self._task, self.rows, self.metric = task, len(task.examples), task.scorer or near

    def marks(self, model: Any) -> list[float]:
        """The mark of each answer, 0 to 1; none where there is nothing to answer."""
        from tui_lab.data import scoring
        from tui_lab.data.expected import as_row

        if self._task is None:
            return []
        answers, rows = self._task.answers(model), [as_row(example) for example in self._task.examples]
        if self._task.scorer:
            return scoring.scores(self._task.scorer, answers, rows)
        return [float(mark) for mark in scoring.nearness(answers, rows)[self.metric]]


class Sweep:
    """Measures every strength that is not measured yet, and writes the curve after each."""

    def __init__(
        self, subject: SweepTarget, request: SweepRequest, progress: job_protocol.OnProgress
    ) -> None:
        from tui_lab.retention.suites import registry

        self._subject, self._request, self._progress = subject, request, progress
        self._suite = registry.load(request.suite, request.limit)
        self._place = subject.run.path / FOLDER
        self._scores: dict[float, list[Any]] = {}
        self._marks: dict[float, list[float]] = {}
        self._about: dict[str, Any] = {}
        self._before: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """The whole sweep; what ``strength.json`` holds."""
        self._progress("loading the model")
        loaded, task = Loaded(self._subject), NewTask(self._subject)
        kept = KeptMarks(self._place / PARTS / MARKS, f"{loaded.how} {task.metric} {task.rows}")
        self._about = self._facts(task, loaded.how)
        self._before = self._points_before()
        for strength in self._request.strengths:
            loaded.scale.set(strength)
            self._scores[strength] = self._items(loaded, strength)
            identity = self._subject.identity(strength)
            marks = kept.read(identity)
            if len(marks) != task.rows:
                self._progress(f"strength {strength:.2f}: answers to {task.rows} held-out rows")
                marks = task.marks(loaded.model)
                kept.add(identity, marks)
            self._marks[strength] = marks
            result = self._write(task)
        return result

    def _items(self, loaded: Loaded, strength: float) -> list[Any]:
        """The scores of the suite at a strength, those on disk and the rest, written as they come."""
        from tui_lab.models.loading import quiet_libraries
        from tui_lab.retention.scoring import score as scoring

        items = self._suite.items
        place = self._place / PARTS if strength else score_cache.folder()
        with score_cache.ScoreFile(place, self._subject.identity(strength), loaded.how, self._suite) as kept:

            def ready(score: Any) -> None:
                kept.add(score)
                self._say(strength, len(kept.done))

            if not kept.complete:
                with quiet_libraries():
                    scoring.score(
                        loaded.model, loaded.tokenizer, self._suite, done=dict(kept.done), on_score=ready
                    )
            return [kept.done[item.id] for item in items]

    def _say(self, strength: float, done: int) -> None:
        at, each = self._request.strengths.index(strength), len(self._suite.items)
        if done % 16 == 0 or done == each:
            total = each * len(self._request.strengths)
            self._progress(f"strength {strength:.2f}: items of {self._suite.name}", at * each + done, total)

    def _facts(self, task: NewTask, how: score_cache.LoadConfig) -> dict[str, Any]:
        """What was measured, and how; points that agree in it belong to one curve."""
        return {
            "v": VERSION,
            "suite": self._suite.name,
            "version": self._suite.version,
            "sha256": self._suite.sha256,
            "n": len(self._suite.items),
            "model": sanitize(self._subject.recipe.model),
            "weights": self._subject.identity(1.0),
            "quantization": how.quantization,
            "dtype": how.dtype,
            "acquisition_metric": task.metric,
            "acquisition_rows": task.rows,
        }

    def _points_before(self) -> list[dict[str, Any]]:
        """The points of an earlier sweep of the same thing at strengths that are not asked for now."""
        try:
            found = json.loads((self._place / RESULT).read_text(encoding="utf-8"))
            if any(found.get(name) != value for name, value in self._about.items()):
                return []
            asked = set(self._request.strengths)
            points = [point for point in found["points"] if float(point["strength"]) not in asked]
            return [point for point in points if _is_whole(point)]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return []

    def _write(self, task: NewTask) -> dict[str, Any]:
        """The curve so far, in the run's folder, where panes see it."""
        from tui_lab.retention import results
        from tui_lab.retention.strength_grid import Point, recommend

        points = [self._point(strength) for strength in self._scores]
        points = sorted([*points, *self._before], key=lambda point: float(point["strength"]))
        best, reason = recommend(
            [
                Point(
                    p["strength"], float(p["acquisition"]), float(p["retention"]["value"]), str(p["verdict"])
                )
                for p in points
            ],
            self._request.keep,
        )
        result: dict[str, Any] = records.jsonable(
            {
                **self._about,
                "keep": self._request.keep,
                "points": points,
                "recommended": {"strength": best, "reason": reason},
                "warnings": [*self._suite.warnings, *([task.problem] if task.problem else [])],
            }
        )
        files.write_atomically(self._place / RESULT, results.text_of(result))
        return result

    def _point(self, strength: float) -> dict[str, Any]:
        from tui_lab.retention import results

        threshold = self._subject.recipe.retention_threshold
        compared = results.compare(self._suite, self._scores[0.0], self._scores[strength], threshold)
        gained = acquisition(self._marks[strength])
        return {
            "strength": strength,
            "acquisition": gained["value"],
            "acquisition_interval": gained,
            "retention": asdict(compared.headline),
            "verdict": compared.verdict,
            "pre": compared.pre,
            "post": compared.post,
            "b": compared.b,
            "c": compared.c,
            "mcnemar_p": compared.mcnemar_p,
        }


def _is_whole(point: dict[str, Any]) -> bool:
    """Whether a point that was read has what is drawn and compared."""
    float(point["acquisition"])
    return str(point["verdict"]) != "" and all(
        float(point["retention"][name]) is not None for name in ("value", "low", "high")
    )


def acquisition(marks: Sequence[float]) -> dict[str, float]:
    """The mean mark with its interval: Wilson's where marks are right or wrong, else Student's."""
    from tui_lab.retention import statistics

    if set(marks) <= {0.0, 1.0}:
        return asdict(statistics.wilson(sum(marks), len(marks)))
    return asdict(statistics.mean_interval(marks))


class KeptMarks:
    """The marks of answers at strengths that were swept before, in one file; a damaged one is begun again.
    ``how`` is everything besides the weights that changes a mark."""

    def __init__(self, path: Path, how: str) -> None:
        self._path, self._how = path, how
        self._kept: dict[str, list[float]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            found = json.loads(path.read_text(encoding="utf-8"))
            self._kept = {str(key): [float(mark) for mark in marks] for key, marks in found.items()}

    def read(self, identity: str) -> list[float]:
        """The marks of what is scored; none while there are none."""
        return self._kept.get(f"{self._how}: {identity}", [])

    def add(self, identity: str, marks: list[float]) -> None:
        """Keeps marks, on disk too."""
        self._kept[f"{self._how}: {identity}"] = marks
        files.write_atomically(self._path, json.dumps(self._kept))


if __name__ == "__main__":
    sys.exit(job_protocol.serve(handle))
