"""Follows a run from the command line: as JSON lines, as plain lines, or as a progress bar.

All displays receive the same events in order and read nothing else. Text from models, data and logs is
sanitized before it is printed and never parsed as markup."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from tui_lab.cli import plain as cli_plain
from tui_lab.cli.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from tui_lab.cli.output import json_line, note, print_text
from tui_lab.cli.results import RunResult, result_of
from tui_lab.core import format
from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import commands, crash_reason, folder, notify, wording
from tui_lab.runs.events import LogLine, line_fields
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.schema import (
    ChoiceEvent,
    DownloadEvent,
    PhaseEvent,
    ProgressEvent,
    RunEvent,
    ScoreEvent,
    StepEvent,
    ValidationEvent,
    WarningEvent,
)
from tui_lab.runs.state import ENDED, RunState, Watcher

#: Plain output prints the step at most this often (by the time of the events).
PLAIN_STEP_EVERY_S = 5.0
#: Longer samples and messages are cut.
LONGEST_TEXT = 160

# --------------------------------------------------------------------------------------------------
# text


def short(value: object) -> str:
    """A sanitized text on one line."""
    return wording.text_line(value, LONGEST_TEXT)


def latest_values(state: RunState) -> list[str]:
    """The newest values of a run, the most important first."""
    parts = []
    if state.loss.values:
        parts.append(f"loss {format.significant(state.loss.last)}")
    for name, label in wording.PREFERENCE_FIGURES.items():
        if name in state.parts and state.parts[name].values:
            parts.append(f"{label} {format.significant(state.parts[name].last, 3)}")
    if state.validation.values:
        parts.append(f"val {format.significant(state.validation.last)}")
    if state.tok_per_s.values:
        parts.append(f"{state.tok_per_s.last:,.0f} tok/s")
    memory = state.last_step.memory if state.last_step else {}
    for label, used in list(memory.items())[:1]:
        parts.append(f"{short(format.memory_name(label))} {format.size(used)}")
    return parts


def step_text(state: RunState) -> str:
    """The progress of the run in one line."""
    total = f"/{state.total_steps}" if state.total_steps else ""
    parts = [f"step {state.step}{total}", *latest_values(state)]
    if math.isfinite(state.eta_s):
        parts.append(f"{format.duration(state.eta_s)} to go")
    return "  ".join(parts)


# --------------------------------------------------------------------------------------------------
# displays


class Display(Protocol):
    """Receives a run's events. ``note`` prints a message of the lab itself."""

    def __enter__(self) -> Display: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def event(self, line: LogLine, state: RunState, /) -> None: ...
    def tick(self, state: RunState, status: str, /) -> None: ...
    def note(self, text: str, /) -> None: ...


