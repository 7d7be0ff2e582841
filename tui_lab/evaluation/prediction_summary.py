"""What a file of predictions says: the scores of base and tuned model with intervals, and how many rows the
tuned model answers better or worse. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tui_lab.data.label_records import LabelScores
from tui_lab.data.labels import label_scores, labels_of
from tui_lab.evaluation.prediction_file import PredictedAnswer, Prediction, PredictionSettings
from tui_lab.retention import statistics
from tui_lab.retention.statistics import Interval


class PredictedMetric(msgspec.Struct, kw_only=True, frozen=True):
    """The mean of a metric over the scored rows, 0 to 1, with 95 % intervals. ``difference``: tuned minus
    base over the same rows; null without a tuned model. ``better`` and ``worse``: rows that the tuned model
    answers with a higher and with a lower score."""

    base: Interval
    tuned: Interval | None = None
    difference: Interval | None = None
    better: int = 0
    worse: int = 0


class PredictionSummary(msgspec.Struct, kw_only=True, frozen=True):
    """A file of predictions. ``rows``: in the file, ``resumed`` of them from before; ``skipped``: without an
    answer; ``scored``: with a reference; ``differ``: whose two answers are different texts. ``metrics``: the
    metric of the data first. ``labels``: of base and tuned, where the references are labels."""

    path: str
    settings: PredictionSettings
    rows: int
    resumed: int
    skipped: int
    skipped_places: list[str]
    scored: int
    differ: int
    metrics: dict[str, PredictedMetric]
    notes: list[str]
    labels: dict[str, LabelScores] = {}


#: Skipped rows that are named.
_NAMED = 5


def summarise(
    path: Path,
    predictions: Iterable[Prediction],
    settings: PredictionSettings,
    resumed: int,
    notes: list[str],
) -> PredictionSummary:
    """The summary of the rows of a file. Raises LabError."""
    rows = skipped = differ = 0
    places: list[str] = []
    scores: dict[str, list[tuple[float, ...]]] = {}  # of each scored row: base, tuned
    references: list[str] = []
    texts: list[list[str]] = []
    for prediction in predictions:
        rows += 1
        if prediction.base is None:
            skipped += 1
            places += [f"{prediction.place}: {prediction.skipped}"] * (skipped <= _NAMED)
            continue
        answers = [prediction.base, *([prediction.tuned] if prediction.tuned is not None else [])]
        differ += len({answer.text for answer in answers}) > 1
        if prediction.expected is not None:
            references.append(prediction.expected)
            texts.append([answer.text for answer in answers])
        for name in _ordered(prediction.base, settings.metric):
            scores.setdefault(name, []).append(tuple(answer.scores[name] for answer in answers))
    return PredictionSummary(
        path=str(path),
        settings=settings,
        rows=rows,
        resumed=resumed,
        skipped=skipped,
        skipped_places=places,
        scored=len(scores.get(settings.metric, ())),
        differ=differ,
        metrics={name: compare(found) for name, found in scores.items()},
        notes=notes,
        labels={
            side: label_scores(found, references, answers)
            for side, answers in zip(("base", "tuned"), zip(*texts, strict=True), strict=False)
            if (found := labels_of(references))
        },
    )


def _ordered(answer: PredictedAnswer, first: str) -> list[str]:
    return sorted(answer.scores, key=lambda name: name != first)


def compare(scores: Sequence[tuple[float, ...]]) -> PredictedMetric:
    """The means of scores of each row, of the base and perhaps of what is compared with it."""
    before = [row[0] for row in scores]
    if len(scores[0]) == 1:
        return PredictedMetric(base=_mean(before))
    after = [row[1] for row in scores]
    changes = [now - was for was, now in zip(before, after, strict=True)]
    if _is_binary(before) and _is_binary(after):
        pairs = statistics.paired([score == 1 for score in before], [score == 1 for score in after])
        difference = statistics.difference(pairs)
    else:
        difference = _within(statistics.mean_interval(changes), -1.0)
    return PredictedMetric(
        base=_mean(before),
        tuned=_mean(after),
        difference=difference,
        better=sum(change > 0 for change in changes),
        worse=sum(change < 0 for change in changes),
    )


def _is_binary(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def _mean(scores: Sequence[float]) -> Interval:
    if _is_binary(scores):
        return statistics.wilson(sum(scores), len(scores))
    return _within(statistics.mean_interval(scores), 0.0)


def _within(found: Interval, low: float) -> Interval:
    """The interval as far as values are possible: from ``low`` to 1."""
    return Interval(found.value, max(low, found.low), min(1.0, found.high))
