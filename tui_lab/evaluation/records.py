"""The records of evaluation jobs: requests, answers, and the files that they keep with a run. No torch.

Files and answers keep the keys of the first version; unknown keys are ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.retention import strength_grid
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.statistics import Interval

MAX_STRENGTHS = 32
DEFAULT_SUITE = "everyday"

# --- suites on demand -------------------------------------------------------------------------------


class EvaluationRequest(msgspec.Struct, frozen=True):
    """What to measure: a run by its name, or a model and perhaps an adapter."""

    suites: tuple[str, ...] = ()
    run: str = ""
    model: str = ""
    revision: str = ""
    adapter: str = ""
    limit: int = 0  # items per suite; 0 for all
    dtype: str = "auto"
    quantization: str = "auto"
    threshold: float = 0.0  # 0: that of the run, else the default
    acquisition: bool = True
    allow_large: bool = False
    runs_dir: str = ""

    def validated(self) -> EvaluationRequest:
        """The request with each suite once. Raises LabError for impossible values."""
        if not self.suites:
            raise LabError("no suite was named; `tui-lab retention --list` shows the suites")
        if self.limit < 0:
            raise LabError(f"limit is 0 (all items) or more, not {self.limit}")
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise LabError(f"dtype is auto, float32, bfloat16 or float16, not {sanitize(self.dtype)!r}")
        if self.quantization not in ("auto", "none", "nf4"):
            raise LabError(f"quantization is auto, none or nf4, not {sanitize(self.quantization)!r}")
        return msgspec.structs.replace(self, suites=tuple(dict.fromkeys(self.suites)))


def read_request(value: Mapping[str, object]) -> EvaluationRequest:
    """An evaluation request from plain values. Raises LabError."""
    return from_plain(value, EvaluationRequest, "the evaluation request").validated()


class Mean(msgspec.Struct, frozen=True):
    """A mean and its standard error."""

    value: float
    se: float


class BaseAndTuned(msgspec.Struct, frozen=True):
    """A figure before and after the training."""

    base: float
    tuned: float


class MetricChange(msgspec.Struct, frozen=True):
    """A metric over the held-out rows before and after the training."""

    base: Mean
    tuned: Mean


class HeldOutItem(msgspec.Struct, frozen=True):
    """One held-out row: ``text`` and the score by each metric, of the base and of the tuned model."""

    prompt: str
    expected: str
    base: dict[str, str | float]
    tuned: dict[str, str | float]


class AcquisitionResult(msgspec.Struct, frozen=True):
    """``retention/acquisition.json``: what a run learned of its own task. Losses are in nats per token."""

    rows: int
    scorer: str | None  # the score that the data defines, if any
    metrics: dict[str, MetricChange]
    validation_loss: BaseAndTuned
    train_loss: float
    overfitting_gap: float  # validation loss − training loss at the end
    items: list[HeldOutItem]
    v: int = 1
    of: str = ""  # the weights and how they were loaded


class EvaluationAnswer(msgspec.Struct, frozen=True):
    """The result of each suite, in the order of the request, and the acquisition of a run if it is known."""

    suites: list[SuiteResult]
    acquisition: AcquisitionResult | None = None


# --- strength sweep ---------------------------------------------------------------------------------


class SweepRequest(msgspec.Struct, frozen=True):
    """Sweeps the strengths, or only saves at a strength if ``save`` is set."""

    run: str = ""
    suite: str = DEFAULT_SUITE
    strengths: tuple[float, ...] = ()  # none: the default grid
    keep: float = strength_grid.KEEP  # share of retention that the recommended strength must keep
    limit: int = 0  # items of the suite; 0 for all
    save: float | None = None
    runs_dir: str = ""

    def validated(self) -> SweepRequest:
        """The request with its strengths in order and strength 0, the base, first. Raises LabError."""
        if not self.run:
            raise LabError("no run was named: the strength of what a run saved is changed")
        if len(self.strengths) > MAX_STRENGTHS:
            raise LabError(f"a strength sweep has at most {MAX_STRENGTHS} strengths")
        if not (math.isfinite(self.keep) and 0 < self.keep <= 1):
            raise LabError(
                f"keep is the share of retention to keep, above 0 and at most 1, not {self.keep:g}"
            )
        if self.save is not None:
            strength_grid.check_strength(self.save)
        strengths = self.strengths or strength_grid.STRENGTHS
        ordered = sorted({0.0, *(strength_grid.check_strength(strength) for strength in strengths)})
        return msgspec.structs.replace(self, strengths=tuple(ordered), limit=max(0, self.limit))


class StrengthPoint(msgspec.Struct, frozen=True):
    """What was measured at one strength, compared with strength 0. ``retention`` is above chance where the
    suite has a chance level."""

    strength: float
    acquisition: float  # mean score on the new task
    acquisition_interval: Interval
    retention: Interval
    verdict: str
    pre: float
    post: float
    b: int  # items lost
    c: int  # items gained
    mcnemar_p: float


class Recommendation(msgspec.Struct, frozen=True):
    """The recommended strength, None if there is none, and the reason."""

    strength: float | None
    reason: str


class SweepInfo(msgspec.Struct, frozen=True):
    """What was measured and how. Points with equal values belong to one curve."""

    suite: str
    version: str
    sha256: str
    n: int
    model: str
    weights: str
    quantization: str
    dtype: str
    acquisition_metric: str
    acquisition_rows: int
    v: int = 1


class StrengthCurve(SweepInfo, frozen=True, kw_only=True):
    """``retention/strength.json``: the points of a sweep in rising order of strength."""

    keep: float
    points: list[StrengthPoint]
    recommended: Recommendation
    warnings: list[str] = []

    @property
    def info(self) -> SweepInfo:
        """What was measured and how."""
        return SweepInfo(*(getattr(self, name) for name in SweepInfo.__struct_fields__))


class SavedStrength(msgspec.Struct, frozen=True):
    """The folder, inside the run's, of an adapter or model that was saved at a strength."""

    saved: str
