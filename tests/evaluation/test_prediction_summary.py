"""The scores of a file of predictions against the statistics by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_lab.evaluation.prediction_file import (
    PredictedAnswer,
    Prediction,
    PredictionFile,
    PredictionSettings,
)
from tui_lab.evaluation.prediction_summary import summarise
from tui_lab.retention import statistics

SETTINGS = PredictionSettings(
    model="m",
    tuned="t",
    data="d",
    lane="greedy",
    max_new_tokens=8,
    metric="exact",
    loaded="",
    base_sha256="",
    tuned_sha256="",
    data_sha256="",
)


def answer(exact: float, f1: float) -> PredictedAnswer:
    return PredictedAnswer(f"{exact} {f1}", 3, "stop_token", exact, {"token_f1": f1, "exact": exact})


def test_scores_are_paired(tmp_path: Path) -> None:
    """Right twice 3, lost 1, gained 4, wrong twice 2, with F1 that rises by 0.1 in each row; one row without
    an answer, two without a reference."""
    kinds = [(1, 1)] * 3 + [(1, 0)] + [(0, 1)] * 4 + [(0, 0)] * 2
    with PredictionFile(tmp_path / "out.jsonl", SETTINGS) as file:
        for row, (was, now) in enumerate(kinds, 1):
            base, tuned = answer(was, 0.1 * row / 2), answer(now, 0.1 * row / 2 + 0.1)
            file.add(
                Prediction(
                    row=row, place="", prompt="", prompt_tokens=1, expected="x", base=base, tuned=tuned
                )
            )
        file.add(
            Prediction(
                row=11, place="line 11", prompt="", prompt_tokens=9, expected="x", skipped="it is too long"
            )
        )
        bare = PredictedAnswer("free", 3, "length")
        for row in (12, 13):
            file.add(
                Prediction(
                    row=row, place="", prompt="", prompt_tokens=1, expected=None, base=bare, tuned=bare
                )
            )
        found = summarise(file.path, file.predictions(), SETTINGS, 0, [])
    assert (found.rows, found.skipped, found.scored, found.differ) == (13, 1, 10, 10)
    assert found.skipped_places == ["line 11: it is too long"]
    assert list(found.metrics) == ["exact", "token_f1"], "the metric of the data first"
    exact, f1 = found.metrics.values()
    assert exact.tuned is not None and exact.difference is not None and f1.difference is not None
    assert (exact.base.value, exact.tuned.value, exact.better, exact.worse) == (0.4, 0.7, 4, 1)
    assert exact.difference == statistics.difference(statistics.Paired(10, 3, 1, 4, 2))
    assert exact.base == statistics.wilson(4, 10)
    assert f1.difference.value == pytest.approx(0.1) and f1.difference.low == pytest.approx(0.1)
    assert (f1.better, f1.worse) == (10, 0)
    assert f1.base == statistics.mean_interval([0.05 * row for row in range(1, 11)])


def test_intervals_are_of_possible_scores(tmp_path: Path) -> None:
    """A row with a share, and rows that are all right: no interval beyond 0 and 1, none without width."""
    with PredictionFile(tmp_path / "out.jsonl", SETTINGS) as file:
        for row, f1 in enumerate((0.5, 1.0, 1.0), 1):
            base, tuned = answer(0, f1), answer(1, 1.0)
            file.add(
                Prediction(
                    row=row, place="", prompt="", prompt_tokens=1, expected="x", base=base, tuned=tuned
                )
            )
        metrics = summarise(file.path, file.predictions(), SETTINGS, 0, []).metrics
    f1, exact = metrics["token_f1"], metrics["exact"]
    assert f1.tuned is not None and f1.difference is not None and exact.difference is not None
    assert f1.base.high == 1.0 and 0 <= f1.base.low < f1.base.value < 1
    assert f1.tuned == statistics.wilson(3, 3) and f1.tuned.low < 1.0
    assert exact.difference.low < exact.difference.value == 1.0