class _LineDisplay:
    """Lines on stdout, notes on stderr; nothing to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tick(self, _state: RunState, _status: str) -> None:
        return None

    def note(self, text: str) -> None:
        note(text)


class JsonLines(_LineDisplay):
    """Every event, one JSON object a line."""

    def event(self, line: LogLine, _state: RunState) -> None:
        print(to_json(line_fields(line)), flush=True)


class PlainLines(_LineDisplay):
    """Lines for logs and pipes: events, and the step from time to time."""

    def __init__(self) -> None:
        self._printed_at = -math.inf

    def event(self, line: LogLine, state: RunState) -> None:
        event = line.event
        if not isinstance(event, StepEvent):
            if text := wording.line(event, LONGEST_TEXT):
                print(text, flush=True)
        elif event.t - self._printed_at >= PLAIN_STEP_EVERY_S or state.step == state.total_steps:
            self._printed_at = event.t
            print(step_text(state), flush=True)


_STYLES: dict[type[RunEvent], str] = {
    WarningEvent: "yellow",
    ValidationEvent: "cyan",
    ScoreEvent: "bold",
    ChoiceEvent: "dim",
}


class ProgressLine:
    """One line that is redrawn on a terminal: what the run does, n of N, the time left, and the newest
    values."""

    def __init__(self, console: Console) -> None:
        whole = sys.stdout.isatty()  # else what is printed goes elsewhere, and must not come here
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            refresh_per_second=4,
            expand=False,
            redirect_stdout=whole,
            redirect_stderr=whole,
        )
        self._task = self._progress.add_task("starting the process", total=None, figures="")
        self.start, self.stop = self._progress.start, self._progress.stop

    def tick(self, state: RunState, status: str) -> None:
        done, total, left_s = state.step, state.total_steps, state.eta_s
        text = short(format.phase(state.phase)) or "starting the process"
        if state.phase == "downloading":
            text = short(format.phase(state.phase, state.phase_detail))
        if (counted := state.progress) is not None:
            text = short(format.phase(counted.name, wording.progress_detail(counted)))
            done, total, left_s = counted.done, counted.total, math.nan  # the text has it
        elif status == "paused":
            text, left_s = f"paused at step {done}/{total}", math.nan
        elif state.phase == "training" and total:
            text = f"step {done}/{total}"
        elif state.phase != "training":
            left_s = math.nan
        parts = latest_values(state)
        if math.isfinite(left_s):
            parts.insert(0, f"{format.duration(left_s)} left")
        self._progress.update(
            self._task, description=text, total=total or None, completed=done, figures="  ".join(parts)
        )


class LiveProgress:
    """A progress line on a terminal; events scroll above it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, stderr=sys.stderr.isatty())
        self._line = ProgressLine(self.console)
        self.tick = self._line.tick

    def __enter__(self) -> LiveProgress:
        self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()

    def event(self, line: LogLine, _state: RunState) -> None:
        event = line.event
        if isinstance(event, PhaseEvent | ProgressEvent | StepEvent | DownloadEvent):
            return  # the line shows it
        if text := wording.line(event, LONGEST_TEXT):
            style = next((style for kind, style in _STYLES.items() if isinstance(event, kind)), "")
            self.console.print(Text(text, style=style))

    def note(self, text: str) -> None:
        self.console.print(Text(text, style="bold yellow"))


class LinesWithProgress:
    """Lines or JSON in a pipe, and a progress line on stderr, which is a terminal."""

    def __init__(self, lines: Display) -> None:
        self._lines = lines
        self._line = ProgressLine(console := Console(stderr=True, highlight=False))
        self.event, self.tick, self._console = lines.event, self._line.tick, console

    def __enter__(self) -> LinesWithProgress:
        self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()

    def note(self, text: str) -> None:
        self._console.print(Text(text))


def display_for(as_json: bool, every_s: float | None = None) -> Display:
    """JSON or sentences where requested, a progress line on a terminal, else lines."""
    if every_s is not None and not as_json:
        return cli_plain.Sentences(every_s)
    lines: Display = JsonLines() if as_json else PlainLines()
    if sys.stdout.isatty():
        return lines if as_json else LiveProgress()
    return LinesWithProgress(lines) if sys.stderr.isatty() else lines


POLL_S = 0.1


#: A second Ctrl+C within this time stops the run; without one the follower detaches.
SECOND_CTRL_C_S = 3.0


