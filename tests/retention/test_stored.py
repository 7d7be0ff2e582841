"""The files in a run's retention folder as records: those of an earlier version, damaged ones, newer ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_lab.core.records import to_json
from tui_lab.retention.statistics import Interval
from tui_lab.retention.stored import FOLDER, StoredResults, StrengthCurve, StrengthPoint, read_results

FIXTURES = Path(__file__).parents[1] / "fixtures" / "caf9144" / "runs"


def stored(folder: Path, **texts: str) -> StoredResults:
    (folder / FOLDER).mkdir()
    for name, text in texts.items():
        (folder / FOLDER / f"{name}.json").write_text(text)
    return read_results(folder)


def test_results_of_an_earlier_version_are_read() -> None:
    [run] = [path.parent.parent for path in FIXTURES.glob("*/retention/acquisition.json")]
    found = read_results(run)
    raw = json.loads((run / FOLDER / "acquisition.json").read_text())
    assert found.problems == [] and found.suites
    assert found.acquisition.rows == raw["rows"] == len(found.acquisition.items)
    assert found.acquisition.overfitting_gap == raw["overfitting_gap"]
    assert found.acquisition.items[0].texts == tuple(
        raw["items"][0][side]["text"] for side in ("base", "tuned")
    )


def test_without_files_everything_is_empty(tmp_path: Path) -> None:
    found = read_results(tmp_path)
    assert not (found.suites or found.strength.points or found.acquisition.rows or found.problems)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "no retention result"),
        ('{"points": 3}', "points must be a list"),
        ('{"points": [{"strength": 1.0}]}', "retention is missing"),
        (
            '{"points": [{"strength": "much", "retention": {"value": 1, "low": 1, "high": 1}}]}',
            "strength must be",
        ),
    ],
)
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path, text: str, reason: str) -> None:
    found = stored(tmp_path, strength=text, acquisition='{"rows": 4, "of_a_newer_version": 1}')
    [problem] = found.problems
    assert "strength.json" in problem and reason in problem
    assert found.strength.points == [] and found.acquisition.rows == 4


def test_a_curve_round_trips_with_unknown_values(tmp_path: Path) -> None:
    point = StrengthPoint(strength=0.5, retention=Interval(0.9, 0.8, float("inf")))
    curve = StrengthCurve(suite="everyday", n=3, points=[point], keep=0.9)
    found = stored(tmp_path, strength=to_json(curve)).strength
    assert (found.suite, found.n, found.keep, found.info) == ("everyday", 3, 0.9, curve.info)
    [read] = found.points
    assert (read.strength, read.retention) == (0.5, point.retention)
    assert read.acquisition != read.acquisition, "NaN where the new task was not measured"
