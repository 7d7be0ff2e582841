"""What a run's event log says, reduced to one picture: the only thing that panes and commands draw from.

:class:`RunState` takes events in order, in any number of portions, and may be read at any time. Unknown
kinds and malformed fields are passed over, so that an old lab can watch a new run. ``resumed`` begins
an attempt: what lies after its step belongs to the attempt that died, and is dropped.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.format import as_float, finite
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventTail
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.telemetry import Telemetry
from tui_lab.runs.verdicts import VERDICTS

#: Lines kept for the event list, and samples: a run of a week must not fill the lab's memory.
NOTES_KEPT = 500
#: No training takes more: a record with a later step is damaged.
MOST_STEPS = 10**12
SAMPLES_KEPT = 200

#: Every state a run can be in.
STATES = ("created", "starting", "running", "paused", "finished", "stopped", "failed", "crashed")
ENDED = ("finished", "stopped", "failed", "crashed")


@dataclass
class Curve:
    """Values by step, for one plot. ``steps`` rises; NaN is a gap."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: Any) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        number = float(value)  # fails before anything is changed, where it does
        if self.steps and step <= self.steps[-1]:
            self.cut(step - 1)
        self.steps.append(step)
        self.values.append(number)

    def cut(self, last_step: int) -> None:
        """Drops everything after ``last_step``."""
        keep = bisect_right(self.steps, last_step)
        del self.steps[keep:], self.values[keep:]

    @property
    def last(self) -> float:
        return self.values[-1] if self.values else math.nan


@dataclass(frozen=True)
class Note:
    """A line of the event list."""

    t: float
    kind: str
    text: str


def interval(value: Any) -> dict[str, float]:
    """A figure with its interval out of an event: value, low and high, NaN where the log has no number."""
    return {name: float(value[name]) for name in ("value", "low", "high")}


def headline(probe: dict[str, Any]) -> dict[str, float]:
    """The retention that an item probe is judged by: above chance where the suite has a chance level."""
    found: dict[str, float] = probe["above_chance"] or probe["retention"]
    return found


