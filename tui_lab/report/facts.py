"""What a report says of a run, as one plain record: nothing here is formatted, and nothing is guessed. It is
read from the run's folder alone (recipe, event log, results of retention), whatever state that is in: a run
that goes on, that crashed, or whose files are damaged is reported as that. How it looks is made of it by
:mod:`tui_lab.report.document`; writing it is :mod:`tui_lab.report.write`."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tui_lab import __version__
from tui_lab.core.errors import LabError
from tui_lab.core.format import finite
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast import cost
from tui_lab.recipes.presets import DEFAULT_PRESET, make_recipe
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention import results
from tui_lab.retention.results import SuiteResult
from tui_lab.runs import cost_so_far, wording
from tui_lab.runs.flags import flags
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import Event, ScoreEvent, kind_of
from tui_lab.runs.state import ENDED, RunState, Watcher

RETENTION = "retention"
STRENGTH, ACQUISITION, PROBE_BASE = "strength.json", "acquisition.json", "probe_base.json"
#: Figures of memory that say what the run itself took, the nearest to its peak first.
OWN_PEAKS = ("cuda_peak", "cuda_reserved", "cuda_allocated", "resident")
#: Examples, answers and lines of a dead run's log that are shown.
EXAMPLES_SHOWN, ANSWERS_SHOWN, LAST_WORDS = 8, 6, 8
#: Kinds of events that tell how a run went beside its steps.
COURSE = ("resumed", "recipe_changed", "command", "paused", "continued", "armed")
#: A settings file or result that is larger is none of ours.
MOST_JSON_BYTES = 64 << 20


@dataclass(frozen=True)
class Memory:
    """Bytes. ``measured`` is the run's own peak under the name ``label``; ``parts``, ``total``, ``low`` and
    ``high`` are the forecast. None and {} are what is not known."""

    parts: dict[str, float]
    total: float | None
    low: float | None
    high: float | None
    device: str
    label: str
    measured: float | None
    peaks: dict[str, float]
    device_peaks: dict[str, float]  # by GPU: the most in use by all processes

    @property
    def difference(self) -> float | None:
        """Measured less forecast, as a part of the forecast."""
        return None if not self.total or self.measured is None else self.measured / self.total - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured peak lies within the forecast's bounds."""
        if self.measured is None or self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Report:
    """See the module's docstring. ``state`` is one of :data:`tui_lab.runs.state.STATES`; ``results`` are
    those of :mod:`tui_lab.retention.results` without their items, by suite, with what flipped in ``flips``;
    ``examples`` and ``answers`` are pairs of the same prompt before and after."""

    run: str
    folder: str
    state: str
    message: str
    started_at: float | None  # seconds since 1970
    updated_at: float | None
    last_words: list[str]
    written_at: float
    written_by: str
    recipe: dict[str, Any]
    changed: dict[str, Any]  # on top of the preset that `base_preset` names
    base_preset: str
    command: str
    choices: list[dict[str, Any]]
    warnings: list[str]
    data: dict[str, Any]
    model: dict[str, Any]
    plan: dict[str, Any]
    versions: dict[str, str]
    device: dict[str, Any]
    threads: int | None
    attempts: int
    course: list[dict[str, Any]]  # what people and accidents did to the run: time, kind, text
    step: int
    total_steps: int
    losses: dict[str, float | None]
    scores: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    acquisition: dict[str, Any]
    results: dict[str, dict[str, Any]]
    flips: dict[str, dict[str, int]]
    item_probes: list[dict[str, Any]]
    kl_probes: list[dict[str, Any]]
    threshold: float | None
    probe_reason: str
    strength: dict[str, Any]
    memory: Memory
    flags: list[dict[str, Any]]
    ladder: list[dict[str, Any]]
    ladder_cost: str
    spent: dict[str, Any]
    prices: dict[str, Any]
    saved: dict[str, Any]
    unknown: list[str]
    problems: list[str]
    curves: RunState = field(repr=False)

    @property
    def recipe_changed(self) -> bool:
        """Whether attempts at it used different recipes."""
        return any(note["kind"] == "recipe_changed" for note in self.course)

    def plain(self) -> dict[str, Any]:
        """The record for programs, without the curves: the run's event log has those."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "curves"}
        memory = {**asdict(self.memory), "difference": self.memory.difference, "inside": self.memory.inside}
        return {"v": 1, **found, "memory": memory}


def read(run: Run, now: float | None = None) -> Report:
    """The report of a run as its folder is now. Never raises for what is damaged or missing in it."""
    watcher = Watcher(run)
    state = watcher.read_all()
    status = watcher.status
    problems = [watcher.problem] if watcher.recipe is None else []
    recipe, now = watcher.recipe, time.time() if now is None else now
    found, strength, acquisition = _measured(run, problems)
    prices = _prices(problems)
    spent = cost_so_far.spent(state, status, prices, now)
    preset, changed, command = repeat(recipe) if recipe else ("", {}, "")
    started = state.started
    device = started.device if started else None
    threshold = finite(state.probe_plan.threshold) if state.probe_plan else None
    if threshold is None and recipe:
        threshold = recipe.retention_threshold
    report = Report(
        run=run.id,
        folder=str(run.path),
        state=status,
        message=state.end.message if state.end and status in ENDED else "",
        started_at=finite(state.started_at) or None,
        updated_at=finite(state.updated_at) or None,
        last_words=run.last_words(LAST_WORDS) if status in ("failed", "crashed") else [],
        written_at=now,
        written_by=__version__,
        recipe=recipe.model_dump() if recipe else {},
        changed=changed,
        base_preset=preset,
        command=command,
        choices=[_fields(choice) for choice in state.choices],
        warnings=state.warnings,
        data=_fields(state.data),
        model=_fields(state.model),
        plan=_fields(state.plan),
        versions=dict(started.versions) if started else {},
        device=msgspec.to_builtins(device) if device else {},
        threads=started.threads if started else None,
        attempts=state.attempt,
        course=[
            {"t": event.t, "kind": kind_of(event), "text": wording.sentence(event)}
            for event in state.feed
            if kind_of(event) in COURSE
        ],
        step=state.step,
        total_steps=state.total_steps,
        losses=_losses(state),
        scores=[{key: value for key, value in _fields(s).items() if key != "examples"} for s in state.scores],
        samples=_samples(state),
        examples=_examples(state),
        answers=_answers(acquisition),
        acquisition={key: value for key, value in acquisition.items() if key != "items"},
        results={
            suite: {key: value for key, value in msgspec.to_builtins(result).items() if key != "items"}
            for suite, result in found.items()
        },
        flips={suite: _flips(result) for suite, result in found.items()},
        item_probes=[_fields(probe) for probe in state.item_probes],
        kl_probes=[_fields(probe) for probe in state.kl_probes],
        threshold=threshold,
        probe_reason=state.probe_plan.reason if state.probe_plan else "",
        strength=strength,
        memory=_memory(state),
        flags=[asdict(flag) for flag in flags(state)],
        ladder=[_fields(step) for step in state.ladder],
        ladder_cost=state.ladder_cost.text if state.ladder_cost else "",
        spent=asdict(spent),
        prices=asdict(prices),
        saved=_fields(state.saved),
        unknown=[],
        problems=problems,
        curves=state,
    )
    report.unknown.extend(_unknown(report))
    return report


def _fields(event: Event | None) -> dict[str, Any]:
    """The fields of an event that have a value, without what every event has."""
    fields: dict[str, Any] = msgspec.to_builtins(event) if event is not None else {}
    return {key: v for key, v in fields.items() if key not in ("v", "t", "kind") and v is not None}


# --------------------------------------------------------------------------------------------------
# what the log says


def _losses(state: RunState) -> dict[str, float | None]:
    train, held = state.loss.values, state.validation.values
    best = min((value for value in held if math.isfinite(value)), default=None)
    return {
        "train_first": finite(train[0]) if train else None,
        "train_last": finite(train[-1]) if train else None,
        "validation_first": finite(held[0]) if held else None,
        "validation_last": finite(held[-1]) if held else None,
        "validation_best": best,
        "validation_best_step": state.validation.steps[held.index(best)] if best is not None else None,
    }


def _memory(state: RunState) -> Memory:
    peaks = {label: peak for label, peak in state.peak_memory.items() if math.isfinite(peak)}
    for label, peak in state.end.peak_memory.items() if state.end else ():
        if (value := finite(peak)) is not None:  # the process itself measures more often than each step
            peaks[label] = max(value, peaks.get(label, 0.0))
    resident = finite(state.telemetry.resident.peak)
    if resident is not None:
        peaks["resident"] = max(resident, peaks.get("resident", 0.0))
    label = next((label for label in OWN_PEAKS if label in peaks), "")
    forecast = state.forecast
    return Memory(
        parts={k: float(v) for k, v in forecast.parts.items() if finite(v) is not None} if forecast else {},
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


def _samples(state: RunState) -> list[dict[str, Any]]:
    """The first sample and the newest of every prompt, in the order of the first."""
    prompts: dict[str, list[dict[str, Any]]] = {}
    for sample in state.samples:
        prompts.setdefault(sample.prompt, []).append(_fields(sample))
    return [
        {"prompt": prompt, "before": found[0], "after": found[-1] if len(found) > 1 else None}
        for prompt, found in list(prompts.items())[:EXAMPLES_SHOWN]
    ]


def _examples(state: RunState) -> list[dict[str, Any]]:
    """Scored answers to held-out rows, those of the start beside those of the end."""
    sides = {when: list(_scored([s for s in state.scores if s.when == when])) for when in ("start", "end")}
    after = {example["prompt"]: example for example in sides["end"]}
    prompts = dict.fromkeys(example["prompt"] for side in sides.values() for example in side)
    before = {example["prompt"]: example for example in sides["start"]}
    return [
        {"prompt": prompt, "before": before.get(prompt), "after": after.get(prompt)}
        for prompt in list(prompts)[:EXAMPLES_SHOWN]
    ]


def _scored(scores: list[ScoreEvent]) -> Iterator[dict[str, Any]]:
    for example in scores[-1].examples if scores else ():
        yield msgspec.to_builtins(example)


# --------------------------------------------------------------------------------------------------
# what was measured of the run


def _measured(run: Run, problems: list[str]) -> tuple[dict[str, SuiteResult], dict[str, Any], dict[str, Any]]:
    """Results by suite, the strength sweep and the acquisition; what cannot be read joins ``problems``."""
    found: dict[str, SuiteResult] = {}
    others: dict[str, dict[str, Any]] = {STRENGTH: {}, ACQUISITION: {}}
    for path in sorted((run.path / RETENTION).glob("*.json")):
        try:
            if path.name in others:
                others[path.name] = _object(path)
            elif path.name != PROBE_BASE:
                result = results.read(path)
                found[result.suite] = result
        except LabError as error:
            problems.append(str(error))
    return found, others[STRENGTH], others[ACQUISITION]


def _object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise LabError(f"{path.name} is too large to be a result of the lab; measure again")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(f"{path.name} cannot be read ({sanitize(str(error))[:120]}); measure again") from None
    if not isinstance(value, dict):
        raise LabError(f"{path.name} holds no result of the lab; measure again")
    return value


def _flips(result: SuiteResult) -> dict[str, int]:
    return {
        "items": len(result.items),
        "lost": sum(item.is_lost for item in result.items),
        "gained": sum(item.is_gained for item in result.items),
    }


def _answers(acquisition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Answers of base and tuned model to held-out rows, as the acquisition was measured after the run."""
    found: list[dict[str, Any]] = []
    items = acquisition.get("items")
    for item in items if isinstance(items, list) else ():
        sides = (item.get("base"), item.get("tuned")) if isinstance(item, dict) else (None, None)
        if len(found) < ANSWERS_SHOWN and all(isinstance(side, dict) for side in sides):
            texts = [str(side.get("text", "")) for side in sides if isinstance(side, dict)]
            found.append(
                {
                    "prompt": str(item.get("prompt", "")),
                    "expected": str(item.get("expected", "")),
                    "base": texts[0],
                    "tuned": texts[1],
                }
            )
    return found


