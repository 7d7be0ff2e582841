"""A run as text: progress in one line, its result, everything known about it, and what to do after a failure.
Functions of the run's state. The widgets sanitize texts from logs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from tui_lab.core.format import (
    as_float,
    bar,
    count,
    decision,
    duration,
    memory_name,
    metric_name,
    phase,
    plural,
)
from tui_lab.data.source_counts import source_line
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.recipes.mixture import short_name
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import crash_reason, wording
from tui_lab.runs.schema import DataEvent, EndEvent, LadderEvent, RunEvent, SampleEvent, WarningEvent
from tui_lab.runs.state import ENDED, RunState
from tui_lab.ui.views.plot_data import quantity
from tui_lab.ui.views.spans import TextSpan, fitting, labelled

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHORTEST_BAR = 8


def phase_text(state: RunState) -> str:
    """What the run is doing, and how far it is where that is known."""
    if state.progress is not None:
        return phase(state.progress.name, wording.progress_detail(state.progress))
    return phase(state.phase, state.phase_detail)


def elapsed_s(state: RunState, status: str, now: float) -> float:
    """Seconds since the run began, up to its end."""
    if not state.started_at:
        return math.nan
    return (state.updated_at if status in ENDED else now) - state.started_at


def progress_line(state: RunState, status: str, now: float, width: int, tick: int, ascii_only: bool) -> str:
    """A bar as wide as there is room, and beside it steps, times, epoch, and what is being done besides
    training; before the first step the bar of what is being done, or a sign that it lives."""
    passed = duration(elapsed_s(state, status, now))
    empty = "-" if ascii_only else "·"

    def with_bar(share: float, tail: str, head: str = "") -> str:
        cells = max(SHORTEST_BAR, width - len(head) - len(tail))
        return head + bar(share, cells, ascii_only=ascii_only, empty=empty) + tail

    total, step = state.total_steps, state.step
    if not total or (not step and status not in ENDED):
        if status in ENDED or status == "created":
            return f"{phase_text(state)}   {passed}".strip()
        if (progress := state.progress) is not None and progress.total:
            tail = f" {wording.progress_detail(progress)}  {passed}"
            return with_bar(progress.done / progress.total, tail, f"{phase(progress.name)} ")
        wheel = "|/-\\"[tick % 4] if ascii_only else SPINNER[tick % len(SPINNER)]
        return f"{wheel} {phase_text(state) or 'starting the process'}   {passed}"
    epoch = as_float(state.last_step.epoch) if state.last_step else math.nan
    pieces = [f" {step}/{total} steps", passed]
    if status not in ENDED:
        training = state.phase in ("training", "") and state.progress is None
        pieces.append(f"{duration(state.eta_s)} left" if training else phase_text(state))
    if math.isfinite(epoch):
        pieces.append(f"epoch {epoch:.2f}")
    pieces = fitting(pieces, max(0, width - SHORTEST_BAR), "  ")
    return with_bar(step / total, "  ".join(pieces))


def figures_line(state: RunState, width: int) -> str:
    """The newest values, the most important first, as many as fit."""
    parts = []
    if state.loss.values:
        parts.append(f"loss {quantity(state.loss.last, 'number')}")
    for name, label in wording.PREFERENCE_FIGURES.items():
        if name in state.parts and state.parts[name].values:
            parts.append(f"{label} {quantity(state.parts[name].last, 'number')}")
    if state.validation.values:
        first, last = state.validation.values[0], state.validation.last
        change = f"{quantity(first, 'number')} → " if len(state.validation.values) > 1 else ""
        parts.append(f"validation {change}{quantity(last, 'number')}")
    if math.isfinite(gap := state.overfitting_gap):
        parts.append(f"overfitting {gap:+.0%}")
    if state.tok_per_s.values:
        parts.append(f"{quantity(state.tok_per_s.last, 'short')} tok/s")
    if state.learning_rate.values:
        parts.append(f"lr {quantity(state.learning_rate.last, 'number')}")
    for label, curve in list(state.memory.items())[:1]:
        parts.append(f"{memory_name(label)} {quantity(curve.last, 'bytes')}")
    return "   ".join(fitting(parts, width))


def score_line(state: RunState) -> str:
    """Acquisition, start → end."""
    if not state.scores:
        return ""
    start, end = state.score("start"), state.score("end")
    rows = state.scores[-1].rows
    of = metric_name(state.score_name) + ("" if rows is None else f", {plural(rows, 'held-out row')}")
    shown = f"{start:.2f}" if math.isfinite(start) else "–"
    after = f" → {end:.2f}" if math.isfinite(end) else " → –" if state.end else " before the training"
    return f"acquisition {shown}{after} ({of})"


MEMORY_ROLES = {
    "cuda_allocated": "memory",
    "cuda_reserved": "memory-reserved",
    "cuda_peak": "memory",
    "gpu_used": "memory-total",
    "resident": "memory",
}


def trouble(status: str, state: RunState, log_tail: Sequence[str]) -> str:
    """Why a run ended badly, in one line; "" when it did not."""
    if status == "failed":
        return (state.end.message if state.end else "") or (log_tail[-1] if log_tail else "it gave no reason")
    if status == "crashed":
        if why := crash_reason.cause(list(log_tail)):
            return f"its process died: {why}"
        log = f"Its log ends with: {log_tail[-1].strip()}" if log_tail else "Its log is empty."
        return f"the process ended without an error message. {log}"
    return ""


def advice(status: str, state: RunState, resume_key: str, choose_key: str) -> str:
    """What to do next, with the keys that resume a run and open Setup."""
    if status in ("failed", "crashed"):
        if state.checkpoints:
            return f"{resume_key} continues from the checkpoint at step {state.checkpoints[-1].step}."
        return f"{resume_key} starts it again from the beginning; {choose_key} changes the recipe first."
    if status == "stopped":
        return f"{resume_key} resumes it."
    return ""


def event_parts(event: RunEvent) -> tuple[TextSpan, ...]:
    """An event with the time of day."""
    try:
        clock = time.strftime("%H:%M:%S", time.localtime(event.t)) if event.t else "--:--:--"
    except (OverflowError, ValueError, OSError):  # no clock of this world
        clock = "--:--:--"
    alarming = isinstance(event, WarningEvent | LadderEvent)
    role, mark = ("state-paused", "! ") if alarming else ("", "")
    return ((f"{clock} ", "axis"), (f"{mark}{wording.sentence(event)}", role))


def sample_parts(sample: SampleEvent) -> tuple[TextSpan, ...]:
    """A sample: step, prompt and the model's answer."""
    return (
        (f"step {sample.step}  ", "title"),
        (f"{sample.prompt}\n", "axis"),
        (sample.text, "tuned-model"),
    )


