"""The result files in a run's ``retention`` folder as typed records. Each file is validated once, where it
is read; unknown fields are ignored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.retention import results
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.statistics import Interval

#: Larger files were not written by the lab.
MAX_BYTES = 64 << 20
STRENGTH, ACQUISITION, PROBE_BASE = "strength.json", "acquisition.json", "probe_base.json"


class ReportedStrengthPoint(Struct, frozen=True):
    """Gain and retention at one strength."""

    strength: float
    retention: Interval
    acquisition: float | None = None
    acquisition_interval: Interval | None = None
    b: int | None = None
    c: int | None = None
    verdict: str = ""


class RecommendedStrength(Struct, frozen=True):
    strength: float | None = None
    reason: str = ""


class StrengthResult(Struct, frozen=True):
    """A strength sweep."""

    points: list[ReportedStrengthPoint] = []
    recommended: RecommendedStrength | None = None
    suite: str = ""
    n: int | None = None
    acquisition_rows: int | None = None
    acquisition_metric: str = ""


class MeanRecord(Struct, frozen=True):
    """A mean and its standard error."""

    value: float | None = None
    se: float | None = None


class MetricSides(Struct, frozen=True):
    base: MeanRecord | None = None
    tuned: MeanRecord | None = None


class AnswerText(Struct, frozen=True):
    text: str = ""


class AnswerItem(Struct, frozen=True):
    """The answers of base and tuned model to one held-out row."""

    base: AnswerText
    tuned: AnswerText
    prompt: str = ""
    expected: str = ""


class ReportedAcquisition(Struct, frozen=True):
    """What was learned, measured after the run: scores by name, answers, and validation less training
    loss."""

    rows: int | None = None
    metrics: dict[str, MetricSides] = {}
    overfitting_gap: float | None = None
    items: list[AnswerItem] = []


@dataclass(frozen=True)
class MeasuredResults:
    """The results of a run: suites by name, the sweep and the acquisition with their raw objects by file
    name; ``problems`` names the files that cannot be read."""

    suites: dict[str, SuiteResult]
    strength: StrengthResult
    acquisition: ReportedAcquisition
    raw: dict[str, dict[str, object]]
    problems: list[str]


def read_results(folder: Path) -> MeasuredResults:
    """Reads all result files of a run's ``retention`` folder. Never raises for what is missing or damaged."""
    suites: dict[str, SuiteResult] = {}
    raw: dict[str, dict[str, object]] = {}
    problems: list[str] = []
    strength, acquisition = StrengthResult(), ReportedAcquisition()
    for path in sorted(folder.glob("*.json")):
        try:
            if path.name == STRENGTH:
                raw[STRENGTH] = _read_object(path)
                strength = from_plain(raw[STRENGTH], StrengthResult, path.name)
            elif path.name == ACQUISITION:
                raw[ACQUISITION] = _read_object(path)
                acquisition = from_plain(raw[ACQUISITION], ReportedAcquisition, path.name)
            elif path.name != PROBE_BASE:
                result = results.read(path)
                suites[result.suite] = result
        except LabError as error:
            problems.append(str(error))
    return MeasuredResults(suites, strength, acquisition, raw, problems)


def _read_object(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LabError(f"{path.name} is too large to be a result of the lab; measure again")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(f"{path.name} cannot be read ({sanitize(str(error))[:120]}); measure again") from None
    if not isinstance(value, dict):
        raise LabError(f"{path.name} holds no result of the lab; measure again")
    return value
