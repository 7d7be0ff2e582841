"""Win rates from a judge: coverage by simulation, and cases with a known answer."""

from __future__ import annotations

import math

import numpy
import pytest
from scipy.optimize import minimize

from tui_lab.evaluation.judge_statistics import length_controlled, prediction_powered, win_rate
from tui_lab.retention.statistics import Interval, mean_interval, student_t

SETS, VOTES, PAIRS = 1_000, 40, 400


def simulated(random: numpy.random.Generator, size: int, rate: float) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A person's votes, and a judge who agrees with most of them and favours the tuned model otherwise."""
    votes = (random.random(size) < rate).astype(float)
    flipped = random.random(size) < numpy.where(votes == 1, 0.05, 0.3)
    return votes, numpy.where(flipped, 1 - votes, votes)


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_calibrated_intervals_cover_the_truth_where_a_biased_judge_alone_does_not(rate: float) -> None:
    random = numpy.random.default_rng(17)
    covered = alone = 0
    widths = []
    for _ in range(SETS):
        votes, judged = simulated(random, VOTES, rate)
        others = simulated(random, PAIRS, rate)[1]
        found = prediction_powered(list(votes), list(judged), list(others))
        covered += found.low <= rate <= found.high
        widths.append(found.high - found.low)
        judge = mean_interval(list(others))
        alone += judge.low <= rate <= judge.high
    assert 0.93 <= covered / SETS <= 0.97
    assert alone / SETS < 0.6
    by_votes = 2 * student_t(VOTES - 1) * math.sqrt(rate * (1 - rate) / VOTES)
    assert numpy.mean(widths) < 0.9 * by_votes, "the judge saves votes"


def test_a_judge_without_information_leaves_the_votes() -> None:
    random = numpy.random.default_rng(3)
    votes = list((random.random(600) < 0.6).astype(float))
    found, alone = prediction_powered(votes, [0.5] * 600, [0.5] * 100), mean_interval(votes)
    assert found.value == alone.value
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-3)


def test_equal_wins_are_no_certainty() -> None:
    for wins in ([0.5] * 48, [1.0] * 48, [0.0] * 48):
        found = win_rate(wins)
        assert found.value == wins[0] and found.high - found.low > 0.03
    # 4 of 8: t is 2.3646, the variance (8 × 0.25 + 1) / 64
    assert win_rate([1.0, 0.0] * 4).low == pytest.approx(max(0, 0.5 - 2.3646 * math.sqrt(3 / 64)), abs=1e-4)
    assert win_rate([1.0]) == Interval(1.0, 0.0, 1.0)


def test_few_votes_and_votes_that_agree() -> None:
    assert math.isnan(prediction_powered([1.0] * 5, [1.0] * 5, [1.0] * 50).value)
    found = prediction_powered([1.0] * 20, [1.0] * 20, [1.0] * 50)
    assert found.value == found.high == 1 and found.low < 1
    with pytest.raises(ValueError, match="same pairs"):
        prediction_powered([1.0], [1.0, 0.0], [])


def test_length_control_is_the_maximum_of_the_likelihood() -> None:
    random = numpy.random.default_rng(5)
    lengths = random.normal(20, 30, 200)
    wins = (random.random(200) < 1 / (1 + numpy.exp(-(-0.4 + lengths / 30)))).astype(float)
    x = numpy.append(numpy.tanh(lengths / lengths.std()), 0.0)
    y = numpy.append(wins, 0.5)

    def loss(beta: numpy.ndarray) -> float:
        logits = beta[0] + beta[1] * x
        return float((numpy.logaddexp(0, logits) - y * logits).sum() + 0.05 * beta[1] ** 2)

    best = minimize(loss, [0.0, 0.0], tol=1e-12)
    found = length_controlled(list(wins), list(lengths))
    assert found.value == pytest.approx(1 / (1 + math.exp(-best.x[0])), abs=1e-5)
    error = math.sqrt(best.hess_inv[0, 0])
    assert found.low == pytest.approx(1 / (1 + math.exp(-(best.x[0] - 1.96 * error))), abs=0.02)


def test_longer_answers_that_win_only_by_length_are_no_better() -> None:
    """Wins follow length alone, and the tuned model writes more: it wins often, but not at equal length."""
    random = numpy.random.default_rng(11)
    lengths = random.normal(25, 40, 2_000)
    wins = (random.random(2_000) < 1 / (1 + numpy.exp(-1.5 * numpy.tanh(lengths / lengths.std())))).astype(
        float
    )
    found = length_controlled(list(wins), list(lengths))
    assert wins.mean() > 0.6 and found.low < 0.5 < found.high and abs(found.value - 0.5) < 0.05


def test_separated_wins_and_few_pairs() -> None:
    found = length_controlled([1.0] * 10, [5.0] * 10)
    assert 0.5 < found.value < 1 and 0 < found.low < found.high < 1
    assert math.isnan(length_controlled([1.0], [1.0]).value)
