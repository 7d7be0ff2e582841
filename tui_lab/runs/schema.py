"""The events of ``events.jsonl``: each kind is one struct, tagged by the field ``kind``. Lines from and to
JSON are in :mod:`tui_lab.runs.event_lines`.

To write one: ``EventWriter(path).write(StepEvent(step=3, loss=2.1))``. The writer sets version and time.
To add one: a struct here, its case in :mod:`tui_lab.runs.state`, its sentence in :mod:`tui_lab.runs.wording`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from tui_lab.data.label_records import LabelScores
from tui_lab.data.source_counts import SourceCounts
from tui_lab.hardware.telemetry import GpuRecord, ProcessRecord
from tui_lab.retention.statistics import Interval
from tui_lab.retention.verdict import deciding
from tui_lab.runs.event_parts import (
    Acquisition,
    CostFacts,
    Count,
    DeviceRecord,
    JsonValue,
    LadderSettings,
    ProbeCost,
    RecipeChange,
    Rewriting,
    ScoredExample,
    Step,
)
from tui_lab.runs.verdicts import BASELINE

EVENTS_VERSION = 1


class RunEvent(Struct, kw_only=True, frozen=True, tag_field="kind"):
    """Fields of every event. ``t``: seconds since 1970, set by the writer."""

    v: int = EVENTS_VERSION
    t: float = 0.0


class UnknownEvent(RunEvent, tag="unknown", kw_only=True, frozen=True):
    """An event of a kind that this version does not know."""

    name: str = ""


# --------------------------------------------------------------------------------------------------
# an attempt and its set-up


class ResumedEvent(RunEvent, tag="resumed", kw_only=True, frozen=True):
    """The first event of every attempt. Events after ``from_step`` of earlier attempts are superseded.
    ``attempt`` counts from 1; 0 in logs that do not have it."""

    from_step: Step
    attempt: Count = 0


class StartedEvent(RunEvent, tag="started", kw_only=True, frozen=True):
    """The process of an attempt, its libraries and its device."""

    pid: int | None = None
    host: str = ""
    versions: dict[str, str] = {}
    device: DeviceRecord | None = None
    threads: int | None = None


class PhaseEvent(RunEvent, tag="phase", kw_only=True, frozen=True):
    """What the run does from now on, see :data:`tui_lab.core.format.PHASES`."""

    name: str
    detail: str = ""


class ProgressEvent(RunEvent, tag="progress", kw_only=True, frozen=True):
    """How far a phase is: ``done`` of ``total`` of a unit, and the seconds that are left. ``name`` is that of
    a phase; a validation between two steps is no phase of its own."""

    name: str
    done: Count = 0
    total: Count = 0
    unit: str = "rows"
    left_s: float | None = None


class DownloadEvent(RunEvent, tag="download", kw_only=True, frozen=True):
    """The model or data set ``name`` is downloaded: bytes on this machine of all that is needed (0 where it
    is not known), and the speed."""

    name: str = ""
    done_bytes: float = 0.0
    total_bytes: float = 0.0
    bytes_per_s: float = 0.0


class ChoiceEvent(RunEvent, tag="choice", kw_only=True, frozen=True):
    """A value that was chosen for the user, with the reason."""

    field: str
    value: JsonValue = None
    reason: str = ""


class WarningEvent(RunEvent, tag="warning", kw_only=True, frozen=True):
    """Something that the user should know."""

    text: str


class RecipeChangedEvent(RunEvent, tag="recipe_changed", kw_only=True, frozen=True):
    """How the recipe differs from the one of the attempt before."""

    changes: list[RecipeChange]


class DataEvent(RunEvent, tag="data", kw_only=True, frozen=True):
    """The prepared data: counts of rows and tokens, and of rows that were changed or left out."""

    name: str = ""
    format: str = ""
    reason: str = ""
    scorer: str | None = None
    rows_read: int = 0
    rows_empty: int = 0
    rows_bad: int = 0
    rows_used: int = 0
    validation_rows_used: int = 0
    train_rows: int = 0
    validation_rows: int = 0
    validation_given: bool = False
    train_tokens: int = 0
    train_trained_tokens: int | None = None
    validation_tokens: int = 0
    validation_trained_tokens: int = 0
    mean_tokens: float = 0.0
    longest_tokens: int = 0
    max_length: int | None = None
    truncated: int = 0
    too_long: int = 0
    windowed: int = 0
    fully_masked: int = 0
    refused_by_template: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    leaks_removed: int = 0
    system_folded: int = 0
    mask_methods: dict[str, int] = {}
    template_source: str = ""
    end_of_turn: str | None = None
    end_of_turn_added: bool = False
    columns: dict[str, str] = {}
    unused_columns: list[str] = []
    prompts_checked: int = 0
    prompts_unlike: int = 0
    thinking_rows: int = 0
    thinking: bool = False
    sources: list[SourceCounts] = []
    replay_rows: int | None = None
    replay_source: str | None = None


class ForecastEvent(RunEvent, tag="forecast", kw_only=True, frozen=True):
    """The memory that the run is expected to take, bytes: in total with bounds, and by part."""

    total: float
    parts: Mapping[str, float] = {}
    low: float | None = None
    high: float | None = None
    device: str = ""


class ModelEvent(RunEvent, tag="model", kw_only=True, frozen=True):
    """The loaded model: its parameters, those that are trained, and kinds of linear modules."""

    parameters: int = 0
    trainable: int = 0
    modules: dict[str, int] = {}
    quantized_modules: int = 0
    quantization: str = ""
    weights_bytes: float | None = None
    chat_template_source: str = ""


class PlanEvent(RunEvent, tag="plan", kw_only=True, frozen=True):
    """The planned training: steps in total and between validations and checkpoints, and the rows of each
    validation."""

    total_steps: Step
    epochs: float | None = None
    rows: int | None = None
    eval_steps: float | None = None
    save_steps: float | None = None
    validation_rows: Count | None = None
    cost: CostFacts = CostFacts()


# --------------------------------------------------------------------------------------------------
# the training


class StepEvent(RunEvent, tag="step", kw_only=True, frozen=True):
    """A logged step. ``tokens`` counts over the whole run, padding left out; ``memory`` is in bytes by label,
    of the fullest device; ``devices`` has each device where there are several; ``parts`` are terms of the
    loss beside cross-entropy; ``accuracy``: the share (0 to 1) of trained tokens that were the likeliest."""

    step: Step
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens: float | None = None
    tok_per_s: float | None = None
    step_time_s: float | None = None
    eta_s: float | None = None
    memory: Mapping[str, float] = {}
    devices: Sequence[Mapping[str, float]] | None = None
    parts: Mapping[str, float] | None = None
    accuracy: float | None = None


class ValidationEvent(RunEvent, tag="eval", kw_only=True, frozen=True):
    """A validation: mean loss over ``rows`` held-out rows. ``when`` is "start", "during" or "end";
    ``by_source``: the loss of each data set of a mixture; ``parts``: figures of a preference loss on held-out
    answers (reward_margin, reward_accuracy, chosen_log_probability, rejected_log_probability);
    ``accuracy``: the share (0 to 1) of trained tokens that were the likeliest."""

    step: Step
    loss: float
    rows: int | None = None
    when: str = ""
    by_source: dict[str, float] = {}
    parts: dict[str, float] = {}
    accuracy: float | None = None


class ScoreEvent(RunEvent, tag="score", kw_only=True, frozen=True):
    """The task's own score (0 to 1) of greedy answers to held-out rows; ``labels`` where answers are
    labels, ``by_task`` where rows name several tasks."""

    name: str
    value: float
    step: Step = 0
    rows: int | None = None
    seconds: float | None = None
    when: str = ""
    exact: float | None = None
    token_f1: float | None = None
    rouge_l: float | None = None
    bleu: float | None = None
    chrf: float | None = None
    examples: list[ScoredExample] = []
    labels: LabelScores | None = None
    by_task: dict[str, float] = {}


class SampleEvent(RunEvent, tag="sample", kw_only=True, frozen=True):
    """A greedy answer to the recipe's sample prompt."""

    step: Step
    prompt: str
    text: str


