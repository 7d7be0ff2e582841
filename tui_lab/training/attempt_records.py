"""What the parts of an attempt pass on to one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tui_lab.data.prepare import PreparedData
from tui_lab.forecast.fill_card import Filled
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.catalog import Entry
from tui_lab.models.loading import ModelSource
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import Resolution, ResolvedValues
from tui_lab.runs.event_parts import CostFacts
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import InputsEvent
from tui_lab.runs.state import RunState
from tui_lab.training.control import CommandProcessor
from tui_lab.training.distributed import ProcessGroup
from tui_lab.training.probe import RetentionProbe
from tui_lab.training.progress import AttemptProgress
from tui_lab.training.recorder import EventRecorder
from tui_lab.training.samples import TaskEvaluator
from tui_lab.training.telemetry import TelemetrySampler
from tui_lab.training.trainer import LabTrainer
from tui_lab.training.types import Tokenizer


@dataclass(frozen=True)
class AttemptContext:
    """What exists from the first event on. ``before``: the state that earlier attempts left; ``checkpoint``:
    the one that training continues from; ``began_s``: when the attempt began, by the monotonic clock."""

    run: Run
    events: EventWriter
    recipe: Recipe
    group: ProcessGroup
    before: RunState
    checkpoint: Path | None
    from_step: int
    began_s: float
    recorder: EventRecorder
    probe: RetentionProbe
    commands: CommandProcessor
    telemetry: TelemetrySampler
    progress: AttemptProgress

    @property
    def initial_adapter(self) -> Path:
        """Where the adapter before training is kept, for initialisations that change the base weights."""
        return self.run.path / "initial_adapter"


@dataclass(frozen=True)
class ResolvedRecipe:
    """The recipe on this machine: its device, model and every value that it left open."""

    device: DeviceFacts
    entry: Entry
    source: ModelSource
    resolution: Resolution

    @property
    def values(self) -> ResolvedValues:
        """The resolved values, see :class:`tui_lab.recipes.resolve.Resolution`."""
        return self.resolution.values

    @property
    def compute_dtype(self) -> str:
        return self.values.compute_dtype

    @property
    def max_length(self) -> int:
        """Tokens of a row at most."""
        return self.values.max_length


@dataclass(frozen=True)
class TrainingData:
    """Encoded rows, the tokenizer that encoded them, and digests of what was read."""

    tokenizer: Tokenizer
    prepared: PreparedData
    inputs: InputsEvent


@dataclass(frozen=True)
class StepPlan:
    """The steps of the training in total, and between two samples."""

    total_steps: int
    sample_steps: int


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that training needs, ready for the first step."""

    recipe: ResolvedRecipe
    filled: Filled
    data: TrainingData
    trainer: LabTrainer
    cost: CostFacts
    plan: StepPlan
    evaluator: TaskEvaluator
