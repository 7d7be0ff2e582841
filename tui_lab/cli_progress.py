"""A run that is followed from the command line: as JSON lines, as plain lines, or drawn in place.

All three are fed with the same events in order and see nothing else, so that what they show is what the
run's log says. Every text that came from a model, from data or from a log is made visible before it
reaches the terminal, and is never read as markup.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from tui_lab import units
from tui_lab.jobs import plain
from tui_lab.runs.state import RunState
from tui_lab.safe_text import visible

#: Plain output says how a run stands at most this often (by the run's own clock).
PLAIN_STEP_EVERY_S = 5.0
#: Longer samples and messages are cut: a line stays a line.
LONGEST_TEXT = 160

# --------------------------------------------------------------------------------------------------
# words


def short(value: Any) -> str:
    """A text from outside, safe and on one line."""
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def number(value: Any, digits: int = 4) -> str:
    """A measured number in words; what is none is a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return f"{value:.{digits}g}" if math.isfinite(value) else str(value)


def phase_words(name: str, detail: str) -> str:
    """What a run does now."""
    return short(units.phase(name, detail))


def figures(state: RunState) -> list[str]:
    """The newest figures of a run, most wanted first."""
    last, parts = state.last_step, []
    if state.loss.values:
        parts.append(f"loss {number(state.loss.last)}")
    if state.validation.values:
        parts.append(f"val {number(state.validation.last)}")
    if state.tok_per_s.values:
        parts.append(f"{state.tok_per_s.last:,.0f} tok/s")
    memory = last.get("memory")
    if isinstance(memory, dict):
        for label, used in list(memory.items())[:1]:
            parts.append(f"{short(units.memory_name(str(label)))} {units.size(used)}")
    return parts


def step_words(state: RunState) -> str:
    """How the run stands, in one line."""
    total = f"/{state.total_steps}" if state.total_steps else ""
    parts = [f"step {state.step}{total}", *figures(state)]
    if math.isfinite(state.eta_s):
        parts.append(f"{units.duration(state.eta_s)} to go")
    return "  ".join(parts)


def _model(event: dict[str, Any], state: RunState) -> str:
    trained, all_ = event.get("trainable"), event.get("parameters")
    if not isinstance(trained, int) or not isinstance(all_, int) or not all_:
        return ""
    four_bit = f", {event['quantized_modules']} layers in 4 bits" if event.get("quantized_modules") else ""
    return f"model: {trained:,} of {all_:,} parameters are trained ({trained / all_:.2%}){four_bit}"


def _data(event: dict[str, Any], state: RunState) -> str:
    rows, held = event.get("train_rows"), event.get("validation_rows")
    tokens = event.get("train_trained_tokens")
    trained = f", {tokens:,} tokens to learn" if isinstance(tokens, int) else ""
    return f"data: {rows} rows to train on, {held} held out{trained}; {short(event.get('reason', ''))}"


def _device(event: dict[str, Any], state: RunState) -> str:
    device = event.get("device") or {}
    return f"device: {short(device.get('type'))}, {short(device.get('name'))}, {event.get('threads')} threads"


def _score(event: dict[str, Any], state: RunState) -> str:
    when = {"start": "before", "end": "after"}.get(
        str(event.get("when")), "at step " + str(event.get("step"))
    )
    value = f"{short(event['name'])} {number(event['value'], 3)}"
    return f"score {when}: {value} on {event.get('rows')} held-out rows"


#: Kind of event → its line. Kinds that are not here are not worth one.
_LINES: dict[str, Callable[[dict[str, Any], RunState], str]] = {
    "resumed": lambda e, s: (
        f"attempt {e['attempt']} goes on from step {e['from_step']}" if int(e.get("attempt", 1)) > 1 else ""
    ),
    "started": _device,
    "phase": lambda e, s: phase_words(str(e["name"]), str(e.get("detail") or "")),
    "choice": lambda e, s: f"{short(e['field'])}: {short(units.decision(e.get('value'), e['reason']))}",
    "model": _model,
    "data": _data,
    "warning": lambda e, s: f"warning: {short(e['text'])}",
    "plan": lambda e, s: f"plan: {e['total_steps']} steps, a validation every {e['eval_steps']}",
    "eval": lambda e, s: f"step {e['step']}: validation loss {number(e['loss'])}",
    "score": _score,
    "sample": lambda e, s: f"step {e['step']}: {short(e['prompt'])} → {short(e['text'])}",
    "checkpoint": lambda e, s: (
        f"step {e['step']}: checkpoint{' (the best)' if e.get('reason') == 'best' else ''}"
    ),
    "recipe_changed": lambda e, s: "; ".join(
        f"{short(c['field'])}: {short(c['before'])} → {short(c['after'])} from here on ({short(c['text'])})"
        for c in e["changes"]
    ),
    "command": lambda e, s: f"{short(e['name'])}: {short(e.get('outcome', ''))}",
    "paused": lambda e, s: f"paused at step {e['step']}",
    "continued": lambda e, s: f"going on at step {e['step']}",
    "saved": lambda e, s: f"{short(e.get('what', 'adapter'))} saved ({units.size(e.get('bytes'))})",
}


