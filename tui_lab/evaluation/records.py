"""The requests and answers of evaluation jobs. No torch. They keep the keys of the first version; unknown
keys are ignored. The files in the run folder are in :mod:`tui_lab.retention.stored`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.retention import strength_grid
from tui_lab.retention.results import SuiteResult
from tui_lab.retention.stored import AcquisitionResult

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
    judge: str = ""  # scores answers of safety suites: a model, or `endpoint`
    classifier: str = ""  # the same: a folder
    classifier_label: str = ""  # of the classifier, that says yes; "" finds it by its name

    def validated(self) -> EvaluationRequest:
        """The request with each suite once. Raises LabError for impossible values."""
        if not self.suites:
            raise LabError("no suite was named; `tui-lab retention --list` shows the suites")
        if self.limit < 0:
            raise LabError(f"limit is 0 (all items) or more, not {self.limit}")
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise LabError(f"dtype is auto, float32, bfloat16 or float16, not {sanitize(self.dtype)!r}")
        if self.quantization not in ("auto", *QUANTIZATIONS):
            raise LabError(
                f"quantization is one of auto, {', '.join(QUANTIZATIONS)}, "
                f"not {sanitize(self.quantization)!r}"
            )
        if self.judge and self.classifier:
            raise LabError("--judge and --classifier both score the answers: use one of them")
        return msgspec.structs.replace(self, suites=tuple(dict.fromkeys(self.suites)))


def read_request(value: Mapping[str, object]) -> EvaluationRequest:
    """An evaluation request from plain values. Raises LabError."""
    return from_plain(value, EvaluationRequest, "the evaluation request").validated()


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
    # from the highest on, until the lower end of retention is at least ``keep``; "halved": then also between
    # that and the one before
    until_kept: Literal["", "listed", "halved"] = ""

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
        above = {strength_grid.check_strength(strength) for strength in strengths} - {0.0}
        ordered = [0.0, *sorted(above, reverse=bool(self.until_kept))]
        return msgspec.structs.replace(self, strengths=tuple(ordered), limit=max(0, self.limit))


class SavedStrength(msgspec.Struct, frozen=True):
    """The folder, inside the run's, of an adapter or model that was saved at a strength."""

    saved: str


# --- stages -----------------------------------------------------------------------------------------


class StagesRequest(msgspec.Struct, frozen=True):
    """Measures what is unknown of the line of runs that ends with ``run``."""

    run: str = ""
    runs_dir: str = ""


class MeasuredStages(msgspec.Struct, frozen=True):
    """How many scores were measured. ``problems``: a sentence for what cannot be."""

    scores: int = 0
    problems: list[str] = []