def smooth(values: Iterable[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average with bias correction (Kingma and Ba 2015, section 3); NaN stays a gap
    and does not spoil what follows."""
    average, norm, out = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            average = weight * average + (1 - weight) * value
            norm = weight * norm + (1 - weight)
            out.append(average / norm)
        else:
            out.append(math.nan)
    return out


class RunState:
    """The picture of one run. Feed it with :meth:`apply`."""

    def __init__(self) -> None:
        self.attempt = 0
        self.phase = ""
        self.phase_detail = ""
        self.started: dict[str, Any] = {}
        self.started_at = 0.0
        self.updated_at = 0.0
        self.model: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.plan: dict[str, Any] = {}
        self.choices: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.step = 0
        self.last_step: dict[str, Any] = {}
        self.loss = Curve()
        self.validation = Curve()
        self.learning_rate = Curve()
        self.grad_norm = Curve()
        self.tok_per_s = Curve()
        self.memory: dict[str, Curve] = {}
        self.telemetry = Telemetry()
        self.forecast: dict[str, Any] = {}
        self.scores: list[dict[str, Any]] = []
        self.samples: deque[dict[str, Any]] = deque(maxlen=SAMPLES_KEPT)
        self.kl_probes: list[dict[str, Any]] = []
        self.item_probes: list[dict[str, Any]] = []
        self.probe_plan: dict[str, Any] = {}
        self.armed = False
        self.ladder: list[dict[str, Any]] = []
        self.ladder_cost: dict[str, Any] = {}
        self.notes: deque[Note] = deque(maxlen=NOTES_KEPT)
        self.checkpoints: list[dict[str, Any]] = []
        self.saved: dict[str, Any] = {}
        self.paused = False
        self.end: dict[str, Any] = {}
        self.acknowledged: set[str] = set()
        self.version = 0

    # ------------------------------------------------------------------ feeding

    def apply(self, events: Iterable[dict[str, Any]]) -> bool:
        """Takes events in order; whether anything changed."""
        before = self.version
        for event in events:
            handler = getattr(self, f"_on_{event.get('kind')}", None)
            step = event.get("step")
            if handler is None or (isinstance(step, int | float) and not abs(step) <= MOST_STEPS):
                continue
            try:
                handler(event)
            except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
                continue  # a newer or damaged record: the rest of the log still counts
            self.updated_at = finite(event.get("t")) or self.updated_at
            self.version += 1
        return self.version != before

    def _note(self, event: dict[str, Any], text: str) -> None:
        self.notes.append(Note(finite(event.get("t")) or 0.0, str(event["kind"]), text))

    def _on_resumed(self, event: dict[str, Any]) -> None:
        from_step = int(event["from_step"])
        self.attempt = int(event.get("attempt", self.attempt + 1))
        for curve in self.curves():
            curve.cut(from_step)
        self.telemetry.cut(from_step)
        # an attempt from the beginning looks at the model anew before it trains
        kept = from_step or -1
        self.scores = [score for score in self.scores if score.get("step", 0) <= kept]
        self.samples = deque((s for s in self.samples if s.get("step", 0) <= kept), maxlen=SAMPLES_KEPT)
        self.checkpoints = [c for c in self.checkpoints if c.get("step", 0) <= from_step]
        self.kl_probes = [p for p in self.kl_probes if p["step"] <= from_step]
        self.item_probes = [p for p in self.item_probes if p["step"] <= from_step]
        self.step, self.end, self.paused = from_step, {}, False
        self.last_step = {}
        if self.attempt > 1:
            self._note(event, f"attempt {self.attempt} goes on from step {from_step}")

    def curves(self) -> list[Curve]:
        """Every curve, for what concerns them all."""
        named = [self.loss, self.validation, self.learning_rate, self.grad_norm, self.tok_per_s]
        return named + list(self.memory.values())

    def _on_started(self, event: dict[str, Any]) -> None:
        self.started = event
        self.started_at = self.started_at or float(event.get("t", 0.0))

    def _on_phase(self, event: dict[str, Any]) -> None:
        self.phase, self.phase_detail = str(event["name"]), str(event.get("detail") or "")

    def _on_choice(self, event: dict[str, Any]) -> None:
        self.choices = [c for c in self.choices if c.get("field") != event["field"]] + [event]

    def _on_model(self, event: dict[str, Any]) -> None:
        self.model = event

    def _on_data(self, event: dict[str, Any]) -> None:
        self.data = event

    def _on_plan(self, event: dict[str, Any]) -> None:
        self.plan = {**event, "total_steps": int(event["total_steps"])}

    def _on_warning(self, event: dict[str, Any]) -> None:
        text = str(event["text"])
        if text not in self.warnings:
            self.warnings.append(text)
        self._note(event, text)

    def _on_recipe_changed(self, event: dict[str, Any]) -> None:
        for change in event["changes"]:
            what = f"{change['field']}: {change['before']} → {change['after']}"
            self._note(event, f"{what} ({change['weight']}: {change['text']})")

    def _on_ladder(self, event: dict[str, Any]) -> None:
        # kept over attempts: what did not fit will not fit the next time either
        rung, text, cost = str(event["rung"]), str(event["text"]), str(event.get("cost") or "")
        after = event.get("after")
        self.ladder.append(
            {
                **event,
                "step": int(event["step"]),
                "rung": rung,
                "text": text,
                "cost": cost,
                "after": after if isinstance(after, dict) else {},
            }
        )
        self._note(event, f"{text} (it costs: {cost})" if cost else text)

    def _on_ladder_cost(self, event: dict[str, Any]) -> None:
        self.ladder_cost = {**event, "text": str(event["text"])}
        self._note(event, self.ladder_cost["text"])

    def _on_step(self, event: dict[str, Any]) -> None:
        step = int(event["step"])
        self.step, self.last_step = step, event
        self.loss.add(step, event.get("loss"))
        self.learning_rate.add(step, event.get("learning_rate"))
        self.grad_norm.add(step, event.get("grad_norm"))
        self.tok_per_s.add(step, event.get("tok_per_s"))
        for label, used in (event.get("memory") or {}).items():
            self.memory.setdefault(str(label), Curve()).add(step, used)

    def _on_telemetry(self, event: dict[str, Any]) -> None:
        self.telemetry.add(event)

    def _on_forecast(self, event: dict[str, Any]) -> None:
        self.forecast = {**event, "total": float(event["total"])}

    def _on_eval(self, event: dict[str, Any]) -> None:
        step = int(event["step"])
        self.validation.add(step, event["loss"])
        self._note(event, f"validation loss {event['loss']:.4f} at step {step}")

    def _on_score(self, event: dict[str, Any]) -> None:
        name, value = str(event["name"]), float(event["value"])
        self.scores.append({**event, "name": name, "value": value, "step": int(event.get("step", 0))})
        self._note(event, f"{name} {value:.3f} on {event.get('rows', '?')} held-out rows")

    def _on_sample(self, event: dict[str, Any]) -> None:
        prompt, text = str(event["prompt"]), str(event["text"])
        self.samples.append({**event, "prompt": prompt, "text": text, "step": int(event["step"])})

    def _on_kl_probe(self, event: dict[str, Any]) -> None:
        parts = {name: interval(event[name]) for name in ("general", "task")}
        step = int(event["step"])
        # measured again (an attempt from the start, weights of the best step): the newest counts
        self.kl_probes = [p for p in self.kl_probes if p["step"] < step] + [{**event, **parts, "step": step}]

    def _on_item_probe(self, event: dict[str, Any]) -> None:
        above, change = event.get("above_chance"), event.get("logprob_change")
        probe = {
            **event,
            "step": int(event["step"]),
            "retention": interval(event["retention"]),
            "above_chance": None if above is None else interval(above),
            "logprob_change": None if change is None else interval(change),
        }
        figures = headline(probe)
        name = str(event["verdict"])
        _, verdict = VERDICTS.get(name, ("", name.replace("_", " ")))
        self.item_probes = [p for p in self.item_probes if p["step"] < probe["step"]] + [probe]
        self._note(
            event,
            f"retention {figures['value']:.2f} ({figures['low']:.2f} to {figures['high']:.2f}) on "
            f"{event['n']} items of {event['suite']} at step {probe['step']}: {verdict}",
        )

    def _on_probe_plan(self, event: dict[str, Any]) -> None:
        self.probe_plan = event
        self._note(event, str(event.get("reason") or "probes planned"))

    def _on_armed(self, event: dict[str, Any]) -> None:
        changed, self.armed = self.armed, event["on"] is True
        if changed != self.armed:
            says = "armed: the run stops when retention is surely lost" if self.armed else "disarmed"
            self._note(event, says)

    def _on_checkpoint(self, event: dict[str, Any]) -> None:
        step = int(event["step"])
        self.checkpoints.append({**event, "step": step})
        self._note(event, f"checkpoint at step {step}")

    def _on_command(self, event: dict[str, Any]) -> None:
        self.acknowledged.add(str(event["id"]))
        self._note(event, f"{event['name']}: {event.get('outcome', '')}")

    def _on_paused(self, event: dict[str, Any]) -> None:
        self.paused = True
        self._note(event, f"paused at step {event['step']}")

    def _on_continued(self, event: dict[str, Any]) -> None:
        self.paused = False
        self._note(event, f"continued at step {event['step']}")

    def _on_saved(self, event: dict[str, Any]) -> None:
        self.saved = event
        self._note(event, f"{event.get('what', 'adapter')} saved")

    def _on_end(self, event: dict[str, Any]) -> None:
        self.end, self.paused = event, False
        self._note(event, str(event.get("message") or event.get("state") or "ended"))

    # ------------------------------------------------------------------ reading

    @property
    def total_steps(self) -> int:
        """Steps planned; 0 while unknown."""
        return min(MOST_STEPS, int(self.plan.get("total_steps") or 0))

    @property
    def eta_s(self) -> float:
        """Seconds to the end of the training; NaN while unknown."""
        return as_float(self.last_step.get("eta_s"))

    def score(self, when: str) -> float:
        """The task's own score at ``when`` ("start" or "end"), 0..1; NaN when it was not measured."""
        found = [s for s in self.scores if s.get("when") == when]
        return float(found[-1]["value"]) if found else math.nan

    @property
    def score_name(self) -> str:
        return str(self.scores[-1]["name"]) if self.scores else ""

    @property
    def retention(self) -> dict[str, float] | None:
        """The newest retention with its interval (:func:`headline`); None before the first item probe."""
        return headline(self.item_probes[-1]) if self.item_probes else None

    @property
    def verdict(self) -> str:
        """What the newest item probe says: green, amber, red or cannot_tell; "" before the first."""
        return str(self.item_probes[-1]["verdict"]) if self.item_probes else ""

    @property
    def peak_memory(self) -> dict[str, float]:
        """The highest value seen by memory label, bytes."""
        return {label: max(curve.values, default=0.0) for label, curve in self.memory.items()}

    def status(self, locked: bool) -> str:
        """The run's state, given whether a process holds its lock: one of :data:`STATES`."""
        if locked:
            return "paused" if self.paused else "running" if self.step or self.phase else "starting"
        if self.end:
            state = self.end.get("state")
            return state if state in ENDED else "finished"
        return "crashed" if self.attempt else "created"


class Watcher:
    """A run being watched: its recipe, its log's tail and its state. Cheap to poll."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.state = RunState()
        self._tail = EventTail(run.events_path)
        self._restarts = 0
        self._untold: list[dict[str, Any]] = []  # read for the state's sake, for the next who takes events
        self._recipe: Recipe | None = None
        self.problem = ""

    @property
    def recipe(self) -> Recipe | None:
        """The recipe, or None with :attr:`problem` set when it cannot be read."""
        if self._recipe is None and not self.problem:
            try:
                self._recipe = self.run.recipe()
            except LabError as error:
                self.problem = str(error)
        return self._recipe

    def take(self, max_records: int = 2_000, max_s: float = 0.02) -> list[dict[str, Any]]:
        """Reads what is new, bounded, into the state; the events themselves."""
        untold, self._untold = self._untold, []
        return untold + self._read(max_records, max_s)

    def _read(self, max_records: int, max_s: float) -> list[dict[str, Any]]:
        events = self._tail.read(max_records, max_s)
        if self._tail.restarts != self._restarts:
            self._restarts, self.state = self._tail.restarts, RunState()
        self.state.apply(events)
        return events

    def poll(self, max_records: int = 2_000, max_s: float = 0.02) -> bool:
        """Reads what is new, bounded; whether the state changed."""
        state, version = self.state, self.state.version
        self.take(max_records, max_s)
        return self.state is not state or self.state.version != version

    def read_all(self) -> RunState:
        """Reads everything there is now."""
        while self.poll(max_records=100_000, max_s=math.inf):
            pass
        return self.state

    @property
    def status(self) -> str:
        """One of :data:`STATES`. An end that was written before the lock went counts as the end."""
        locked = is_locked(self.run)
        if locked and self.state.end:
            return str(self.state.end.get("state"))
        if not locked and not self.state.end:
            # the end may have come between the last poll and the look at the lock
            while events := self._read(100_000, math.inf):
                self._untold += events
        state = self.state.status(locked)
        # started, yet dead before its first event: its log has the reason
        return "crashed" if state == "created" and self.run.was_started else state
