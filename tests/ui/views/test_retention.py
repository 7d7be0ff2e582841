"""The texts of Retention: verdicts, rows that fit, changed items, one item before and after."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui import sample_runs as made
from tui_lab.ui.views import retention
from tui_lab.ui.views.retention_data import read


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("green", "accept"), ("red", "reject"), ("amber", "undecided"), ("cannot_tell", "no decision")],
)
def test_verdicts_have_words_besides_colours(verdict: str, said: str) -> None:
    words, colour = retention.verdict_label(verdict)
    assert len(words.split()) >= 2
    assert colour.startswith("$")
    text = retention.decision(verdict, 0.9)
    assert said in text
    assert "0.9, set before the run" in text


def test_the_table_has_suites_and_categories_and_fits_80_columns(own_folders: Path) -> None:
    rows = retention.rows(read(made.make_run()))
    assert [(suite, category) for suite, category, _, _ in rows] == [
        ("everyday", ""), ("everyday", "nature"), ("everyday", "numbers")]  # fmt: skip
    head = retention.line(retention.COLUMNS)
    assert all(len(line) == len(head) for _, _, line, _ in rows)
    assert "0.900" in rows[0][2]
    assert "0.520" in rows[0][2]
    assert "0.415*" in rows[0][2], "(0.52 − 0.25) / (0.9 − 0.25), marked as above chance"


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
    kept = read(made.make_run())
    head = retention.line(retention.COLUMNS, 58)
    lines = [line for _, _, line, _ in retention.rows(kept, 58)]
    assert all(len(line) == len(head) <= 58 for line in lines)
    assert "95%" in head and "before" not in head
    end = head.index("95%") + len("95%")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines if "–" in line)
