"""Events in words: one sentence an event, the same in the Train pane, in the command line's progress, in
plain text, in ``tui-lab logs`` and in the report. A sentence is one line without its full stop. Texts that
come from a model, from data or from a log are sanitized here, and cut where ``longest`` is given.
"""

from __future__ import annotations

from collections.abc import Callable

from tui_lab.core import format
from tui_lab.core.format import interval, plural, significant
from tui_lab.core.sanitize import sanitize
from tui_lab.data.label_records import LabelScores
from tui_lab.data.source_counts import source_line
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.recipes.mixture import short_name
from tui_lab.retention.statistics import Interval
from tui_lab.retention.verdict import CANNOT_TELL
from tui_lab.runs.schema import (
    ArmedEvent,
    CheckpointEvent,
    ChoiceEvent,
    CommandEvent,
    ContinuedEvent,
    DataEvent,
    DownloadEvent,
    EndEvent,
    ItemProbeEvent,
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
    ValidationEvent,
    WarningEvent,
)
from tui_lab.runs.verdicts import BASELINE, VERDICTS

_ARMED = "stop on forgetting is on: the run stops when retention is significantly under its threshold"
_NOT_ARMED = "stop on forgetting is off: the run continues at any retention"
#: Figures of a preference loss that are shown beside the loss, and their names.
PREFERENCE_FIGURES = {"reward_margin": "margin", "reward_accuracy": "accuracy"}
_WHEN = {"start": "before training", "end": "after training"}


def text_line(value: object, longest: int | None = None) -> str:
    """A text from outside on one line: sanitized, and cut to ``longest`` characters."""
    text = sanitize(" ".join(str(value).split()))
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def sentence(event: RunEvent, longest: int | None = None) -> str:
    """An event in words; "" for kinds that have none (telemetry, forecast, distances from the base)."""

    def text(value: object) -> str:
        return text_line(value, longest)

    match event:
        case ResumedEvent():
            return (
                f"attempt {event.attempt} continues from step {event.from_step}" if event.attempt > 1 else ""
            )
        case StartedEvent():
            return _device(event, text)
        case PhaseEvent():
            return text(format.phase(event.name, event.detail))
        case ProgressEvent():
            return text(format.phase(event.name, progress_detail(event)))
        case DownloadEvent():
            return text(format.phase("downloading", download_detail(event)))
        case ChoiceEvent():
            return f"{text(event.field)}: {text(format.decision(event.value, event.reason))}"
        case WarningEvent() | LadderCostEvent():
            return text(event.text)
        case RecipeChangedEvent():
            changes = (
                f"{text(each.field)}: {text(each.before)} → {text(each.after)} "
                f"({text(each.weight)}: {text(each.text)})"
                for each in event.changes
            )
            return "; ".join(changes)
        case DataEvent():
            return _data(event, text)
        case SelfDistillationEvent():
            return _self_distillation(event, text)
        case ModelEvent():
            return _model(event)
        case PlanEvent():
            every = f", a validation every {event.eval_steps:g}" if event.eval_steps else ""
            return f"{plural(event.total_steps, 'step')}{every}"
        case StepEvent():
            speed = f", {significant(event.tok_per_s, 3)} tok/s" if event.tok_per_s is not None else ""
            return f"step {event.step}: loss {significant(event.loss)}{speed}"
        case ValidationEvent():
            each = ", ".join(f"{text(name)} {significant(loss)}" for name, loss in event.by_source.items())
            right = f", token accuracy {event.accuracy:.0%}" if event.accuracy is not None else ""
            sources = each and f" ({each})"
            found = f"validation loss {significant(event.loss)} at step {event.step}{right}{sources}"
            figures = [
                f"{label} {significant(event.parts[name], 3)}"
                for name, label in PREFERENCE_FIGURES.items()
                if name in event.parts
            ]
            return f"{found}, held out: {', '.join(figures)}" if figures else found
        case ScoreEvent():
            rows = f" on {plural(event.rows, 'held-out row')}" if event.rows is not None else ""
            when = _WHEN.get(event.when, f"at step {event.step}")
            metric = text(format.metric_name(event.name))
            labels = f"; {label_sentence(event.labels)}" if event.labels else ""
            return f"acquisition {significant(event.value, 3)}{rows} {when} ({metric}){labels}"
        case SampleEvent():
            return f"sample at step {event.step}: {text(event.prompt)} → {text(event.text)}"
        case CheckpointEvent():
            return f"checkpoint at step {event.step}{' (the best so far)' if event.reason == 'best' else ''}"
        case LadderEvent():
            return text(f"{event.text} (cost: {event.cost})" if event.cost else event.text)
        case CommandEvent():
            return f"{text(event.name)}: {text(event.outcome or 'done')}"
        case PausedEvent():
            return f"paused at step {event.step}"
        case ContinuedEvent():
            return f"continued at step {event.step}"
        case ProbePlanEvent():
            return text(event.reason or "probes planned")
        case ArmedEvent():
            return _ARMED if event.on else _NOT_ARMED
        case ItemProbeEvent():
            items = f" on {event.n} items of {text(event.suite)}" if event.n is not None else ""
            _, verdict = VERDICTS.get(event.outcome, ("", text(event.outcome.replace("_", " "))))
            if event.outcome in (BASELINE, CANNOT_TELL):
                return f"retention{items} at step {event.step}: {verdict}"
            return f"retention {_interval(event.headline)}{items} at step {event.step}: {verdict}"
        case SavedEvent():
            size = f" ({format.size(event.bytes)})" if event.bytes is not None else ""
            return f"{text(event.what)} saved{size}"
        case EndEvent():
            return f"{text(event.state)}: {text(event.message)}" if event.message else text(event.state)
    return ""


