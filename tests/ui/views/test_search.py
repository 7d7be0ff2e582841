"""A search as lines: state, front with intervals, choice; and how many pilots a budget allows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.evaluation.test_search import pilot
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation.search_plan import Budget
from tui_lab.evaluation.search_start import first_steps
from tui_lab.forecast.cost import EstimateRange
from tui_lab.recipes.recipe import build
from tui_lab.retention.statistics import Interval
from tui_lab.runs.searches import FoundSearch, SearchResult
from tui_lab.ui.views.search import (
    expected,
    head,
    long_pilot_seconds,
    retention_bar,
    search_lines,
    state_line,
)


def result(**changes: Any) -> SearchResult:
    pilots = [pilot(0, (0.5, 0.4, 0.95), (1.0, 0.8, 0.7)), pilot(1, (1.0, 0.5, 0.92))]
    made = SearchResult(
        search="search-1", model="pocket", data="support", keep=0.9, budget_s=600.0, spent_s=60.0,
        pilots=pilots, front=plan.front(pilots),
        chosen=plan.choose(pilots, 0.9), progress="pilot 3: 20 steps",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_the_state_has_progress_pilots_and_time_left() -> None:
    line = state_line(result(), "running")
    assert "running" in line and "pilot 3: 20 steps" in line and "2 pilots, 1:00 of 10:00" in line
    assert "9:00 left" in line
    assert "left" not in state_line(result(), "finished")
    assert "0.3 kWh" in state_line(result(budget_kwh=0.3), "stopped")


def test_the_head_names_the_key_where_it_does_something() -> None:
    heads = {state: head(FoundSearch(result(), state), "%") for state in ("running", "stopped", "finished")}
    assert heads["running"].endswith("(% stops it)") and heads["stopped"].endswith("(% lets it go on)")
    assert "%" not in heads["finished"] and "finished" in heads["finished"]


@pytest.mark.parametrize("width", [56, 80, 160])
def test_the_front_marks_the_choice_and_fits_the_width(width: int) -> None:
    lines = search_lines(result(sentence="x"), "running", width)
    assert all(len(line) <= width for line, _ in lines)
    assert [line.split()[0] for line, chosen in lines if chosen] == ["r1"]
    rows = [line for line, _ in lines if line.startswith("r") and not line.startswith("run")]
    assert [row.split()[3] for row in rows] == ["0.800", "0.500", "0.400"]
    assert ("0.97 (0.92–1.02)" in rows[1]) and ("●" in rows[1]) == (width > 66)


def test_sentence_problem_and_fresh_seeds_are_lines() -> None:
    fresh = [msgspec.structs.replace(pilot(7, (1.0, 0.45, 0.91)), seed=1000)]
    lines = [
        line for line, _ in search_lines(result(sentence="Chosen: x.", confirmations=fresh), "finished", 90)
    ]
    assert lines[0] == "Chosen: x." and lines[-1].startswith("fresh seed 1000: strength 1, gain 0.450")
    broken = search_lines(result(problem="no space\x1b[2J"), "crashed", 90)
    assert "no space" in broken[0][0] and "\x1b" not in broken[0][0]
    assert search_lines(result(front=[]), "running", 90)[-1][0] == "No pilot is measured yet."


def test_the_bar_has_interval_value_and_promise() -> None:
    # an axis of 0.5 to 1.1 in 61 cells: 0.01 a cell
    bar = retention_bar(Interval(0.95, 0.85, 1.05), 0.9, 61)
    assert len(bar) == 61 and bar[45] == "●" and bar[40] == "┿"
    assert bar.index("─") == 35 and bar.rindex("─") == 55
    assert retention_bar(Interval(0.6, 0.55, 0.65), 0.9, 61)[40] == "┊"
    assert retention_bar(Interval(float("nan"), 0, 1), 0.9, 20).strip() == ""


def test_pilots_that_fit_follow_from_the_speed() -> None:
    def seconds(of_run: float, rows: int | None = None, **values: Any) -> float | None:
        hours = EstimateRange(*[of_run / 3600] * 3)
        forecast = SimpleNamespace(cost=SimpleNamespace(hours=hours), as_run=lambda recipe: recipe)
        return long_pilot_seconds(build({"model": "pocket", **values}), cast(Any, forecast), rows)

    # a run takes 60 s, a trial 60/3 + 60/3 s: (600 - 2 * 60) / 40
    assert "about 12 pilots and 2 confirmations of 1:00" in expected(Budget(600), seconds(60, max_steps=60))
    assert "too little for a pilot" in expected(Budget(100), seconds(60, max_steps=60))
    unknown = long_pilot_seconds(build({"model": "pocket"}), None, None)
    assert unknown is None and "not measured yet" in expected(Budget(600), unknown)
    # by epochs: 1200 rows in batches of 4 are 300 steps an epoch, and a long pilot has 60 steps of the 600
    epochs = {
        "max_steps": 0, "num_train_epochs": 2, "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1, "replay_fraction": 0.0, "packing": False,
    }  # fmt: skip
    assert seconds(600, 1200, **epochs) == pytest.approx(60)
    assert seconds(600, None, **epochs) is None, "the steps of the forecast are not known"
    assert first_steps(build({"model": "pocket", "max_steps": 12})) == 10
    assert seconds(60, max_steps=12) == pytest.approx(150), "a pilot is longer than a very short recipe"