def line_of(event: dict[str, Any], state: RunState) -> str:
    """One event in words; "" when it is not worth a line, or damaged."""
    words = _LINES.get(str(event.get("kind")))
    if words is None:
        return ""
    try:
        return words(event, state)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""


# --------------------------------------------------------------------------------------------------
# displays


class Display(Protocol):
    """What a follower feeds. ``note`` is the lab's own word, not the run's."""

    def __enter__(self) -> Display: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def event(self, event: dict[str, Any], state: RunState) -> None: ...
    def tick(self, state: RunState, liveness: str) -> None: ...
    def note(self, text: str) -> None: ...


class _Plain:
    """Lines on stdout, notes on stderr; nothing to close."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tick(self, state: RunState, liveness: str) -> None:
        return None

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def json_line(value: dict[str, Any]) -> str:
    """Strict JSON on one line, in ASCII: control characters of a model's text stay escaped."""
    return json.dumps(plain(value), ensure_ascii=True, allow_nan=False, default=str)


class JsonLines(_Plain):
    """Every event as it comes, one JSON object a line."""

    def event(self, event: dict[str, Any], state: RunState) -> None:
        print(json_line(event), flush=True)


class PlainLines(_Plain):
    """Lines for logs and pipes: what happens, and now and then how the run stands."""

    def __init__(self) -> None:
        self._said_at = -math.inf

    def event(self, event: dict[str, Any], state: RunState) -> None:
        if event.get("kind") != "step":
            if line := line_of(event, state):
                print(line, flush=True)
            return
        at = event.get("t")
        at = float(at) if isinstance(at, int | float) else 0.0
        if at - self._said_at >= PLAIN_STEP_EVERY_S or state.step == state.total_steps:
            self._said_at = at
            print(step_words(state), flush=True)


class LiveProgress:
    """Drawn in place on a terminal: a bar with the newest figures, events scrolling above it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self.console,
            refresh_per_second=4,
            expand=False,
        )
        self._task = self._progress.add_task("starting the process", total=None, figures="")

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def event(self, event: dict[str, Any], state: RunState) -> None:
        if event.get("kind") in ("phase", "step"):
            return  # the bar says it
        if line := line_of(event, state):
            style = {"warning": "yellow", "eval": "cyan", "score": "bold", "choice": "dim"}
            self.console.print(Text(line, style=style.get(str(event.get("kind")), "")), soft_wrap=True)

    def tick(self, state: RunState, liveness: str) -> None:
        total, in_training = state.total_steps, state.phase == "training"
        words = f"step {state.step}/{total}" if in_training and total else phase_words(state.phase, "")
        if liveness == "paused":
            words = f"paused at step {state.step}/{total}"
        parts = figures(state)
        if in_training and math.isfinite(state.eta_s):
            parts.append(units.duration(state.eta_s))
        self._progress.update(
            self._task,
            description=words or "starting the process",
            total=total or None,
            completed=state.step,
            figures="  ".join(parts),
        )

    def note(self, text: str) -> None:
        self.console.print(Text(text, style="bold yellow"), soft_wrap=True)


def display_for(as_json: bool, every_s: float | None = None) -> Display:
    """The display that fits the output: JSON or sentences where asked, drawn on a terminal, else lines."""
    if as_json:
        return JsonLines()
    if every_s is not None:
        from tui_lab.cli_plain import Sentences

        return Sentences(every_s)
    return LiveProgress() if sys.stdout.isatty() else PlainLines()
