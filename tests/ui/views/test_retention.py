"""The texts of Retention: verdicts, rows that fit, changed items, one item before and after."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.ui import sample_runs as made
from tui_lab.core.records import from_plain
from tui_lab.retention.results import SuiteComparison
from tui_lab.retention.stored import JudgeResult, StrengthCurve
from tui_lab.ui.views import retention
from tui_lab.ui.views import retention_forest as forest
from tui_lab.ui.views.plot_draw import draw
from tui_lab.ui.views.plot_series import plain
from tui_lab.ui.views.retention_data import RunPoint, read
from tui_lab.ui.views.retention_plots import TITLES, runs_series, strength_series


def compared(verdict: str, value: float = 0.415, **changes: Any) -> SuiteComparison:
    made_of = made.comparison(0.9, 0.52, verdict, **{"above_chance": made.figure(value), **changes})
    return from_plain(made_of, SuiteComparison, "the sample")


@pytest.mark.parametrize(
    ("verdict", "value", "sentence", "decides"),
    [
        (
            "green",
            0.98,
            "At least 93.0% of what it knew above chance is kept, above the 90% threshold",
            "93.0%",
        ),
        (
            "red",
            0.415,
            "At most 46.5% of what it knew above chance is kept, below the 90% threshold",
            "46.5%",
        ),
        ("amber", 0.9, "From 85.0% to 95.0% of what it knew above chance", "85.0% to 95.0%"),
    ],
)
def test_the_verdict_is_a_sentence_with_the_figure_that_decides(
    verdict: str, value: float, sentence: str, decides: str
) -> None:
    words, colour = retention.verdict_label(verdict)
    assert len(words.split()) >= 2, "a verdict has a word besides its colour"
    assert colour.startswith("$")
    text = retention.decision(compared(verdict, value), 0.9)
    assert text.plain.startswith(sentence) and "40 lost, 2 gained of 100 items" in text.plain
    (span,) = text.spans
    assert (text.plain[span.start : span.end], span.style) == (decides, "bold")


def test_a_run_without_a_score_has_no_figures_of_acquisition(own_folders: Path) -> None:
    assert "acquisition 0.10 → 0.90" in retention.heading(read(made.make_run()), "everyday", None, 80).plain
    unscored = read(made.make_run(gain=(math.nan, math.nan)))
    assert "acquisition" not in retention.heading(unscored, "everyday", None, 80).plain


def test_a_base_at_chance_has_no_retention() -> None:
    hidden = compared("cannot_tell", -0.5, sentence="Cannot tell: the base scored 27.0%.")
    assert retention.verdict_label("cannot_tell")[0] == "? n/a: base at chance"
    assert retention.decision(hidden, 0.9).plain == "Cannot tell: the base scored 27.0%."
    row = forest.ForestRow("everyday", "", hidden)
    beside = forest.ForestRow("everyday", "nature", compared("red"))
    for width in (40, 100):  # columns, and a plot
        (line,) = [
            text.plain for text in retention.lines([row, beside], 0.9, width) if "everyday" in text.plain
        ]
        assert "n/a" in line and "at chance" in line and "0.5" not in line and "●" not in line
    assert "-0.5" not in forest.detail(row, 200)


def test_the_forest_plot_has_one_axis_for_all_rows_and_fits(own_folders: Path) -> None:
    rows = retention.rows(read(made.make_run()))
    assert [(row.suite, row.category) for row in rows] == [
        ("everyday", ""), ("everyday", "nature"), ("everyday", "numbers")]  # fmt: skip
    for width in (60, 79, 100, 160):
        head, *lines = [each.plain for each in retention.lines(rows, 0.9, width)]
        assert all(len(line) == len(head) <= width for line in lines)
        assert "0.415*" in lines[0], "(0.52 − 0.25) / (0.9 − 0.25), marked as above chance"
        # the interval of numbers, 0.95 to 1.05, is above the threshold: its bar is right of the line
        threshold = lines[0].index("┊")
        assert lines[2].index("┊") == threshold < lines[2].index("┣") < lines[2].index("●")
        # that of nature is below it
        assert lines[1].index("●") < lines[1].index("┫") < threshold == lines[1].index("┊")
        assert "0.9" in head[threshold - 1 : threshold + 2], "the threshold is labelled"


@given(
    st.lists(st.tuples(*[st.floats(-3, 5)] * 3), min_size=1, max_size=5),
    st.floats(0.1, 1),
    st.integers(57, 200),
)
def test_a_forest_plot_is_in_the_order_of_its_figures(
    figures: list[tuple[float, float, float]], threshold: float, width: int
) -> None:
    rows = []
    for each in figures:
        low, value, high = sorted(each)
        figure = {"value": value, "low": low, "high": high}
        rows.append(forest.ForestRow("everyday", "", compared("amber", above_chance=figure)))
    form = forest.layout(rows, threshold, width)
    assert form is not None
    for row in rows:
        text = "".join(piece for piece, _ in forest.row(row, form))
        assert cell_len(text) <= width
        found = row.compared.headline if row.compared else None
        assert found is not None
        axis = text[2 + forest.NAME_CELLS + 1 :][: form.cells]
        if not form.low <= found.value <= form.high:
            assert axis[0] == "◂" or axis[-1] == "▸"
            continue
        assert axis.count("●") == 1
        line = axis.find("┊") if "┊" in axis else axis.find("┿")
        if line >= 0 and found.value < threshold:
            assert axis.index("●") <= line
        elif line >= 0:
            assert axis.index("●") >= line


def test_lost_items_are_listed_first() -> None:
    found = retention.flips(made.typed_result())
    assert [(index, line.split()[1]) for index, line, _ in found] == [(0, "lost"), (1, "gained")]
    assert "[red]wet[/red]␛[2J?" in found[0][1]
    assert retention.flips(made.typed_result(), "numbers") == []
    assert retention.flips(None) == []


def test_an_item_shows_each_choice_before_and_after() -> None:
    text = retention.item(made.typed_result(), 0, 80).plain
    assert "\x1b" not in text
    assert "✓ water  ← taken before" in text
    assert "sand  ← taken after" in text
    # e^-0.1 / (e^-0.1 + e^-4) = 0.980
    assert text.count("98.0%") == 2
    assert text.count("2.0%") == 2


def test_a_dilemma_shows_what_is_said_and_what_is_done_apart() -> None:
    result = made.typed_result()
    one = msgspec.structs.replace(
        result.items[0],
        choices=["says: stay", "says: go", "does: stay", "does: go"],
        answer=[],
        base=msgspec.structs.replace(result.items[0].base, loglikelihoods=[-1.0, -2.0, -9.0, -8.0]),
        tuned=None,
    )
    text = retention.item(msgspec.structs.replace(result, kind="agreement", items=[one]), 0, 80).plain
    assert "says: stay  ← taken before" in text and "does: go  ← taken before" in text
    assert text.count("← taken") == 2
    # e^-1 / (e^-1 + e^-2) = 0.731 on either side
    assert text.count("73.1%") == 2 and text.count("26.9%") == 2


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6))
def test_shares_sum_to_one_or_are_unknown(values: list[float]) -> None:
    found = retention.shares(values)
    assert len(found) == len(values)
    if any(math.isfinite(value) for value in values):
        assert abs(sum(found) - 1) < 1e-9
    else:
        assert all(math.isnan(each) for each in found)
    assert all(len(retention.bar(each, 9)) == 9 for each in found)


def test_a_narrow_table_keeps_the_interval_and_aligns_columns() -> None:
    rows = retention.rows(read(made.make_run()))
    head, *lines = [each.plain for each in retention.lines(rows, 0.9, 49)]
    assert all(len(line) == len(head) <= 58 for line in lines)
    assert "95%" in head and "before" not in head
    end = head.index("95%") + len("95%")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines if "–" in line)


def test_the_strength_curve_marks_what_is_recommended_on_top_of_all_else() -> None:
    points = [
        {"strength": s, "acquisition": s, "retention": made.figure(1 - s / 2), "verdict": "amber"}
        for s in (0.0, 0.5, 1.2)
    ]
    curve = from_plain(
        {"points": points, "recommended": {"strength": 0.5, "reason": "best"}, "keep": 0.95},
        StrengthCurve,
        "it",
    )
    best = strength_series(curve)[-1]
    assert (best.name, best.mark) == ("recommended 0.5", "★")
    assert (best.xs, best.ys) == ([0.5, 0.5], [0.5, 0.75]), "on both curves"
    text = plain(draw(strength_series(curve), 60, 16, TITLES["strength"]))
    assert text.count("★") == 3, "two on the curves, one in the legend"
    assert "1.5" not in text.splitlines()[-1], "the axis ends with the data"


def test_all_runs_have_their_names_and_those_of_one_name_their_time() -> None:
    points = [
        RunPoint(f"2026010{n}-010203-x-abcd", "", name, gained, 0.5 + gained / 10)
        for n, (name, gained) in enumerate([("keeper", 0.1), ("naive", 0.4), ("keeper", 0.9)], start=1)
    ]
    series = runs_series(points, points[1].run_id, 0.9)
    named = {label for one in series for label in one.labels}
    assert named == {"naive", "keeper 01-01 01:02", "keeper 01-03 01:02"}
    text = plain(draw(series, 100, 16, TITLES["runs"]))
    assert all(name in text for name in named) and "threshold 0.9" in text
    assert runs_series([], "", 0.9) == []


def test_the_sentence_of_a_judge() -> None:
    assert str(retention.judged(JudgeResult())) == ""
    found = JudgeResult(pairs=3, verdict="better", sentence="The tuned\x1b[2J model wins.")
    assert str(retention.judged(found)).startswith("Judge: The tuned") and "\x1b" not in str(
        retention.judged(found)
    )