class Interrupts:
    """Counts Ctrl+C instead of raising KeyboardInterrupt."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._count)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def follow(run: Run, as_json: bool, watcher: Watcher | None = None, every_s: float | None = None) -> int:
    """Shows a run until it ends; the exit code. With a ``watcher`` that has already read the log (a resume)
    only new events are shown. ``every_s``: in plain sentences, printed this many seconds apart."""
    attempt_before, end_before = (watcher.state.attempt, watcher.state.end) if watcher else (0, None)
    watcher = watcher or Watcher(run)
    with Interrupts() as interrupts, display_for(as_json, every_s) as display:
        detached = _follow_until_end(run, watcher, display, interrupts, attempt_before)
        if not detached:
            _wait_for_exit(run)
            watcher.poll()
        status = run_status(watcher)
    if end_before and status in ENDED and watcher.state.end == end_before:
        status = "crashed"  # still the end of the previous attempt: the new one wrote nothing
    plain = every_s is not None
    if status in ENDED and notify.terminal_wanted() and sys.stderr.isatty():
        sys.stderr.write(notify.terminal_sequences(notify.ended(watcher).text))
        sys.stderr.flush()
    return print_end(run, watcher, status, as_json, plain, detached, interrupted=interrupts.count > 0)


def run_status(watcher: Watcher) -> str:
    state = watcher.status
    # its lock is free and its log is empty: it crashed before the first event
    return "crashed" if state == "created" and not is_locked(watcher.run) else state


def _follow_until_end(
    run: Run, watcher: Watcher, display: Display, interrupts: Interrupts, attempt_before: int
) -> bool:
    """Whether the follower was detached before the end of the run."""
    seen_interrupts, detach_at = 0, float("inf")
    stopping = False
    while True:
        lines = watcher.read_lines(max_records=500, max_s=0.1)
        for line in lines:
            display.event(line, watcher.state)
        status = run_status(watcher)
        display.tick(watcher.state, status)
        # the end of the previous attempt counts only when no new one starts
        ended = status in ENDED and (watcher.state.attempt > attempt_before or not is_locked(run))
        if ended and not lines and watcher.at_end:
            return False
        if interrupts.count > seen_interrupts:
            seen_interrupts = interrupts.count
            if stopping:
                display.note(f"detached; `tui-lab watch {run.id}` follows it")
                return True
            if detach_at == float("inf"):
                detach_at = time.monotonic() + SECOND_CTRL_C_S
                display.note(_detach_note(run))
            if seen_interrupts > 1:
                stopping, detach_at = True, float("inf")
                commands.send(run, "stop")
                display.note(
                    "stopping after the current step and saving; Ctrl+C again detaches without waiting"
                )
        if time.monotonic() > detach_at and not stopping:
            return True
        if not lines:
            time.sleep(POLL_S)


def _wait_for_exit(run: Run) -> None:
    """Waits for the process of an ended run, which still writes its report."""
    deadline = time.monotonic() + folder.LEAVING_PATIENCE_S
    while is_locked(run) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _detach_note(run: Run) -> str:
    return (
        f"detached: the run continues. `tui-lab watch {run.id}` or the lab (`tui-lab`) shows it, "
        f"`tui-lab stop {run.id}` stops it. Ctrl+C again within {SECOND_CTRL_C_S:.0f} s stops it now."
    )


def print_end(
    run: Run, watcher: Watcher, status: str, as_json: bool, plain: bool, detached: bool, interrupted: bool
) -> int:
    result = result_of(run, watcher, status)
    if status == "crashed":
        tail = [sanitize(line) for line in run.log_tail()]
        result = replace(result, message=sanitize(crash_reason.sentence(run, watcher.state)))
        note(f"tui-lab: run {run.id} crashed: {result.message}")
        for line in tail:
            note(f"  {line}")
        if run.recipe_path.exists():  # else there is nothing to resume
            note(f"`tui-lab resume {run.id}` continues from its newest checkpoint.")
    elif status == "failed":
        note(f"tui-lab: run {run.id} failed: {sanitize(result.message)}")
    if as_json:
        json_line(result)
    elif plain and status in ENDED:
        for sentence in cli_plain.summary(result, watcher.state):
            print(sentence, flush=True)
    elif status in ("finished", "stopped"):
        _print_result(result, watcher)
    if interrupted and (detached or status == "stopped"):
        return EXIT_INTERRUPTED
    return EXIT_FAILED if status in ("failed", "crashed") else EXIT_OK


def _print_result(result: RunResult, watcher: Watcher) -> None:
    state = watcher.state
    print(f"{result.state} at step {result.step} after {format.duration(result.seconds)}")
    if result.message:
        print_text(f"  {short(result.message)}")
    first = state.validation.values[0] if len(state.validation.values) > 1 else None
    change = f"{format.significant(first)} → " if first is not None else ""
    validation = format.significant(result.validation_loss)
    print_text(f"  loss {format.significant(result.train_loss)}, validation {change}{validation}")
    gained = result.acquisition
    if gained.name:
        before, after = format.significant(gained.start, 3), format.significant(gained.end, 3)
        print_text(f"  acquisition {before} → {after} ({short(format.metric_name(gained.name))})")
    if spent := _cost_text(state, result.state):
        print_text(f"  {spent}")
    if saved := result.saved:
        near = Path(saved).is_relative_to(Path.cwd())
        print(f"  {sanitize(os.path.relpath(saved) if near else saved)}")


def _cost_text(state: RunState, status: str) -> str:
    """Money, energy and MFU as far as known; an invalid setting is reported on stderr."""
    from tui_lab.forecast import cost
    from tui_lab.runs import cost_so_far

    try:
        tariff = cost.prices()
    except LabError as error:
        note(f"tui-lab: {error}")
        tariff = cost.Prices()
    return sanitize(cost_so_far.describe(cost_so_far.cost_so_far(state, status, tariff), tariff, True))