class CheckpointEvent(RunEvent, tag="checkpoint", kw_only=True, frozen=True):
    """A checkpoint that was saved; ``reason`` is "best" for the lowest validation loss so far."""

    step: Step
    path: str = ""
    reason: str = ""


class TelemetryEvent(RunEvent, tag="telemetry", kw_only=True, frozen=True):
    """GPUs and process over the last ``seconds``; ``energy_j`` counts from the beginning of the run."""

    step: Step
    gpus: list[GpuRecord] = []
    process: ProcessRecord = ProcessRecord()
    energy_j: float | None = None
    seconds: float | None = None


class LadderEvent(RunEvent, tag="ladder", kw_only=True, frozen=True):
    """Memory ran out at ``step``, and a rung of the ladder was taken."""

    step: Step
    rung: str
    text: str
    cost: str = ""
    before: LadderSettings | None = None
    after: LadderSettings | None = None


class LadderCostEvent(RunEvent, tag="ladder_cost", kw_only=True, frozen=True):
    """How long a step takes before and after a rung was taken, seconds."""

    text: str
    step: Step = 0
    rung: str = ""
    before_s: float | None = None
    after_s: float | None = None


class CommandEvent(RunEvent, tag="command", kw_only=True, frozen=True):
    """The acknowledgement of a command."""

    id: str
    name: str
    outcome: str = ""


class PausedEvent(RunEvent, tag="paused", kw_only=True, frozen=True):
    """The run waits after ``step``."""

    step: Step


class ContinuedEvent(RunEvent, tag="continued", kw_only=True, frozen=True):
    """The run continues after a pause of ``paused_s`` seconds."""

    step: Step
    paused_s: float | None = None


