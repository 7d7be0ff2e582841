"""The content of a report as one typed record, without any formatting. It is read from the run's folder
alone (recipe, event log, results of retention), whatever state the run is in: a run in progress, a crashed
one, or one with damaged files is reported as such. :mod:`tui_lab.report.document` turns it into text."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import msgspec

from tui_lab import __version__
from tui_lab.core.errors import LabError
from tui_lab.core.format import finite
from tui_lab.forecast import cost
from tui_lab.recipes.presets import DEFAULT_PRESET, make_recipe
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.stored import HeldOutItem, StoredResults, read_results
from tui_lab.runs import cost_so_far, searches, stage_matrix, wording
from tui_lab.runs.event_parts import JsonValue, ScoredExample
from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.flags import flags
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import RunEvent, SampleEvent, kind_of
from tui_lab.runs.searches import SearchResult
from tui_lab.runs.stage_matrix import StageTable
from tui_lab.runs.state import ENDED, RunState, Watcher

#: Memory labels of the run's own use, the nearest to its peak first.
OWN_PEAKS = ("cuda_peak", "cuda_reserved", "cuda_allocated", "resident")
#: The number of examples, answers and log lines that are shown.
EXAMPLES_SHOWN, ANSWERS_SHOWN, LOG_LINES = 8, 6, 8
#: Kinds of events that make up the course of a run.
COURSE = ("resumed", "recipe_changed", "command", "paused", "continued", "armed")


@dataclass(frozen=True)
class MemorySummary:
    """Bytes. ``measured`` is the run's own peak, of the memory label ``label``; ``parts``, ``total``, ``low``
    and ``high`` are the forecast. None is unknown. ``device_peaks``: by GPU, of all processes."""

    parts: dict[str, float]
    total: float | None
    low: float | None
    high: float | None
    device: str
    label: str
    measured: float | None
    peaks: dict[str, float]
    device_peaks: dict[str, float]

    @property
    def difference(self) -> float | None:
        """Measured minus forecast, as a share of the forecast."""
        return None if not self.total or self.measured is None else self.measured / self.total - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured peak is within the forecast's bounds."""
        if self.measured is None or self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class CourseEntry:
    """An event of the run's course; ``t``: seconds since 1970."""

    t: float
    kind: str
    text: str


@dataclass(frozen=True)
class SamplePair:
    """The first and, if there are several, the newest sample of a prompt."""

    prompt: str
    before: SampleEvent
    after: SampleEvent | None


@dataclass(frozen=True)
class ExamplePair:
    """A held-out row with its scored answers at the start and at the end."""

    prompt: str
    before: ScoredExample | None
    after: ScoredExample | None


@dataclass(frozen=True)
class ReportContent:
    """``status`` is one of :data:`tui_lab.runs.state.STATES`; ``changed`` are recipe fields that differ from
    the preset ``base_preset``; ``log`` is the state of the run by its event log."""

    run: str
    folder: str
    status: str
    log_tail: list[str]
    written_at: float  # seconds since 1970
    recipe: Recipe | None
    base_preset: str
    changed: dict[str, JsonValue]
    command: str
    threshold: float | None
    measured: StoredResults
    flags: list[Flag]
    spent: cost_so_far.CostSoFar
    prices: cost.Prices
    problems: list[str]
    log: RunState
    stages: StageTable | None  # of the line of runs that ends with this one
    search: SearchResult | None = None  # the search that chose this run

    @property
    def message(self) -> str:
        """The message of the run's end."""
        return self.log.end.message if self.log.end and self.status in ENDED else ""

    @property
    def best_validation(self) -> tuple[int, float] | None:
        """Step and loss of the best validation."""
        curve = self.log.validation
        known = [
            (loss, step) for step, loss in zip(curve.steps, curve.values, strict=True) if math.isfinite(loss)
        ]
        return (min(known)[1], min(known)[0]) if known else None

    @property
    def course(self) -> list[CourseEntry]:
        """What users and accidents did to the run."""
        return [
            CourseEntry(event.t, kind_of(event), wording.sentence(event))
            for event in self.log.feed
            if kind_of(event) in COURSE
        ]

    @property
    def samples(self) -> list[SamplePair]:
        """In the order of each prompt's first sample."""
        prompts: dict[str, list[SampleEvent]] = {}
        for sample in self.log.samples:
            prompts.setdefault(sample.prompt, []).append(sample)
        return [
            SamplePair(prompt, found[0], found[-1] if len(found) > 1 else None)
            for prompt, found in list(prompts.items())[:EXAMPLES_SHOWN]
        ]

    @property
    def examples(self) -> list[ExamplePair]:
        """The examples of the newest scores at the start and at the end."""
        sides: dict[str, dict[str, ScoredExample]] = {"start": {}, "end": {}}
        for score in self.log.scores:
            sides[score.when] = {example.prompt: example for example in score.examples}
        before, after = sides["start"], sides["end"]
        prompts = list(dict.fromkeys([*before, *after]))[:EXAMPLES_SHOWN]
        return [ExamplePair(prompt, before.get(prompt), after.get(prompt)) for prompt in prompts]

    @property
    def answers(self) -> list[HeldOutItem]:
        """Answers of base and tuned model, measured after the run."""
        return self.measured.acquisition.items[:ANSWERS_SHOWN]

    @property
    def memory(self) -> MemorySummary:
        """Measured memory and its forecast."""
        return _memory(self.log)