def about_run(
    state: RunState,
    status: str,
    recipe: Recipe | None,
    path: str,
    log_tail: Sequence[str],
    resume_key: str,
    choose_key: str,
) -> list[TextSpan]:
    """Everything known about a run, for the About tab."""
    parts: list[TextSpan] = []
    if problem := trouble(status, state, log_tail):
        parts += labelled("✗", f"{status}: {problem}", "state-failed")
    parts += labelled("→", advice(status, state, resume_key, choose_key))
    if state.end and status in ("finished", "stopped"):
        parts += _result(state, state.end)
    if recipe is not None:
        preset = recipe.preset or "no preset"
        parts += labelled("recipe", f"{recipe.model} · {preset} · {recipe.data}, {recipe.method}")
    if model := state.model:
        parts += labelled("trains", f"{count(model.trainable)} of {count(model.parameters)} parameters")
        parts += labelled("modules", ", ".join(f"{number} {name}" for name, number in model.modules.items()))
        if model.quantized_modules:
            parts += labelled(
                "quantized",
                f"{model.quantized_modules} layers to {QUANTIZATIONS.get(model.quantization, '4 bit')}",
            )
    if data := state.data:
        parts += labelled("data", ", ".join(data_sizes(data)))
    if state.started and (device := state.started.device):
        threads = state.started.threads
        number = "? threads" if threads is None else plural(threads, "thread")
        parts += labelled("device", f"{device.name or device.type or '?'}, {number}")
    for choice in state.choices:
        parts += labelled(choice.field, decision(choice.value, choice.reason))
    for warning in state.warnings:
        parts += labelled("!", warning, "state-paused")
    parts += labelled("folder", path)
    if status in ("failed", "crashed") and log_tail:
        parts += labelled("log", "the end of worker.log")
        parts += [(f"  {line}\n", "axis") for line in log_tail]
    return parts


def data_sizes(data: DataEvent) -> list[str]:
    """Sizes of the prepared data, and the rows that were left out or changed."""
    sizes = [f"{plural(data.train_rows, 'row')} to train on", f"{data.validation_rows:,} held out"]
    if data.train_trained_tokens is not None:
        sizes.append(f"{data.train_trained_tokens:,} tokens trained a pass")
    if data.longest_tokens:
        sizes.append(f"the longest row {plural(data.longest_tokens, 'token')}")
    sizes += [f"{short_name(each.name)} {source_line(each, data.sources)}" for each in data.sources]
    odd = {
        "rows bad": data.rows_bad,
        "rows empty": data.rows_empty,
        "truncated": data.truncated,
        "too long": data.too_long,
        "windowed": data.windowed,
        "fully masked": data.fully_masked,
        "refused by template": data.refused_by_template,
        "duplicates": data.duplicates,
        "near duplicates": data.near_duplicates,
        "leaks removed": data.leaks_removed,
    }
    sizes += [f"{rows:,} {name}" for name, rows in odd.items() if rows]
    if data.template_source:
        sizes.append(data.template_source)
    return sizes


def _result(state: RunState, end: EndEvent) -> list[TextSpan]:
    step = state.step if end.step is None else end.step
    parts = labelled("result", f"{end.state} at step {step} after {duration(end.seconds)}")
    parts += labelled("result", end.message) + labelled("result", score_line(state))
    if saved := state.saved:
        size = quantity(as_float(saved.bytes), "bytes")
        parts += labelled("saved", f"{saved.what}, {size}, in {saved.path}/")
    return parts
