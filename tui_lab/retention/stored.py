"""The result files in a run's ``retention`` folder: suites, strength sweep and acquisition, each a record
that is validated once, where it is read. Unknown fields are ignored. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain
from tui_lab.retention import results, strength_grid
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.scoring.metrics import Metric
from tui_lab.retention.statistics import Interval
from tui_lab.retention.verdict import deciding

FOLDER = "retention"
STRENGTH, ACQUISITION, PROBE_BASE = "strength.json", "acquisition.json", "probe_base.json"
JUDGE = "judge.json"
NAN = math.nan


class BaseAndTuned(msgspec.Struct, frozen=True):
    """A figure before and after the training."""

    base: float = NAN
    tuned: float = NAN


class MetricChange(msgspec.Struct, frozen=True):
    """A metric over the held-out rows before and after the training."""

    base: Metric
    tuned: Metric


class HeldOutItem(msgspec.Struct, frozen=True):
    """One held-out row: ``text`` and the score by each metric, of the base and of the tuned model."""

    prompt: str
    expected: str
    base: dict[str, str | float]
    tuned: dict[str, str | float]

    @property
    def texts(self) -> tuple[str, str]:
        """The answers of the base and of the tuned model."""
        return str(self.base.get("text", "")), str(self.tuned.get("text", ""))


class AcquisitionResult(msgspec.Struct, frozen=True):
    """``acquisition.json``: what a run learned of its own task. Losses in nats per token. NaN: unknown."""

    rows: int = 0
    scorer: str | None = None  # the score that the data defines, if any
    metrics: dict[str, MetricChange] = {}
    validation_loss: BaseAndTuned = BaseAndTuned()
    train_loss: float = NAN
    overfitting_gap: float = NAN  # validation loss − training loss at the end
    accuracy_gap: float = NAN  # (training − held-out accuracy) / training accuracy of tokens at the end
    items: list[HeldOutItem] = []
    v: int = 1
    of: str = ""  # the weights and how they were loaded


class JudgedPair(msgspec.Struct, frozen=True):
    """The answers of base and tuned model to each turn of a prompt. ``win`` of the tuned model: 1, 0.5 for a
    tie, 0; null where the judge's replies could not be read."""

    turns: tuple[str, ...]
    base: tuple[str, ...]
    tuned: tuple[str, ...]
    win: float | None
    kind: str = ""


class JudgeResult(msgspec.Struct, frozen=True):
    """``judge.json``: what a judge prefers, in both orders of the answers. Rates are those of wins of the
    tuned model, a tie as half a win, with 95 % intervals: ``rate`` by the judge alone, ``calibrated`` on the
    user's votes (null with too few), ``equal_length`` by the judge at equal length of the answers, ``kinds``
    by kind of prompt. ``first``: how often the answer that stands first is chosen; ``consistent``: the share
    of pairs with the same choice in both orders; ``agreement``: the share of votes that the judge shares."""

    judge: str = ""
    prompts: str = ""
    pairs: int = 0
    unreadable: int = 0
    wins: int = 0
    ties: int = 0
    losses: int = 0
    rate: Interval = Interval(NAN, NAN, NAN)
    calibrated: Interval | None = None
    votes: int = 0
    agreement: float = NAN
    first: Interval = Interval(NAN, NAN, NAN)
    consistent: float = NAN
    equal_length: Interval = Interval(NAN, NAN, NAN)
    kinds: dict[str, float] = {}
    verdict: str = ""
    sentence: str = ""
    items: list[JudgedPair] = []


class StrengthPoint(msgspec.Struct, frozen=True):
    """What was measured at one strength, compared with strength 0. ``retention`` is above chance where the
    suite has a chance level."""

    strength: float
    retention: Interval
    acquisition: float = NAN  # mean score on the new task
    acquisition_interval: Interval = Interval(NAN, NAN, NAN)
    verdict: str = ""
    pre: float = NAN
    post: float = NAN
    b: int | None = None  # items lost
    c: int | None = None  # items gained
    mcnemar_p: float = NAN

    @property
    def headline(self) -> Interval:
        """The retention; none where the base is at chance, also in files of earlier versions."""
        return deciding(self.verdict, self.retention, None)


class Recommendation(msgspec.Struct, frozen=True):
    """The recommended strength, None if there is none, and the reason."""

    strength: float | None = None
    reason: str = ""


class SweepInfo(msgspec.Struct, frozen=True):
    """What was measured and how. Points with equal values belong to one curve."""

    suite: str = ""
    version: str = ""
    sha256: str = ""
    n: int = 0
    model: str = ""
    weights: str = ""
    quantization: str = ""
    dtype: str = ""
    acquisition_metric: str = ""
    acquisition_rows: int = 0
    v: int = 1


class StrengthCurve(SweepInfo, frozen=True, kw_only=True):
    """``strength.json``: the points of a sweep in rising order of strength; none if nothing was swept."""

    keep: float = strength_grid.KEEP
    points: list[StrengthPoint] = []
    recommended: Recommendation = Recommendation()
    warnings: list[str] = []

    @property
    def info(self) -> SweepInfo:
        """What was measured and how."""
        return SweepInfo(*(getattr(self, name) for name in SweepInfo.__struct_fields__))


@dataclass
class StoredResults:
    """The results of a run: suites by name, the sweep (without points if there was none), the acquisition
    (with 0 rows if it was not measured), and that of a judge (with 0 pairs). ``problems`` names the files
    that cannot be read."""

    suites: dict[str, SuiteResult] = field(default_factory=dict)
    strength: StrengthCurve = field(default_factory=StrengthCurve)
    acquisition: AcquisitionResult = field(default_factory=AcquisitionResult)
    judge: JudgeResult = field(default_factory=JudgeResult)
    problems: list[str] = field(default_factory=list)


def read_results(run_folder: Path) -> StoredResults:
    """All results of the run in a folder. Never raises for missing or damaged files."""
    found = StoredResults()
    for path in sorted((run_folder / FOLDER).glob("*.json")):
        try:
            if path.name == STRENGTH:
                found.strength = from_plain(results.read_object(path), StrengthCurve, path.name)
            elif path.name == ACQUISITION:
                found.acquisition = from_plain(results.read_object(path), AcquisitionResult, path.name)
            elif path.name == JUDGE:
                found.judge = from_plain(results.read_object(path), JudgeResult, path.name)
            elif path.name != PROBE_BASE:
                result = results.read(path)
                found.suites[result.suite] = result
        except LabError as error:
            found.problems.append(str(error))
    return found
