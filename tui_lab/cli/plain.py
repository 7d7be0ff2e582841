"""A run as plain sentences for screen readers: one per line, only words and digits, no colours, no cursor
movement, no repetition. Sentences are printed at intervals, and of each topic only the newest; warnings are
printed at once."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from tui_lab.cli.output import note
from tui_lab.cli.results import RunResult
from tui_lab.core import format
from tui_lab.core.format import plural
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import wording
from tui_lab.runs.events import LogLine
from tui_lab.runs.schema import (
    ArmedEvent,
    CommandEvent,
    LadderEvent,
    PhaseEvent,
    RunEvent,
    ScoreEvent,
    WarningEvent,
)
from tui_lab.runs.state import RunState

#: Default seconds between two groups of sentences.
EVERY_S = 10.0
#: Seconds until the first group.
FIRST_S = 1.0
#: Speed and memory are printed again after a change by this share.
SPEED_SHARE, MEMORY_SHARE = 0.2, 0.1
#: Longer texts of a run are cut.
LONGEST_TEXT = 200
#: Symbols as words.
_SPOKEN = {
    "→": " to ", "←": " from ", "×": " times ", "≈": " about ", "±": " plus or minus ", "·": ",", "–": "-",
    "—": ",", "…": "...", "%": " percent", "≤": " at most ", "≥": " at least ", "✓": "yes", "✗": "no",
    "“": '"', "”": '"', "’": "'", "₂": "2",
}  # fmt: skip


#: Units of the rest of the lab as words.
_UNITS = {"GiB": "gibibytes", "MiB": "mebibytes", "KiB": "kibibytes", "tok/s": "tokens per second",
          "kWh": "kilowatt-hours", "Wh": "watt-hours"}  # fmt: skip
_UNIT = re.compile(rf"\b({'|'.join(map(re.escape, _UNITS))})(?!\w)")


def spoken(text: object) -> str:
    """A text of the lab or of a run as one plain line."""
    line = "".join(_SPOKEN.get(char, char) for char in str(text))
    line = _UNIT.sub(lambda match: _UNITS[match[1]], line)
    line = sanitize(" ".join(line.split())).replace(" ,", ",")
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 3] + "..."


def spoken_number(value: object, digits: int = 3) -> str:
    """Significant digits; "unknown" for what is no finite number."""
    found = format.finite(value)
    return "unknown" if found is None else f"{found:.{digits}g}"


def spoken_duration(seconds: object) -> str:
    """2 hours 5 minutes, 3 minutes 20 seconds, 12 seconds: the two largest units."""
    found = format.finite(seconds)
    if found is None or found < 0:
        return "an unknown time"
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "hour"), (minutes, "minute"), (rest, "second")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(plural(count, name) for count, name in parts[:2] if count or (count, name) == parts[0])


def spoken_size(size_bytes: object) -> str:
    """1.2 gigabytes, 512 megabytes."""
    found = format.finite(size_bytes)
    if found is None:
        return "an unknown size"
    for limit, unit in ((1e9, "gigabytes"), (1e6, "megabytes"), (1e3, "kilobytes")):
        if found >= 0.9995 * limit:  # three digits round up to the next unit from here on
            return f"{found / limit:.3g} {unit}"
    return f"{found:.0f} bytes"


# --------------------------------------------------------------------------------------------------
# events as sentences; of one topic only the newest is printed


def topic_of(event: RunEvent) -> str:
    """The topic of an event: its kind, with a detail where a kind has several topics; "" for events without
    a sentence."""
    kind = str(event.__struct_config__.tag)
    match event:
        case ScoreEvent():
            return f"{kind} {event.when}"
        case CommandEvent():
            return f"{kind} {event.name}"
        case WarningEvent():
            return f"{kind} {event.text}"
        case PhaseEvent() if event.name == "training":
            return ""
    return kind if kind in SPOKEN_KINDS else ""


#: Kinds of events whose topic is the kind.
SPOKEN_KINDS = (
    "resumed", "started", "phase", "download", "model", "data", "plan", "eval", "item_probe", "armed",
    "checkpoint", "saved", "ladder",
)  # fmt: skip
#: Topics that the summary at the end contains too.
IN_SUMMARY = ("eval", "score", "item_probe", "checkpoint", "saved", "phase", "step", "download")
#: Events that are printed at once.
AT_ONCE = (WarningEvent, LadderEvent)


def sentence_of(event: RunEvent) -> str:
    """An event as a plain sentence with a full stop; "" for events without text."""
    text = spoken(wording.line(event))
    return f"{text[0].upper()}{text[1:]}{'' if text[-1] in '.!?' else '.'}" if text else ""


# --------------------------------------------------------------------------------------------------
# the display


class Sentences:
    """Prints a run as sentences (see :class:`tui_lab.cli.follow.Display`)."""

    def __init__(
        self,
        every_s: float = EVERY_S,
        output: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_s, self._clock = every_s, clock
        self._output = output or (lambda text: print(text, flush=True))
        self._next_s = clock() + min(FIRST_S, every_s)
        self._pending: dict[str, str] = {}
        self._printed: dict[str, str] = {}
        self._step = -1
        self._speed = self._memory = math.nan
        self._status = ""

    def __enter__(self) -> Sentences:
        return self

    def __exit__(self, *_: object) -> None:
        for topic in [topic for topic in self._pending if topic.startswith(IN_SUMMARY)]:
            del self._pending[topic]
        self._flush()

    def note(self, text: str) -> None:
        note(spoken(text))

    def event(self, line: LogLine, _state: RunState) -> None:
        event = line.event
        topic = topic_of(event)
        sentence = sentence_of(event) if topic else ""
        if not sentence:
            return
        printed = topic in self._printed or topic in self._pending
        if isinstance(event, ArmedEvent) and not event.on and not printed:
            return  # runs are not armed by default
        self._pending.pop(topic, None)  # the newest of a topic moves to the end
        self._pending[topic] = sentence
        if isinstance(event, AT_ONCE):
            self._flush()

    def tick(self, state: RunState, status: str) -> None:
        if status != self._status:
            before, self._status = self._status, status
            if status == "paused":
                self._pending["paused"] = f"The run is paused at step {state.step}."
                self._flush()
            elif before == "paused" and status == "running":
                self._pending["paused"] = f"The run continues at step {state.step}."
                self._flush()
        if self._clock() < self._next_s:
            return
        self._next_s = self._clock() + self.every_s
        if (sentence := self._progress(state)) and status == "running":
            self._pending["step"] = sentence
        self._flush()

    def _progress(self, state: RunState) -> str:
        """The progress of the training; speed and memory only after a change. "" without a new step."""
        if state.step == self._step or not state.last_step:
            return ""
        self._step = state.step
        total = f" of {state.total_steps:,}" if state.total_steps else ""
        parts = [f"Step {state.step:,}{total}"]
        if math.isfinite(state.loss.last):
            parts.append(f"training loss {spoken_number(state.loss.last)}")
        if _moved(state.tok_per_s.last, self._speed, SPEED_SHARE):
            self._speed = state.tok_per_s.last
            parts.append(f"{plural(float(f'{self._speed:.2g}'), 'token')} per second")
        label, used = next(iter(state.memory.items()), ("", None))
        if used is not None and _moved(used.last, self._memory, MEMORY_SHARE):
            self._memory = used.last
            parts.append(f"{spoken_size(self._memory)} of {spoken(format.memory_name(label))}")
        if math.isfinite(state.eta_s):
            parts.append(f"about {spoken_duration(state.eta_s)} to go")
        return ", ".join(parts).replace("of resident memory", "of memory") + "."

    def _flush(self) -> None:
        for topic, sentence in self._pending.items():
            if self._printed.get(topic) != sentence:
                self._printed[topic] = sentence
                self._output(sentence)
        self._pending.clear()


def _moved(value: float, before: float, share: float) -> bool:
    if not math.isfinite(value):
        return False
    return not math.isfinite(before) or abs(value - before) > share * abs(before)


def summary(result: RunResult, state: RunState) -> list[str]:
    """The end of a run in sentences."""
    lines = []
    verbs = {"finished": "finished", "stopped": "was stopped", "failed": "failed", "crashed": "crashed"}
    took = "" if format.finite(result.seconds) is None else f" after {spoken_duration(result.seconds)}"
    verb = verbs.get(result.state, f"is {result.state}")
    lines.append(f"The run {verb}{took}, at step {spoken(result.step)} of {result.total_steps}.")
    if result.message:
        lines.append(f"Its message: {spoken(result.message)}")
    losses = [value for value in state.loss.values if math.isfinite(value)]
    if losses:
        lines.append(f"Training loss went from {spoken_number(losses[0])} to {spoken_number(losses[-1])}.")
    validation = [value for value in state.validation.values if math.isfinite(value)]
    if len(validation) > 1:
        lines.append(
            f"Validation loss went from {spoken_number(validation[0])} to {spoken_number(validation[-1])}; "
            f"the best was {spoken_number(min(validation))}."
        )
    gained = result.acquisition
    if gained.name:
        before, after = format.finite(gained.start), format.finite(gained.end)
        if before is not None and after is not None:
            lines.append(
                f"Acquisition on held-out rows, {spoken(format.metric_name(gained.name))}, went from "
                f"{spoken_number(100 * before)} "
                f"to {spoken_number(100 * after)} percent."
            )
    if state.item_probes:
        lines.append(sentence_of(state.item_probes[-1]))
    peak = result.peak_memory
    for label, used in list(peak.items())[:1]:
        lines.append(f"The highest memory was {spoken_size(used)} of {spoken(format.memory_name(label))}.")
    if result.saved:
        lines.append(f"The result is in {sanitize(str(result.saved))}.")
    return lines
