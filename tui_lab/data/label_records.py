"""Scores of data whose answers are labels, as records; see :mod:`tui_lab.data.labels`."""

from __future__ import annotations

import msgspec


class LabelScore(msgspec.Struct, frozen=True, omit_defaults=True):
    """One label: ``rows`` have it. ``auc`` is null where there are no likelihoods, or only rows of one
    kind."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float
    auc: float | None = None


class LabelScores(msgspec.Struct, frozen=True, omit_defaults=True):
    """Macro means over the labels that occur or are predicted; ``other``: answers that are no label."""

    precision: float
    recall: float
    f1: float
    labels: list[LabelScore]
    auc: float | None = None
    other: int = 0
