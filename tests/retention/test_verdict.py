"""Verdicts: each colour by hand, and how often red is wrong."""

import math

import numpy
import pytest

from tui_lab.retention import verdict
from tui_lab.retention.statistics import Interval, Paired
from tui_lab.retention.verdict import judge_paired


def test_green_when_nothing_was_lost():
    found = judge_paired(Paired(452, 440, 5, 4, 3), 0.25)
    assert found.colour == "green"
    assert found.above_chance is not None and found.above_chance.low > 0.9
    assert found.sentence.startswith("Kept 99.7% of what it knew")  # (444 − 113) / (445 − 113) = .99699
    assert "5 lost, 4 gained of 452 items" in found.sentence


def test_red_when_much_was_lost():
    found = judge_paired(Paired(452, 250, 195, 2, 5), 0.25)
    assert found.colour == "red"
    assert found.mcnemar_p < 1e-40
    # (252 − 113) / (445 − 113) = .4187
    assert found.above_chance is not None and found.above_chance.value == pytest.approx(139 / 332)
    assert "41.9%" in found.sentence


def test_amber_when_the_interval_contains_the_threshold():
    found = judge_paired(Paired(100, 72, 10, 4, 14), 0.25)
    assert found.colour == "amber"
    assert "includes the 90% threshold" in found.sentence


def test_few_items_without_flips_are_not_green():
    assert judge_paired(Paired(8, 7, 0, 0, 1), 0.25).colour == "amber"


def test_a_base_near_chance_gives_cannot_tell():
    # HellaSwag of a tiny model: 0.27 of 400, one standard error .022, three .067 > .02
    found = judge_paired(Paired(400, 90, 18, 16, 276), 0.25)
    assert found.colour == "cannot_tell"
    assert found.retention.value == pytest.approx(106 / 108)  # raw retention would have looked fine
    assert "not clearly above guessing (25.0%" in found.sentence


def test_everything_lost_near_chance_is_not_retained():
    """pre .30, post .25: raw post / pre says .83, though all of it was lost."""
    found = judge_paired(Paired(2_000, 350, 250, 150, 1_250), 0.25)
    assert found.retention.value == pytest.approx(500 / 600)
    assert found.above_chance is not None and found.above_chance.value == pytest.approx(0)
    assert found.colour == "red"


def test_without_a_chance_level_plain_retention_decides():
    found = judge_paired(Paired(300, 180, 4, 6, 110), None)
    assert found.above_chance is None and found.colour == "green"
    assert "of its score" in found.sentence


@pytest.mark.parametrize("pair", [Paired(0, 0, 0, 0, 0), Paired(20, 0, 0, 5, 15), Paired(1, 0, 0, 0, 1)])
def test_a_base_without_right_answers_gives_cannot_tell(pair):
    found = judge_paired(pair, None)
    assert found.colour == "cannot_tell" and found.sentence.startswith("Cannot tell")


def test_the_threshold_is_a_parameter():
    pair = Paired(1_000, 850, 100, 0, 50)  # kept 89.5%, interval about .875 to .912
    assert judge_paired(pair, None, threshold=0.8).colour == "green"
    assert judge_paired(pair, None, threshold=0.9).colour == "amber"
    assert judge_paired(pair, None, threshold=0.95).colour == "red"


def test_red_is_rarely_wrong_in_simulations():
    """At the threshold itself, and where nothing was lost: at or below the nominal 2.5% at that side."""
    generator = numpy.random.default_rng(3)
    seen = {}
    for kept in (0.9, 1.0):
        for pre, flips in ((0.5, 0.1), (0.7, 0.05), (0.9, 0.02)):
            post = 0.25 + kept * (pre - 0.25)
            gained = flips / 2
            lost = pre - post + gained
            draws = generator.multinomial(200, [pre - lost, lost, gained, 1 - pre - gained], 1_000)
            kinds, times = numpy.unique(draws, axis=0, return_counts=True)
            red = sum(
                int(weight)
                for row, weight in zip(kinds.tolist(), times.tolist(), strict=True)
                if judge_paired(Paired(200, *row), 0.25).colour == "red"
            )
            seen[kept, pre] = red / 1_000
    # three standard errors of 2.5% in 1,000 draws are 1.5 points
    assert all(rate <= 0.04 for rate in seen.values()), seen
    assert numpy.mean([rate for (kept, _), rate in seen.items() if kept == 0.9]) <= 0.025, seen
    assert all(rate <= 0.005 for (kept, _), rate in seen.items() if kept == 1.0), seen
    # the point estimate alone would be wrong far more often than that
    assert judge_paired(Paired(200, 87, 13, 7, 93), 0.25).colour == "amber"


def test_metrics_without_right_and_wrong_are_judged_by_their_interval():
    assert verdict.judge_interval(Interval(0.97, 0.94, 0.99), 0.5, 0.02).colour == "green"
    assert verdict.judge_interval(Interval(0.5, 0.3, 0.7), 0.5, 0.02).colour == "red"
    assert verdict.judge_interval(Interval(0.5, 0.3, 0.7), 0.05, 0.02).colour == "cannot_tell"
    assert verdict.judge_interval(Interval(math.nan, math.nan, math.nan), 0.5, 0.0).colour == "cannot_tell"
    assert verdict.judge_interval(Interval(0.95, -math.inf, math.inf), 0.5, 0.0).colour == "amber"
