"""A run in words: one line of progress, its result, what is known of it, and what to do when it died.
Functions of the run's state; every text that came from a log is made safe by who shows it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tui_lab.core.format import as_float, bar, count, decision, duration, memory_name, phase
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import crash_reason as last_words_of
from tui_lab.runs.state import ENDED, Note, RunState
from tui_lab.ui.views.plot_data import quantity
from tui_lab.ui.views.spans import TextSpan

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SHORTEST_BAR = 8


def phase_text(state: RunState) -> str:
    """What the run is doing now, in words."""
    return phase(state.phase, state.phase_detail)


def elapsed_s(state: RunState, status: str, now: float) -> float:
    """Seconds since the run began, up to its end."""
    if not state.started_at:
        return math.nan
    return (state.updated_at if status in ENDED else now) - state.started_at


def progress_line(state: RunState, status: str, now: float, width: int, tick: int, ascii_only: bool) -> str:
    """Bar, step, times; before the first step what is being done."""
    total, step = state.total_steps, state.step
    passed = duration(elapsed_s(state, status, now))
    if not total or (not step and status not in ENDED):
        if status in ENDED or status == "created":
            return f"{phase_text(state)}   {passed}".strip()
        wheel = "|/-\\"[tick % 4] if ascii_only else SPINNER[tick % len(SPINNER)]
        return f"{wheel} {phase_text(state) or 'starting the process'}   {passed}"
    tail = f" {step}/{total} steps  {passed}"
    if status == "running":
        training = state.phase == "training" or not state.phase
        tail += f"  {duration(state.eta_s)} to go" if training else f"  {phase_text(state)}"
    epoch = as_float(state.last_step.get("epoch"))
    if math.isfinite(epoch) and width - len(tail) > SHORTEST_BAR + 14:
        tail += f"  epoch {epoch:.2f}"
    cells = max(SHORTEST_BAR, min(40, width - len(tail)))
    return bar(step / total, cells, ascii_only=ascii_only, empty="-" if ascii_only else "·") + tail


def figures_line(state: RunState, width: int) -> str:
    """The newest figures, the most important first, as many as fit."""
    parts = []
    if state.loss.values:
        parts.append(f"loss {quantity(state.loss.last, 'number')}")
    if state.validation.values:
        first, last = state.validation.values[0], state.validation.last
        change = f"{quantity(first, 'number')} → " if len(state.validation.values) > 1 else ""
        parts.append(f"validation {change}{quantity(last, 'number')}")
    if state.tok_per_s.values:
        parts.append(f"{quantity(state.tok_per_s.last, 'short')} tok/s")
    if state.learning_rate.values:
        parts.append(f"lr {quantity(state.learning_rate.last, 'number')}")
    for label, curve in list(state.memory.items())[:1]:
        parts.append(f"{memory_name(label)} {quantity(curve.last, 'bytes')}")
    while len("   ".join(parts)) > width and len(parts) > 1:
        parts.pop()
    return "   ".join(parts)


def memory_parts(state: RunState) -> list[TextSpan]:
    """The memory that the run takes, and what was forecast."""
    parts: list[TextSpan] = []
    for label, curve in list(state.memory.items())[:1]:
        parts.append((f"{memory_name(label)} {quantity(curve.last, 'bytes')}", ""))
    if math.isfinite(forecast := as_float(state.forecast.get("total"))):
        parts.append((f"{'  ' if parts else ''}forecast {quantity(forecast, 'bytes')}", "axis"))
    return parts


def score_line(state: RunState) -> str:
    """The task's own score, start → end."""
    if not state.scores:
        return ""
    start, end = (
        next((as_float(s.get("value")) for s in reversed(state.scores) if s.get("when") == when), math.nan)
        for when in ("start", "end")
    )
    rows = state.scores[-1].get("rows", "?")
    shown = f"{start:.2f}" if math.isfinite(start) else "–"
    after = f"{end:.2f}" if math.isfinite(end) else "–" if state.end else "(at the end)"
    return f"score ({state.score_name}, {rows} held-out rows): {shown} → {after}"


MEMORY_ROLES = {
    "cuda_allocated": "memory",
    "cuda_reserved": "memory-reserved",
    "cuda_peak": "memory",
    "gpu_used": "memory-total",
    "resident": "memory",
}


def trouble(status: str, state: RunState, last_words: Sequence[str]) -> str:
    """Why a run ended badly, in one line; "" when it did not."""
    if status == "failed":
        return str(state.end.get("message") or (last_words[-1] if last_words else "it said nothing"))
    if status == "crashed":
        if why := last_words_of.cause(list(last_words)):
            return f"its process died: {why}"
        said = f" Its last words: {last_words[-1].strip()}" if last_words else " Its log is empty."
        return f"the process ended without saying why.{said}"
    return ""