def read(run: Run, now: float | None = None) -> ReportContent:
    """The content of a run's report as its folder is now. Never raises for damaged or missing files."""
    watcher = Watcher(run)
    log, recipe, status = watcher.read_all(), watcher.recipe, watcher.status
    now = time.time() if now is None else now
    measured = read_results(run.path)
    problems = [text for text in (watcher.problem, watcher.damage) if text] + measured.problems
    try:
        prices = cost.prices()
    except LabError as error:
        problems.append(str(error))
        prices = cost.Prices()
    preset, changed, command = repeat(recipe) if recipe else ("", {}, "")
    threshold = finite(log.probe_plan.threshold) if log.probe_plan else None
    if threshold is None and recipe:
        threshold = recipe.retention_threshold
    return ReportContent(
        run=run.id,
        folder=str(run.path),
        status=status,
        log_tail=run.log_tail(LOG_LINES) if status in ("failed", "crashed") else [],
        written_at=now,
        recipe=recipe,
        base_preset=preset,
        changed=changed,
        command=command,
        threshold=threshold,
        measured=measured,
        flags=flags(log),
        spent=cost_so_far.cost_so_far(log, status, prices, now),
        prices=prices,
        problems=problems,
        log=log,
        stages=stage_matrix.table_of(run),
        search=searches.of_run(run),
    )


# --------------------------------------------------------------------------------------------------
# parts


def _memory(state: RunState) -> MemorySummary:
    peaks = {label: peak for label, peak in state.peak_memory.items() if math.isfinite(peak)}
    for label, peak in state.end.peak_memory.items() if state.end else ():
        if math.isfinite(peak):  # the process measures more often than once per step
            peaks[label] = max(peak, peaks.get(label, 0.0))
    if (resident := finite(state.telemetry.resident.peak)) is not None:
        peaks["resident"] = max(resident, peaks.get("resident", 0.0))
    label = next((label for label in OWN_PEAKS if label in peaks), "")
    forecast = state.forecast
    return MemorySummary(
        parts={k: v for k, v in forecast.parts.items() if math.isfinite(v)} if forecast else {},
        total=finite(forecast.total) if forecast else None,
        low=finite(forecast.low) if forecast else None,
        high=finite(forecast.high) if forecast else None,
        device=forecast.device if forecast else "",
        label=label,
        measured=peaks.get(label),
        peaks=peaks,
        device_peaks={
            f"GPU {'?' if gpu.now.index is None else gpu.now.index}, {gpu.now.name or key}": gpu.used.peak
            for key, gpu in state.telemetry.gpus.items()
            if math.isfinite(gpu.used.peak)
        },
    )


def flips(result: SuiteResult) -> tuple[int, int]:
    """The items of a suite that were lost and gained."""
    return sum(item.is_lost for item in result.items), sum(item.is_gained for item in result.items)


def repeat(recipe: Recipe) -> tuple[str, dict[str, JsonValue], str]:
    """The preset that the command starts from, the fields that differ from it, and the ``tui-lab train``
    command that makes the same recipe. Where the preset is gone or has changed, the command is longer."""
    for preset in dict.fromkeys((recipe.preset, DEFAULT_PRESET)):
        large = {"allow_large": True} if recipe.allow_large else {}
        try:
            base = make_recipe(preset, model=recipe.model, data=recipe.data, **large)
        except LabError:
            continue
        standard = base.model_dump()
        changed = {
            key: value
            for key, value in recipe.model_dump().items()
            if value != standard[key] and key not in ("model", "data", "preset")
        }
        command = ["tui-lab", "train", "--model", recipe.model, "--preset", preset, "--data", recipe.data]
        command += ["--allow-large"] if recipe.allow_large else []
        for key, value in changed.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ["--set", f"{key}={text}"]
        return preset, changed, shlex.join(command)
    return "", {}, ""


