"""Scores of labels against hand-worked cases and scipy's Mann–Whitney statistic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from tui_lab.data import labels


def test_labels_are_found_by_their_answers() -> None:
    rows = ["positive"] * 20 + ["Positive."] * 3 + ["negative"] * 10
    assert labels.labels_of(rows) == ("positive", "negative")
    assert labels.labels_of(["yes"] * 30) == ()  # nothing to tell apart
    assert labels.labels_of([f"answer {n % 21}" for n in range(500)]) == ()
    assert labels.labels_of(["yes", "no"] * 9) == ()  # too few rows to know
    assert labels.labels_of(["yes", "one two three four five six"] * 20) == ()


def test_a_case_by_hand() -> None:
    """Three labels, of which one is rare; one answer is none."""
    truth = ["a", "a", "a", "a", "b", "b", "c", "c"]
    found = ["a", "a", "a", "b", "b", "a", "a", "what?"]
    scores = labels.label_scores(("a", "b", "c"), truth, found)
    by_label = {each.label: (each.rows, each.precision, each.recall, each.f1) for each in scores.labels}
    assert by_label["a"] == (4, 3 / 5, 3 / 4, pytest.approx(2 / 3))
    assert by_label["b"] == (2, 1 / 2, 1 / 2, 1 / 2)
    assert by_label["c"] == (2, 0.0, 0.0, 0.0)
    assert scores.precision == pytest.approx((3 / 5 + 1 / 2) / 3)
    assert scores.recall == pytest.approx((3 / 4 + 1 / 2) / 3)
    assert scores.f1 == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert scores.other == 1 and scores.auc is None


def test_the_area_of_each_label_is_against_all_others() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]])
    scores = labels.label_scores(("a", "b", "c"), ["a", "b", "b", "a"], ["a", "b", "b", "a"], shares)
    assert [each.auc for each in scores.labels] == [1.0, 1.0]  # c does not occur
    assert scores.auc == 1.0
    worse = labels.label_scores(
        ("a", "b"), ["a", "b", "b"], ["a"] * 3, np.array([[0.5], [0.5], [0.9]]) * [1, 1]
    )
    # a against b: a tie and a defeat
    assert worse.labels[0].auc == 0.25


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30)
)
def test_the_area_is_scipys_statistic(positive: list[int], negative: list[int]) -> None:
    area = labels.auc(np.array(positive, float), np.array(negative, float))
    expected = mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    assert area == pytest.approx(expected)


def test_without_pairs_there_is_no_area() -> None:
    assert labels.auc(np.array([]), np.array([0.5])) is None


def test_balanced_weights_give_every_class_the_same() -> None:
    weights = labels.balanced_weights([90, 9, 1])
    assert [round(weight * rows, 9) for weight, rows in zip(weights, [90, 9, 1], strict=True)] == [
        pytest.approx(100 / 3)
    ] * 3
    assert sum(w * n for w, n in zip(weights, [90, 9, 1], strict=True)) == pytest.approx(100)