def progress_detail(event: ProgressEvent) -> str:
    """How far a phase is: 312 of 747 rows, 0:40 left. The unit comes from a log: callers sanitize it."""
    left = f", {format.duration(event.left_s)} left" if event.left_s is not None else ""
    return f"{event.done:,} of {event.total:,} {event.unit}{left}"


def download_detail(event: DownloadEvent) -> str:
    """What is downloaded, with bytes and speed. The name comes from a log: callers sanitize it."""
    return f"{event.name}: {format.transfer(event.done_bytes, event.total_bytes, event.bytes_per_s)}"


def line(event: RunEvent, longest: int | None = None) -> str:
    """An event for a list in which only its text shows its kind: warnings say so, and model, data,
    device and plan are named."""
    text = sentence(event, longest)
    match event:
        case WarningEvent():
            return f"warning: {text}"
        case ModelEvent() | DataEvent() | PlanEvent() if text:
            return f"{type(event).__name__.removesuffix('Event').lower()}: {text}"
    return text


def label_sentence(found: LabelScores) -> str:
    """Macro precision, recall, F1 and area under the ROC curve of data whose answers are labels."""
    area = f", AUC {significant(found.auc, 3)}" if found.auc is not None else ""
    other = f", {plural(found.other, 'answer')} no label" if found.other else ""
    return (
        f"over {len(found.labels)} labels precision {significant(found.precision, 3)}, recall "
        f"{significant(found.recall, 3)}, F1 {significant(found.f1, 3)}{area}{other}"
    )


def _interval(found: Interval) -> str:
    return interval(found.value, found.low, found.high)


def _device(event: StartedEvent, text: Callable[[object], str]) -> str:
    device = event.device
    if device is None:
        return ""
    names = [text(device.type), text(device.name)]
    threads = [plural(event.threads, "thread")] if event.threads is not None else []
    return f"device: {', '.join(name for name in [*names, *threads] if name)}"


def _data(event: DataEvent, text: Callable[[object], str]) -> str:
    tokens = f", {event.train_trained_tokens:,} trained tokens" if event.train_trained_tokens else ""
    reason = f"; {text(event.reason)}" if event.reason else ""
    columns = "".join(f"; {text(column)}: {text(use)}" for column, use in event.columns.items())
    unused = f"; not used: {', '.join(map(text, event.unused_columns))}" if event.unused_columns else ""
    rows = f"{plural(event.train_rows, 'row')} to train on, {event.validation_rows:,} held out"
    thinking = f"; {plural(event.thinking_rows, 'row')} with reasoning" if event.thinking_rows else ""
    sources = "".join(
        f"; {text(short_name(each.name))} {source_line(each, event.sources)}" for each in event.sources
    )
    return f"{rows}{tokens}{thinking}{sources}{reason}{columns}{unused}"


def _self_distillation(event: SelfDistillationEvent, text: Callable[[object], str]) -> str:
    kept = ", ".join(f"{reason} {count:,}" for reason, count in event.kept.items())
    of_all = f"{event.rewritten:,} of {plural(event.rows, 'answer')} rewritten by the base"
    first = "".join(
        f"; row {each.row + 1}: {text(each.reference)} → {text(each.text)}" for each in event.examples[:1]
    )
    return f"{of_all}{f'; the others stay as they were ({text(kept)})' if kept else ''}{first}"


def _model(event: ModelEvent) -> str:
    if not event.parameters:
        return ""
    share = event.trainable / event.parameters
    layers = f", {event.quantized_modules} layers in {QUANTIZATIONS.get(event.quantization, '4 bits')}"
    rounded = layers if event.quantized_modules else ""
    return f"{event.trainable:,} of {event.parameters:,} parameters are trained ({share:.2%}){rounded}"