def _prices(problems: list[str]) -> cost.Prices:
    try:
        return cost.prices()
    except LabError as error:
        problems.append(str(error))
        return cost.Prices()


# --------------------------------------------------------------------------------------------------
# doing it again


def repeat(recipe: Recipe) -> tuple[str, dict[str, Any], str]:
    """The preset that the command starts from, what differs from it, and the ``tui-lab train`` command that
    makes the same recipe. A preset that is gone or has changed costs words, never exactness."""
    for preset in dict.fromkeys((recipe.preset, DEFAULT_PRESET)):
        large = {"allow_large": True} if recipe.allow_large else {}
        try:
            base = make_recipe(preset, model=recipe.model, data=recipe.data, **large)
        except LabError:
            continue
        values, standard = recipe.model_dump(), base.model_dump()
        changed = {
            key: value
            for key, value in values.items()
            if value != standard[key] and key not in ("model", "data", "preset")
        }
        words = ["tui-lab", "train", "--model", recipe.model, "--preset", preset, "--data", recipe.data]
        words += ["--allow-large"] if recipe.allow_large else []
        for key, value in changed.items():
            words += ["--set", f"{key}={_setting(value)}"]
        return preset, changed, shlex.join(words)
    return "", {}, ""


def _setting(value: Any) -> str:
    """A value as ``--set`` reads it back without loss."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# --------------------------------------------------------------------------------------------------
# what is not known


def _unknown(report: Report) -> list[str]:
    """Sentences on what this report cannot say, and why."""
    found: list[str] = []
    recipe, memory, spent = report.recipe, report.memory, report.spent
    if report.state not in ENDED:
        found.append("How it ends: the run had not ended when this was written.")
    elif report.state != "finished":
        found.append(f"What the whole plan would have come to: the run {_ended_how(report.state)}.")
    if not recipe:
        found.append("The recipe: its file cannot be read, so that the run cannot be repeated from here.")
    elif recipe["model"] != "pocket" and not recipe["revision"]:
        found.append("Which revision of the model it was: none was pinned, so that of the day.")
    if not report.versions:
        found.append("Versions and device: the run did not come to telling them.")
    if memory.total is None:
        found.append("Memory against a forecast: no forecast is in the log of this run.")
    elif memory.measured is None:
        found.append("The peak of memory: nothing measured it.")
    if len(report.scores) < 2:
        found.append("What it learned of its task as a score: it was not scored both before and after.")
    if not report.results:
        found.append(
            "Retention on whole suites: none was measured after the run (`tui-lab retention` does it; "
            f"`tui-lab report {shlex.quote(report.run)}` then writes this anew)."
        )
    if not report.strength:
        found.append("How strength trades gain against retention: no sweep was made.")
    if spent["energy_j"] is None:
        found.append("Energy and CO₂: nothing metered them (no NVIDIA GPU, or its driver does not tell).")
    if spent["money"] is None:
        found.append(f"Money: no price an hour is set ({cost.PRICE}).")
    if spent["mfu"] is None:
        why = spent["peak_of"] or "the operations of a token or the rate of the device are not known"
        found.append(f"MFU: {why}.")
    found.append("The spread over seeds: this is one run with one seed.")
    return found


def _ended_how(state: str) -> str:
    return {"stopped": "was stopped", "failed": "failed", "crashed": "crashed"}[state]
