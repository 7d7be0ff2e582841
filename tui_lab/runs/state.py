"""The state of a run: a fold over the events of its log, and all that panes and commands draw from.

:class:`RunState` takes events in order, in any number of portions, and may be read at any time. The cost of
an event does not grow with the length of the run. ``resumed`` begins an attempt: what lies after its step
belongs to the attempt before, and is dropped. :class:`Watcher` reads the log of a run into a state, bounded
per call; none of its properties reads the log.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableSequence
from typing import TypeVar

from tui_lab.core.errors import LabError
from tui_lab.core.format import as_float
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.statistics import Interval
from tui_lab.retention.verdict import CANNOT_TELL
from tui_lab.runs.curves import Curve
from tui_lab.runs.event_parts import MOST_STEPS
from tui_lab.runs.events import EventTail, LogLine, last_event
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.schema import (
    ArmedEvent,
    CheckpointEvent,
    ChoiceEvent,
    CommandEvent,
    ContinuedEvent,
    DataEvent,
    DownloadEvent,
    EndEvent,
    ForecastEvent,
    InputsEvent,
    ItemProbeEvent,
    KlProbeEvent,
    LadderCostEvent,
    LadderEvent,
    ModelEvent,
    PausedEvent,
    PhaseEvent,
    PlanEvent,
    ProbePlanEvent,
    ProgressEvent,
    RecipeChangedEvent,
    ResumedEvent,
    RunEvent,
    SampleEvent,
    SavedEvent,
    ScoreEvent,
    SelfDistillationEvent,
    StartedEvent,
    StepEvent,
    TelemetryEvent,
    UnknownEvent,
    ValidationEvent,
    WarningEvent,
)
from tui_lab.runs.telemetry import Telemetry
from tui_lab.runs.verdicts import BASELINE
from tui_lab.runs.wording import download_detail

#: Events of the feed and samples at most: a run of a week must not fill the lab's memory.
FEED_LENGTH = 500
SAMPLES_LENGTH = 200
#: Terms of the loss that are followed.
MOST_PARTS = 32

#: Every state a run can be in.
STATES = ("created", "starting", "running", "paused", "finished", "stopped", "failed", "crashed")
ENDED = ("finished", "stopped", "failed", "crashed")

#: What follows the end of what a progress was of.
_END_PROGRESS = (
    PhaseEvent,
    StepEvent,
    ValidationEvent,
    ScoreEvent,
    KlProbeEvent,
    ItemProbeEvent,
    ResumedEvent,
    EndEvent,
)

Stepped = TypeVar("Stepped", ScoreEvent, SampleEvent, CheckpointEvent, KlProbeEvent, ItemProbeEvent)


def _drop_after(events: MutableSequence[Stepped], last_step: int) -> None:
    """Drops the events at the end whose step is later."""
    while events and events[-1].step > last_step:
        events.pop()


def _add_parts(curves: dict[str, Curve], step: int, parts: Mapping[str, float]) -> None:
    for name, value in parts.items():
        if name not in curves and len(curves) < MOST_PARTS:
            curves[name] = Curve()
        if name in curves:
            curves[name].add(step, value)


class RunState:
    """The state of one run. Feed it with :meth:`apply`. ``feed``: the newest events that are worth a line;
    ``version`` grows with every event."""

    def __init__(self) -> None:
        self.attempt = 0
        self.phase = ""
        self.phase_detail = ""
        self.progress: ProgressEvent | None = None
        self.stopping = False
        self.started: StartedEvent | None = None
        self.started_at = 0.0
        self.updated_at = 0.0
        self.model: ModelEvent | None = None
        self.data: DataEvent | None = None
        self.self_distillation: SelfDistillationEvent | None = None
        self.inputs: InputsEvent | None = None
        self.plan: PlanEvent | None = None
        self.step = 0
        self.last_step: StepEvent | None = None
        self.loss = Curve()
        self.validation = Curve()
        self.accuracy = Curve()  # of training steps: the share of trained tokens that were the likeliest
        self.validation_accuracy = Curve()
        self.learning_rate = Curve()
        self.grad_norm = Curve()
        self.tok_per_s = Curve()
        self.memory: dict[str, Curve] = {}
        self.parts: dict[str, Curve] = {}  # terms and figures of the loss besides cross-entropy
        self.held_out_parts: dict[str, Curve] = {}  # figures of a preference loss on held-out answers
        self.telemetry = Telemetry()
        self.forecast: ForecastEvent | None = None
        self.scores: list[ScoreEvent] = []
        self.samples: deque[SampleEvent] = deque(maxlen=SAMPLES_LENGTH)
        self.kl_probes: list[KlProbeEvent] = []
        self.item_probes: list[ItemProbeEvent] = []
        self.probe_plan: ProbePlanEvent | None = None
        self.armed = False
        self.ladder: list[LadderEvent] = []
        self.ladder_cost: LadderCostEvent | None = None
        self.feed: deque[RunEvent] = deque(maxlen=FEED_LENGTH)
        self.checkpoints: list[CheckpointEvent] = []
        self.saved: SavedEvent | None = None
        self.paused = False
        self.end: EndEvent | None = None
        self.acknowledged: set[str] = set()
        self.version = 0
        self._choices: dict[str, ChoiceEvent] = {}
        self._warnings: dict[str, None] = {}

    # ------------------------------------------------------------------ feeding

    def apply(self, events: Iterable[RunEvent]) -> bool:
        """Takes events in order; whether anything changed."""
        before = self.version
        for event in events:
            if not isinstance(event, UnknownEvent):
                self._apply(event)
                if math.isfinite(event.t):
                    self.updated_at = event.t or self.updated_at
                self.version += 1
        return self.version != before

    def _apply(self, event: RunEvent) -> None:
        if isinstance(event, _END_PROGRESS):
            self.progress = None
        match event:
            case StepEvent():
                self._take_step(event)
            case TelemetryEvent():
                self.telemetry.add(event)
            case ResumedEvent():
                self._begin_attempt(event)
            case StartedEvent():
                self.started = event
                self.started_at = self.started_at or event.t
            case PhaseEvent():
                self.phase, self.phase_detail = event.name, event.detail
            case ProgressEvent():
                self.progress = event
            case DownloadEvent():
                self.phase, self.phase_detail = "downloading", download_detail(event)
            case ChoiceEvent():
                self._choices.pop(event.field, None)
                self._choices[event.field] = event
            case ModelEvent():
                self.model = event
            case DataEvent():
                self.data = event
            case SelfDistillationEvent():
                self.self_distillation = event
                self.feed.append(event)
            case InputsEvent():
                self.inputs = event
            case PlanEvent():
                self.plan = event
            case ForecastEvent():
                self.forecast = event
            case WarningEvent():
                self._warnings.setdefault(event.text)
                self.feed.append(event)
            case RecipeChangedEvent():
                self.feed.append(event)
            case LadderEvent():
                # stays over attempts: what did not fit will not fit the next time either
                self.ladder.append(event)
                self.feed.append(event)
            case LadderCostEvent():
                self.ladder_cost = event
                self.feed.append(event)
            case ValidationEvent():
                self.validation.add(event.step, event.loss)
                self.validation_accuracy.add(event.step, event.accuracy)
                _add_parts(self.held_out_parts, event.step, event.parts)
                self.feed.append(event)
            case ScoreEvent():
                self.scores.append(event)
                self.feed.append(event)
            case SampleEvent():
                self.samples.append(event)
            case KlProbeEvent():
                # measured again (an attempt from the start, weights of the best step): the newest counts
                _drop_after(self.kl_probes, event.step - 1)
                self.kl_probes.append(event)
            case ItemProbeEvent():
                _drop_after(self.item_probes, event.step - 1)
                self.item_probes.append(event)
                self.feed.append(event)
            case ProbePlanEvent():
                self.probe_plan = event
                self.feed.append(event)
            case ArmedEvent():
                if event.on != self.armed:
                    self.armed = event.on
                    self.feed.append(event)
            case CheckpointEvent():
                self.checkpoints.append(event)
                self.feed.append(event)
            case CommandEvent():
                self.acknowledged.add(event.id)
                self.stopping = self.stopping or (event.name == "stop" and event.outcome.startswith("stop"))
                self.feed.append(event)
            case PausedEvent() | ContinuedEvent():
                self.paused = isinstance(event, PausedEvent)
                self.feed.append(event)
            case SavedEvent():
                self.saved = event
                self.feed.append(event)
            case EndEvent():
                self.end, self.paused, self.stopping = event, False, False
                self.feed.append(event)

    def _begin_attempt(self, event: ResumedEvent) -> None:
        from_step = event.from_step
        self.attempt = event.attempt or self.attempt + 1
        for curve in self.curves():
            curve.cut(from_step)
        self.telemetry.cut(from_step)
        # an attempt from the beginning measures the untrained model again
        _drop_after(self.scores, from_step or -1)
        _drop_after(self.samples, from_step or -1)
        _drop_after(self.kl_probes, from_step)
        _drop_after(self.item_probes, from_step)
        _drop_after(self.checkpoints, from_step)
        self.step, self.last_step, self.end, self.paused = from_step, None, None, False
        self.stopping = False
        if self.attempt > 1:
            self.feed.append(event)

    def _take_step(self, event: StepEvent) -> None:
        step = self.step = event.step
        self.last_step = event
        self.loss.add(step, event.loss)
        self.accuracy.add(step, event.accuracy)
        self.learning_rate.add(step, event.learning_rate)
        self.grad_norm.add(step, event.grad_norm)
        self.tok_per_s.add(step, event.tok_per_s)
        for label, used in event.memory.items():
            curve = self.memory.get(label)
            if curve is None:
                curve = self.memory[label] = Curve()
            curve.add(step, used)
        _add_parts(self.parts, step, event.parts or {})

    # ------------------------------------------------------------------ reading

    def curves(self) -> list[Curve]:
        """Every curve."""
        named = [self.loss, self.validation, self.learning_rate, self.grad_norm, self.tok_per_s]
        named += [self.accuracy, self.validation_accuracy]
        return [*named, *self.memory.values(), *self.parts.values(), *self.held_out_parts.values()]

    @property
    def overfitting_gap(self) -> float:
        """(training − held-out accuracy) / training accuracy of tokens at the last validation, at most 1; the
        training accuracy is the mean of the steps since the validation before. NaN where not measured, and
        for preferences, whose training compares answers."""
        held_out, steps = self.validation_accuracy, self.validation_accuracy.steps
        if not steps or self.trains_preferences:
            return math.nan
        since = steps[-2] if len(steps) > 1 else 0
        pairs = zip(self.accuracy.steps, self.accuracy.values, strict=True)
        seen = [value for step, value in pairs if since < step <= steps[-1] and math.isfinite(value)]
        mean = sum(seen) / len(seen) if seen else 0.0
        return (mean - held_out.last) / mean if mean > 0 else math.nan

    @property
    def task_sigmas(self) -> dict[str, Curve]:
        """The learned uncertainty (Kendall's σ) of each task."""
        start = "sigma "
        return {name.removeprefix(start): each for name, each in self.parts.items() if name.startswith(start)}

    @property
    def trains_preferences(self) -> bool:
        """Whether the training loss compares answers, so that it is no likelihood."""
        return "chosen_log_probability" in self.parts or "kl_estimate" in self.parts

    @property
    def choices(self) -> list[ChoiceEvent]:
        """The newest choice of each field."""
        return list(self._choices.values())

    @property
    def warnings(self) -> list[str]:
        """Every warning once, in order."""
        return list(self._warnings)

    @property
    def total_steps(self) -> int:
        """Steps planned; 0 while unknown."""
        return min(MOST_STEPS, self.plan.total_steps) if self.plan else 0

    @property
    def eta_s(self) -> float:
        """Seconds to the end of the training; NaN while unknown."""
        return as_float(self.last_step.eta_s) if self.last_step else math.nan

    def score(self, when: str) -> float:
        """The task's own score at ``when`` ("start" or "end"), 0..1; NaN when it was not measured."""
        return next((score.value for score in reversed(self.scores) if score.when == when), math.nan)

    @property
    def score_name(self) -> str:
        """The name of the task's own score; "" when it was not measured."""
        return self.scores[-1].name if self.scores else ""

    @property
    def retention(self) -> Interval | None:
        """The newest retention with its interval; None before the first item probe of a tuned model, and
        where the base is at chance."""
        newest = self.item_probes[-1] if self.item_probes else None
        return newest.headline if newest and newest.outcome not in (BASELINE, CANNOT_TELL) else None

    @property
    def verdict(self) -> str:
        """The newest item probe's verdict, one of :data:`tui_lab.runs.verdicts.VERDICTS`; "" before the
        first."""
        return self.item_probes[-1].outcome if self.item_probes else ""

    @property
    def peak_memory(self) -> dict[str, float]:
        """The highest value seen by memory label, bytes."""
        return {label: max(curve.values, default=0.0) for label, curve in self.memory.items()}

    def status(self, locked: bool) -> str:
        """The run's state, given whether a process holds its lock: one of :data:`STATES`."""
        if locked:
            return "paused" if self.paused else "running" if self.step or self.phase else "starting"
        if self.end:
            return end_state(self.end)
        return "crashed" if self.attempt else "created"


def end_state(end: EndEvent) -> str:
    """The state that an end says: one of :data:`ENDED`."""
    return end.state if end.state in ENDED else "finished"


class Watcher:
    """Watches a run: its recipe, the tail of its log and its state. Cheap to poll.

    ``at_end``: whether the newest read reached the end of the log.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.state = RunState()
        self.problem = ""
        self._tail = EventTail(run.events_path)
        self._restarts = 0
        self._recipe: Recipe | None = None
        self._seen_bytes = 0  # of the log, by the newest read
        self._unread_end: EndEvent | None = None  # of a log that is not read to its end
        self._observe_end()

    @property
    def recipe(self) -> Recipe | None:
        """The recipe, or None with :attr:`problem` set when it cannot be read."""
        if self._recipe is None and not self.problem:
            try:
                self._recipe = self.run.recipe()
            except LabError as error:
                self.problem = str(error)
        return self._recipe

    @property
    def at_end(self) -> bool:
        """Whether the newest read reached the end of the log."""
        return self._tail.at_end

    @property
    def end(self) -> EndEvent | None:
        """The end of the newest attempt, also where the log is not read that far."""
        return self.state.end or self._unread_end

    @property
    def damage(self) -> str:
        """The newest line of the log that is not a valid event, in a sentence; "" when all are."""
        return self._tail.problem

    def read_lines(self, max_records: int = 2_000, max_s: float = 0.02) -> list[LogLine]:
        """Reads what is new, bounded, into the state; the events with their lines."""
        found = self._tail.read_lines(max_records, max_s)
        if self._tail.restarts != self._restarts:
            self._restarts, self.state = self._tail.restarts, RunState()
        self.state.apply(each.event for each in found)
        self._observe_end()
        return found

    def read_events(self, max_records: int = 2_000, max_s: float = 0.02) -> list[RunEvent]:
        """Reads what is new, bounded, into the state; the events."""
        return [each.event for each in self.read_lines(max_records, max_s)]

    def poll(self, max_records: int = 2_000, max_s: float = 0.02) -> bool:
        """Reads what is new, bounded; whether the state changed."""
        state, version = self.state, self.state.version
        self.read_lines(max_records, max_s)
        return self.state is not state or self.state.version != version

    def read_all(self) -> RunState:
        """Reads everything, however long the log is: for commands that have no screen to keep responsive."""
        while self.poll(max_records=100_000, max_s=math.inf) or not self.at_end:
            pass
        return self.state

    def iter_lines(self) -> Iterator[LogLine]:
        """All lines that are there now, one at a time, each as soon as the state has it."""
        while (found := self.read_lines(max_records=1, max_s=60.0)) or not self.at_end:
            yield from found

    def _observe_end(self) -> None:
        """Notes how much of the log the state covers; of a log that is not read to its end, looks for the
        end in the last 16 KiB."""
        self._unread_end = None
        if self._tail.at_end or self.state.end:
            self._seen_bytes = self._tail.offset
            return
        self._seen_bytes = self._log_bytes()
        last = last_event(self.run.events_path) if self._seen_bytes else None
        self._unread_end = last if isinstance(last, EndEvent) else None

    def _log_bytes(self) -> int:
        try:
            return self.run.events_path.stat().st_size
        except OSError:
            return 0

    @property
    def status(self) -> str:
        """One of :data:`STATES`, as of the newest read and the lock. An end counts before the lock is free.
        A free lock without an end means crashed, unless the log has grown since: the next read shows why."""
        if self.state.end:
            return end_state(self.state.end)
        if is_locked(self.run) or self._log_bytes() != self._seen_bytes:
            return self.state.status(locked=True)
        if self._unread_end:
            return end_state(self._unread_end)
        state = self.state.status(locked=False)
        # started, yet dead before its first event: its log has the reason
        return "crashed" if state == "created" and self.run.was_started else state