# --------------------------------------------------------------------------------------------------
# retention


class ProbePlanEvent(RunEvent, tag="probe_plan", kw_only=True, frozen=True):
    """How often retention is probed, with the reason. ``share``: of the training time."""

    share: float | None = None
    expected_share: float | None = None
    kl_steps: float | None = None
    item_steps: float | None = None
    item_probes: int | None = None
    items: int | None = None
    kl_sequences: int | None = None
    kl_length: int | None = None
    base_s: float | None = None
    threshold: float | None = None
    reason: str = ""


class ArmedEvent(RunEvent, tag="armed", kw_only=True, frozen=True):
    """Whether the run stops once retention is surely lost."""

    on: bool


class KlProbeEvent(RunEvent, tag="kl_probe", kw_only=True, frozen=True):
    """KL divergence from the base in nats per token, on general text and on the task's."""

    step: Step
    general: Interval
    task: Interval
    sequences: int | None = None
    tokens: int | None = None
    seconds: float | None = None


class ItemProbeEvent(RunEvent, tag="item_probe", kw_only=True, frozen=True):
    """Items of a retention suite compared with the base: shares right before and after (``pre``, ``post``),
    flips (``b`` lost, ``c`` gained), retention, and the verdict."""

    step: Step
    retention: Interval
    verdict: str
    n: int | None = None
    suite: str = ""
    version: str = ""
    chance: float | None = None
    pre: float | None = None
    post: float | None = None
    b: int | None = None
    c: int | None = None
    above_chance: Interval | None = None
    logprob_change: Interval | None = None
    mcnemar_p: float | None = None
    seconds: float | None = None
    when: str = ""

    @property
    def headline(self) -> Interval:
        """The retention that the verdict judges; see :func:`~tui_lab.retention.verdict.deciding`."""
        return deciding(self.verdict, self.retention, self.above_chance)

    @property
    def outcome(self) -> str:
        """The verdict; before any training the base is compared with itself, which is none."""
        return BASELINE if self.when == "start" else self.verdict


# --------------------------------------------------------------------------------------------------
# the end


class SelfDistillationEvent(RunEvent, tag="self_distillation", kw_only=True, frozen=True):
    """Training answers rewritten by the base: how many of ``rows``, why others are ``kept`` as they were, and
    the first ones."""

    rows: Count
    rewritten: Count
    kept: dict[str, int] = {}
    examples: list[Rewriting] = []


class InputsEvent(RunEvent, tag="inputs", kw_only=True, frozen=True):
    """Digests of what the attempt reads: base weights, tokenizer with template, data file, encoded rows, and
    the settings that shape them; "" for what is not known."""

    base: str = ""
    tokenizer: str = ""
    data: str = ""
    rows: str = ""
    train_rows: int = 0
    validation_rows: int = 0
    settings: str = ""


class SavedEvent(RunEvent, tag="saved", kw_only=True, frozen=True):
    """What the run saved: "adapter" or "model", in the folder ``path`` of the run."""

    path: str = ""
    what: str = "adapter"
    bytes: float | None = None


class EndEvent(RunEvent, tag="end", kw_only=True, frozen=True):
    """The last event of an attempt that ended by itself: "finished", "stopped" or "failed"."""

    state: str = "finished"
    message: str = ""
    step: Step | None = None
    seconds: float | None = None
    train_loss: float | None = None
    validation_loss: float | None = None
    acquisition: Acquisition = Acquisition()
    peak_memory: Mapping[str, float] = {}
    trained_s: float | None = None
    probe: ProbeCost = ProbeCost()
    flops_per_token: float | None = None
    mfu: float | None = None
    energy_j: float | None = None
    path: str = ""


KnownEvent: TypeAlias = (
    ResumedEvent
    | StartedEvent
    | PhaseEvent
    | ProgressEvent
    | DownloadEvent
    | ChoiceEvent
    | WarningEvent
    | RecipeChangedEvent
    | DataEvent
    | SelfDistillationEvent
    | InputsEvent
    | ForecastEvent
    | ModelEvent
    | PlanEvent
    | StepEvent
    | ValidationEvent
    | ScoreEvent
    | SampleEvent
    | CheckpointEvent
    | TelemetryEvent
    | LadderEvent
    | LadderCostEvent
    | CommandEvent
    | PausedEvent
    | ContinuedEvent
    | ProbePlanEvent
    | ArmedEvent
    | KlProbeEvent
    | ItemProbeEvent
    | SavedEvent
    | EndEvent
)


def kind_of(event: RunEvent) -> str:
    """The name of an event's kind, as the field ``kind`` has it."""
    return event.name if isinstance(event, UnknownEvent) else str(type(event).__struct_config__.tag)


#: Every kind of event that this version knows.
EVENT_KINDS: frozenset[str] = frozenset(
    str(kind.__struct_config__.tag) for kind in RunEvent.__subclasses__() if kind is not UnknownEvent
)
