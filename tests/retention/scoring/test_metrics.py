"""Metrics against cases worked out by hand, and the choices of an item."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.retention import results
from tui_lab.retention.scoring import metrics as scoring_metrics
from tui_lab.retention.scoring.metrics import (
    ItemScore,
    choice_score,
    confusion,
    correct,
    document_score,
    f1,
    mcc,
    metrics,
)
from tui_lab.retention.suites.records import Item, Suite, fingerprint


def item(at: int, answers: tuple[int, ...] = (0,), choices: tuple[str, ...] = ("a", "bb")) -> Item:
    return Item(f"i{at}", "?", tuple(f" {text}" for text in choices), answers, choices=choices)


def suite_of(items: list[Item], metric: str = "acc", kind: Any = "choice") -> Suite:
    found = tuple(items)
    return Suite("own", "1", "", "", kind, metric, found, 0.5, "", "", fingerprint(kind, metric, found))


def test_choices_are_ranked_by_sum_and_by_character() -> None:
    one = choice_score(item(0, choices=("abcd", "b")), [-4.0, -2.0], [4, 1], 0)
    assert (one.predicted, one.predicted_norm) == (1, 0)  # −4/4 is more than −2/1
    tie = choice_score(item(0), [-1.0, -1.0], [1, 1], 3)
    assert tie.predicted == 0 and tie.extra == {"cut": 3}
    broken = choice_score(item(0), [math.nan, -1.0], [1, 1], 0)
    assert (broken.predicted, broken.predicted_norm) == (-1, -1)


def test_accuracy_and_its_error() -> None:
    suite = suite_of([item(at) for at in range(5)])
    scores = [
        choice_score(each, [-1.0, -2.0] if at < 3 else [-2.0, -1.0], [1, 1], 0)
        for at, each in enumerate(suite.items)
    ]
    found = metrics(suite, scores)
    assert found["acc"].value == 0.6
    # five values, three of them 1: variance (n − 1) is 0.3
    assert found["acc"].se == pytest.approx(math.sqrt(0.3 / 5))
    assert correct(suite, scores) == [True] * 3 + [False] * 2
    assert next(iter(found)) == "acc" and metrics(suite, []) == {}
    assert math.isnan(metrics(suite_of([item(0)]), scores[:1])["acc"].se)


def test_mc2_is_the_probability_share_of_true_answers() -> None:
    suite = suite_of([item(0, (0, 2), ("a", "b", "c")), item(1, (1,))], "mc2")
    logs = [math.log(0.2), math.log(0.1), math.log(0.1)]
    scores = [
        ItemScore("i0", tuple(value - 2_000 for value in logs), 0, 0, (1, 1, 1)),
        ItemScore("i1", (math.log(0.6), math.log(0.2)), 0, 0, (1, 1)),
    ]
    assert scoring_metrics.true_shares(suite, scores) == pytest.approx([0.75, 0.25])
    assert metrics(suite, scores)["mc2"].value == pytest.approx(0.5)
    assert correct(suite, scores) == [True, False]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60))
def test_mcc_equals_the_correlation_coefficient(pairs: list[tuple[int, int]]) -> None:
    truth, guess = [list(column) for column in zip(*pairs, strict=True)]
    table = confusion(truth, guess)
    if len(set(truth)) == 2 and len(set(guess)) == 2:
        assert mcc(table) == pytest.approx(float(numpy.corrcoef(truth, guess)[0, 1]), abs=1e-12)
    else:
        assert mcc(table) == 0
    hits = sum(t == g == 1 for t, g in pairs)
    precision = hits / sum(guess) if sum(guess) else 0.0
    recall = hits / sum(truth) if sum(truth) else 0.0
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert f1(table) == pytest.approx(harmonic)


def test_the_f1_of_three_classes_is_the_mean_of_each() -> None:
    """By hand: truth 0 0 1 1 2, predicted 0 1 1 1 0: F1 of 0 is 2·1/(2+2), of 1 2·2/(2+3), of 2 it is 0."""
    table = confusion([0, 0, 1, 1, 2], [0, 1, 1, 1, 0], 3)
    assert f1(table) == pytest.approx((0.5 + 0.8 + 0.0) / 3)
    assert confusion([2], [-1], 3).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_answer_f1_is_the_mean_over_the_chosen_answers() -> None:
    items = [
        Item(f"i{at}", "?", (" a b", " b", " c"), (0,), choices=("a b", "b", "c"), meta={"f1": [1, 2 / 3, 0]})
        for at in range(2)
    ]
    suite = suite_of(items, "answer_f1")
    scores = [
        choice_score(items[0], [-3, -1, -2], [1] * 3, 0),
        choice_score(items[1], [-1, -3, -2], [1] * 3, 0),
    ]
    found = metrics(suite, scores)
    assert found["answer_f1"].value == pytest.approx((2 / 3 + 1) / 2) and found["acc"].value == 0.5
    compared = results.compare(suite, scores, [scores[1], scores[1]])
    assert compared.difference.value == pytest.approx(1 / 6)
    assert compared.retention.value == pytest.approx(1 / (5 / 6)) and compared.post == 1.0


def test_an_invalid_prediction_counts_as_the_wrong_class() -> None:
    assert confusion([0, 1], [-1, -1]).tolist() == [[0, 1], [1, 0]]
    suite = suite_of([item(at, (at % 2,)) for at in range(4)], "mcc")
    scores = [choice_score(each, [math.nan, 0.0], [1, 1], 0) for each in suite.items]
    assert metrics(suite, scores)["mcc"].value == -1


def test_standard_errors_without_a_formula_are_bootstrapped() -> None:
    """For the share of one class the bootstrap must give the error that theory gives."""
    table = numpy.array([[0, 0], [120, 280]])  # F1 of all-positive truth is a function of recall alone
    recall, n = 0.7, 400
    slope = 2 / (1 + recall) ** 2  # of 2r / (1 + r)
    wanted = slope * math.sqrt(recall * (1 - recall) / n)
    assert scoring_metrics._table_error(f1, table) == pytest.approx(wanted, rel=0.06)


def test_perplexities_weight_documents_by_length() -> None:
    documents = [
        Item("a", "", ("one two",), (), meta={"words": 2, "bytes": 7}),
        Item("b", "", ("three",), ()),
    ]
    suite = suite_of(documents, "perplexity", "perplexity")
    scores = [document_score(documents[0], -6.0, 3), document_score(documents[1], -2.0, 1)]
    assert scores[1].extra == {"words": 1, "bytes": 5}
    found = metrics(suite, scores)
    assert found["word_perplexity"].value == pytest.approx(math.exp(8 / 3))
    assert found["byte_perplexity"].value == pytest.approx(math.exp(8 / 12))
    assert found["perplexity"].value == pytest.approx(math.exp(8 / 4))
    assert found["bits_per_byte"].value == pytest.approx(8 / 12 / math.log(2))
    assert correct(suite, scores) == [] and next(iter(found)) == "perplexity"
    ruined = metrics(suite, [document_score(documents[0], -1e9, 3)])
    assert ruined["perplexity"].value == math.inf