def unknown(report: ReportContent) -> Iterator[str]:
    """Sentences on what this report does not know, and why."""
    recipe, memory, spent = report.recipe, report.memory, report.spent
    if report.status not in ENDED:
        yield "How it ends: the run had not ended when this was written."
    elif report.status != "finished":
        ended = {"stopped": "was stopped", "failed": "failed", "crashed": "crashed"}[report.status]
        yield f"What the whole plan would have given: the run {ended}."
    if not recipe:
        yield "The recipe: its file cannot be read, so the run cannot be repeated from this report."
    elif recipe.model != "pocket" and not recipe.revision:
        yield "The revision of the model: none was pinned, so the newest of that day was used."
    if not (report.log.started and report.log.started.versions):
        yield "Versions and device: the run ended before it recorded them."
    if memory.total is None:
        yield "Memory against a forecast: the log of this run has no forecast."
    elif memory.measured is None:
        yield "The peak of memory: it was not measured."
    if len(report.log.scores) < 2:
        yield "Acquisition: it was not measured both before and after."
    if not report.measured.suites:
        yield (
            "Retention on whole suites: none was measured after the run (`tui-lab retention` measures it, "
            f"then `tui-lab report {shlex.quote(report.run)}` writes this report again)."
        )
    if not report.measured.strength.points:
        yield "Acquisition and retention at other strengths: no curve was measured."
    if spent.energy_j is None:
        yield "Energy and CO₂: they were not metered (no NVIDIA GPU, or its driver does not report them)."
    if spent.money is None:
        yield f"Money: no price per hour is set ({cost.PRICE})."
    if spent.mfu is None:
        unknown_parts = "the operations per token or the rate of the device are not known"
        yield f"MFU: {spent.peak_of or unknown_parts}."
    yield "The spread over seeds: this is one run with one seed."


# --------------------------------------------------------------------------------------------------
# for programs


def as_json(report: ReportContent) -> dict[str, Any]:
    """The content for ``-o json``, without the curves, which are in the run's event log."""
    log, started, measured, memory = report.log, report.log.started, report.measured, report.memory
    train, validation, best = log.loss.values, log.validation.values, report.best_validation
    suites = measured.suites.items()
    return {
        "run": report.run,
        "folder": report.folder,
        "state": report.status,
        "message": report.message,
        "started_at": finite(log.started_at) or None,
        "updated_at": finite(log.updated_at) or None,
        "last_words": report.log_tail,
        "written_at": report.written_at,
        "written_by": __version__,
        "recipe": report.recipe.model_dump() if report.recipe else {},
        "changed": report.changed,
        "base_preset": report.base_preset,
        "command": report.command,
        "choices": _json(log.choices),
        "warnings": log.warnings,
        **{
            name: _json(event) or {}
            for name, event in (("data", log.data), ("model", log.model), ("plan", log.plan))
        },
        "versions": started.versions if started else {},
        "device": _json(started.device if started else None) or {},
        "threads": started.threads if started else None,
        "attempts": log.attempt,
        "course": _json(report.course),
        "step": log.step,
        "total_steps": log.total_steps,
        "losses": {
            "train_first": finite(train[0]) if train else None,
            "train_last": finite(train[-1]) if train else None,
            "validation_first": finite(validation[0]) if validation else None,
            "validation_last": finite(validation[-1]) if validation else None,
            "validation_best": best and best[1],
            "validation_best_step": best and best[0],
        },
        "scores": [{k: v for k, v in _event_fields(one).items() if k != "examples"} for one in log.scores],
        "samples": _json(report.samples),
        "examples": _json(report.examples),
        "answers": [
            {
                "prompt": one.prompt,
                "expected": one.expected,
                **dict(zip(("base", "tuned"), one.texts, strict=True)),
            }
            for one in report.answers
        ],
        "acquisition": _without_items(_json(measured.acquisition)) if measured.acquisition.rows else {},
        "results": {suite: _without_items(_json(result)) for suite, result in suites},
        "flips": {
            suite: {"items": len(result.items), "lost": flips(result)[0], "gained": flips(result)[1]}
            for suite, result in suites
        },
        "item_probes": _json(log.item_probes),
        "kl_probes": _json(log.kl_probes),
        "stages": _stages(report.stages) if report.stages else {},
        "search": msgspec.to_builtins(report.search) if report.search else {},
        "threshold": report.threshold,
        "probe_reason": log.probe_plan.reason if log.probe_plan else "",
        "strength": _json(measured.strength) if measured.strength.points else {},
        "memory": {**asdict(memory), "difference": memory.difference, "inside": memory.inside},
        "flags": _json(report.flags),
        "ladder": _json(log.ladder),
        "ladder_cost": log.ladder_cost.text if log.ladder_cost else "",
        "spent": asdict(report.spent),
        "prices": asdict(report.prices),
        "saved": _json(log.saved) or {},
        "unknown": list(unknown(report)),
        "problems": report.problems,
    }


def _stages(table: StageTable) -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(table)
    return {**found, "backward_transfer": table.backward_transfer, "forgetting": table.forgetting}


def _without_items(result: Any) -> dict[str, object]:
    return {key: value for key, value in result.items() if key != "items"}


def _json(value: object) -> Any:
    if isinstance(value, RunEvent):
        return _event_fields(value)
    if isinstance(value, list):
        return [_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _json(getattr(value, one.name)) for one in fields(value)}
    return msgspec.to_builtins(value)


def _event_fields(event: RunEvent) -> dict[str, object]:
    """The fields of an event that have a value, without those that every event has."""
    found: dict[str, object] = msgspec.to_builtins(event)
    return {k: v for k, v in found.items() if k not in ("v", "t", "kind") and v is not None}