def advice(status: str, state: RunState, resume_key: str, choose_key: str) -> str:
    """What to do now; with the keys that resume a run and that go to Setup."""
    if status in ("failed", "crashed"):
        if state.checkpoints:
            step = state.checkpoints[-1].get("step", "?")
            return f"{resume_key} goes on from the checkpoint at step {step}."
        return f"{resume_key} starts it again from the beginning; {choose_key} changes the recipe first."
    if status == "stopped":
        return f"{resume_key} resumes it."
    return ""


def note_parts(note: Note) -> tuple[TextSpan, ...]:
    """Something that happened, with the time of day."""
    try:
        clock = time.strftime("%H:%M:%S", time.localtime(note.t)) if note.t else "--:--:--"
    except (OverflowError, ValueError, OSError):  # no clock of this world
        clock = "--:--:--"
    alarming = note.kind in ("warning", "ladder")
    role, mark = ("state-paused", "! ") if alarming else ("", "")
    return ((f"{clock} ", "axis"), (f"{mark}{note.text}", role))


def sample_parts(sample: Mapping[str, Any]) -> tuple[TextSpan, ...]:
    """What the model answered at a step, with what it was asked."""
    return (
        (f"step {sample.get('step', '?')}  ", "title"),
        (f"{sample.get('prompt', '')}\n", "axis"),
        (str(sample.get("text", "")), "tuned-model"),
    )


def about_run(
    state: RunState,
    status: str,
    recipe: Recipe | None,
    path: str,
    last_words: Sequence[str],
    resume_key: str,
    choose_key: str,
) -> list[TextSpan]:
    """Everything that is known of a run, for its own tab."""
    parts: list[TextSpan] = []

    def line(label: str, text: str, role: str = "") -> None:
        colon = ":" if (label.isascii() and label.isalpha()) or "_" in label else ""
        parts.extend([(f"{label}{colon} ", "title"), (f"{text}\n", role)])

    if problem := trouble(status, state, last_words):
        line("✗", f"{status}: {problem}", "state-failed")
    if what := advice(status, state, resume_key, choose_key):
        line("→", what)
    if state.end and status in ("finished", "stopped"):
        _result(state, line)
    if recipe is not None:
        line("recipe", f"{recipe.model} · {recipe.preset or 'no preset'} · {recipe.data}, {recipe.method}")
    if model := state.model:
        line(
            "trains",
            f"{count(model.get('trainable'))} of {count(model.get('parameters'))} parameters",
        )
        if isinstance(modules := model.get("modules"), dict):
            line("modules", ", ".join(f"{count} {name}" for name, count in modules.items()))
        if model.get("quantized_modules"):
            line("quantized", f"{model['quantized_modules']} layers to 4 bit")
    if data := state.data:
        line("data", ", ".join(data_facts(data)))
    if isinstance(device := state.started.get("device"), dict):
        threads = state.started.get("threads", "?")
        line(
            "device",
            f"{device.get('name', device.get('type', '?'))}, {threads} thread{'s' * (threads != 1)}",
        )
    for choice in state.choices:
        line(str(choice.get("field")), decision(choice.get("value"), choice.get("reason", "")))
    for warning in state.warnings:
        line("!", warning, "state-paused")
    line("folder", path)
    if status in ("failed", "crashed") and last_words:
        line("log", "the end of worker.log")
        parts.extend((f"  {words}\n", "axis") for words in last_words)
    return parts


#: Counts of rows that are worth a word when they are not zero.
ODD_ROWS = (
    "rows_bad",
    "rows_empty",
    "truncated",
    "too_long",
    "windowed",
    "fully_masked",
    "refused_by_template",
    "duplicates",
    "near_duplicates",
    "leaks_removed",
)


def data_facts(data: dict[str, Any]) -> list[str]:
    """What a person wants to know of the prepared data: sizes, and whatever was left out."""
    words = [
        f"{data[key]:,} {name}"
        for key, name in (
            ("train_rows", "rows to train on"),
            ("validation_rows", "held out"),
            ("train_trained_tokens", "tokens trained a pass"),
        )
        if isinstance(data.get(key), int)
    ]
    if data.get("longest_tokens"):
        words.append(f"the longest row {data['longest_tokens']} tokens")
    words += [
        f"{data[key]:,} {key.replace('_', ' ')}"
        for key in ODD_ROWS
        if isinstance(data.get(key), int) and data[key]
    ]
    if data.get("template_source"):
        words.append(str(data["template_source"]))
    return words


def _result(state: RunState, line: Any) -> None:
    end = state.end
    seconds = duration(as_float(end.get("seconds")))
    line("result", f"{end.get('state', '')} at step {end.get('step', state.step)} after {seconds}")
    if end.get("message"):
        line("result", str(end["message"]))
    if score := score_line(state):
        line("result", score)
    saved = state.saved
    if saved:
        size = quantity(as_float(saved.get("bytes")), "bytes")
        line("saved", f"{saved.get('what', 'adapter')}, {size}, in {saved.get('path', '')}/")
