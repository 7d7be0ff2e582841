"""Paired statistics against arithmetic by hand, scipy, and simulation."""

import math
import random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.retention import statistics
from tui_lab.retention.scoring import metrics
from tui_lab.retention.statistics import Paired

counts = st.integers(0, 400)


def test_paired_counts_by_hand():
    p = statistics.paired([1, 1, 1, 0, 0, 1], [1, 0, 1, 1, 0, 0])
    assert p == Paired(n=6, a=2, b=2, c=1, d=1)
    assert (p.pre, p.post) == (4 / 6, 3 / 6)
    assert p.pre_se == pytest.approx(numpy.std([1, 1, 1, 0, 0, 1], ddof=1) / math.sqrt(6))


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError):
        statistics.paired([True], [True, False])


def test_mcnemar_by_hand():
    # 5 of 5 one way: 2 · (1/2)^5 = 1/16;  1 of 6: 2 · (1 + 6)/64 = 14/64;  equal both ways: 1
    assert statistics.mcnemar_exact(5, 0) == 1 / 16
    assert statistics.mcnemar_exact(1, 5) == 14 / 64
    assert statistics.mcnemar_exact(3, 3) == 1
    assert statistics.mcnemar_exact(0, 0) == 1


def test_mcnemar_equals_scipys_binomial_test():
    scipy = pytest.importorskip("scipy.stats")
    draw = random.Random(4)
    for _ in range(60):
        b, c = draw.randrange(0, 90), draw.randrange(0, 90)
        if b + c:
            assert statistics.mcnemar_exact(b, c) == pytest.approx(scipy.binomtest(b, b + c, 0.5).pvalue)
    assert statistics.mcnemar_exact(5_200, 4_800) == pytest.approx(scipy.binomtest(5_200, 10_000).pvalue)


def test_items_needed_equals_reference_figures():
    # ψ .15, δ .05: 1.95996·√.15 = .75909; .84162·√.1475 = .32323; (1.08232/.05)² = 468.6
    assert statistics.items_needed(0.15, 0.05) == 469
    with pytest.raises(ValueError):
        statistics.items_needed(0.05, 0.15)


def test_bonett_price_by_hand():
    # a 80, b 10, c 5, d 5: pre 90, post 85, seen 95
    # joint = √(17 / (86·91)) = .046608;  √((1 − 86/97)/86) = .036313, √((1 − 91/97)/91) = .026071
    # z = .046608 / .062384 · 1.959964 = 1.464293, z² = 2.144155
    # post: (170 + z² ∓ z√(z² + 340·10/95)) / (2·97.144155) = (172.144155 ∓ 9.015) / 194.28831
    # pre : (180 + z² ∓ z√(z² + 360·5/95))  / (2·97.144155) = (182.144155 ∓ 6.727) / 194.28831
    found = statistics.bonett_price(Paired(100, 80, 10, 5, 5))
    assert found.value == pytest.approx(85 / 90)
    assert found.low == pytest.approx((172.144155 - 9.015) / (182.144155 + 6.727), abs=2e-4)
    assert found.high == pytest.approx((172.144155 + 9.015) / (182.144155 - 6.727), abs=2e-4)


def test_without_flips_bonett_price_equals_its_closed_form():
    # b = c = 0: z² = z₀² · (a + 2) / (2(a + 1)); low = a / (a + z²), high its inverse
    z2 = 1.959963985**2 * 97 / (2 * 96)
    found = statistics.bonett_price(Paired(100, 95, 0, 0, 5))
    assert found.low == pytest.approx(95 / (95 + z2))
    assert found.high == pytest.approx((95 + z2) / 95)


def test_fieller_by_hand():
    # a 60, b 20, c 10, d 10, chance 1/4; with a flip each way n = 102: pre 81/102, post 71/102, both 60/102
    pre, post, both, z2, n = 81 / 102, 71 / 102, 60 / 102, 1.959963985**2, 102
    found = statistics.retention_above_chance(Paired(100, 60, 20, 10, 10), 0.25)
    assert found.value == pytest.approx((0.7 - 0.25) / (0.8 - 0.25))
    for theta in (found.low, found.high):  # the ends are where the statistic is exactly z
        gap = (post - 0.25) - theta * (pre - 0.25)
        variance = post * (1 - post) + theta**2 * pre * (1 - pre) - 2 * theta * (both - pre * post)
        assert gap**2 == pytest.approx(z2 * variance / n)


def _simulate(chance, gains=(0.0, 0.01, 0.05)):
    """(n, pre, R, gain, coverage, red, narrowest) for each case; R is above chance when there is one."""
    generator = numpy.random.default_rng(7)
    for n in (100, 200, 452):
        for pre in (0.3, 0.5, 0.7, 0.9, 0.95):
            for kept in (0.9, 0.95, 0.98, 1.0):
                for gain in gains:
                    if (pre - chance) / math.sqrt(pre * (1 - pre) / n) < 4:
                        continue  # the verdict there is "cannot tell"
                    post = chance + kept * (pre - chance)
                    gained = min(gain, (1 - pre) * 0.8)
                    lost = pre - post + gained
                    draws = generator.multinomial(n, [pre - lost, lost, gained, 1 - pre - gained], 400)
                    kinds, times = numpy.unique(draws, axis=0, return_counts=True)
                    cover = red = 0
                    narrowest = math.inf
                    for row, weight in zip(kinds.tolist(), times.tolist(), strict=True):
                        p = Paired(n, *row)
                        found = statistics.retention_above_chance(p, chance)
                        cover += weight * (found.low - 1e-9 <= kept <= found.high + 1e-9)
                        red += weight * (found.high < kept - 1e-9)
                        narrowest = min(narrowest, found.high - found.low)
                    yield n, pre, kept, gain, cover / 400, red / 400, narrowest


@pytest.mark.parametrize("chance", [0.0, 0.25])
def test_intervals_cover_and_have_a_width(chance):
    rows = list(_simulate(chance))
    assert len(rows) > 80
    # 400 draws: three standard errors of a 95% coverage are 3.3 points, so the floor of each case is checked
    # with that noise and the mean without; the 3,024 cases named in the module had 4,000 draws each
    for row in rows:
        assert row[4] >= 0.92, row
        assert row[6] > 0, row
        assert row[5] <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 400), row
    assert numpy.mean([row[4] for row in rows]) >= 0.945
    assert numpy.mean([row[5] for row in rows]) <= 0.025


def test_without_flips_the_interval_has_a_width():
    """The simulation can fail: the simple log interval has no width without flips."""
    p = Paired(100, 95, 0, 0, 5)
    assert math.sqrt((p.b + p.c) / ((p.a + p.b) * (p.a + p.c))) == 0
    found = statistics.retention(p)
    assert found.high - found.low > 0.03


@given(counts, counts, counts, counts)
def test_retention_bounds_are_ordered_and_apart(a, b, c, d):
    p = Paired(a + b + c + d, a, b, c, d)
    found = statistics.retention(p)
    if a + b:
        assert 0 <= found.low <= found.value <= found.high
        assert found.high > found.low
        assert found.value == pytest.approx(p.post / p.pre)
        wide = statistics.bonett_price(p)
        assert found.low <= wide.low and found.high >= wide.high
    else:
        assert math.isnan(found.value) and found.high == math.inf


@given(counts, counts, counts, counts)
def test_the_difference_lies_in_its_interval(a, b, c, d):
    p = Paired(a + b + c + d, a, b, c, d)
    found = statistics.difference(p)
    assert -1 <= found.low < found.high <= 1
    mirrored = statistics.difference(Paired(p.n, a, c, b, d))
    assert mirrored.low == pytest.approx(-found.high)


def test_difference_by_hand():
    # n 100, b 10, c 4: lost 11/102, gained 5/102, centre −6/102; variance (16/102 − (6/102)²)/102
    half = 1.959963985 * math.sqrt((16 / 102 - (6 / 102) ** 2) / 102)
    found = statistics.difference(Paired(100, 80, 10, 4, 6))
    assert found.value == pytest.approx(-0.06)
    assert found.low == pytest.approx(-6 / 102 - half)
    assert found.high == pytest.approx(-6 / 102 + half)


def test_a_base_near_chance_gives_an_unbounded_interval():
    near = statistics.retention_above_chance(Paired(100, 27, 0, 0, 73), 0.25)
    assert (near.low, near.high) == (-math.inf, math.inf)
    assert math.isnan(statistics.retention_above_chance(Paired(100, 25, 0, 0, 75), 0.25).value)


def test_without_items_intervals_are_unbounded():
    none = statistics.paired([], [])
    for found in (statistics.retention(none), statistics.difference(none), statistics.wilson(0, 0)):
        assert math.isnan(found.value)


def test_wilson_equals_scipys_interval():
    scipy = pytest.importorskip("scipy.stats")
    for wins, n in ((0, 10), (3, 10), (10, 10), (57, 120)):
        theirs = scipy.binomtest(wins, n).proportion_ci(0.95, method="wilson")
        found = statistics.wilson(wins, n)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_student_t_equals_scipys_quantile():
    scipy = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 3, 7, 30, 31, 500):
        for level in (0.8, 0.95, 0.99):
            assert statistics.student_t(degrees, level) == pytest.approx(
                scipy.t.ppf((1 + level) / 2, degrees)
            )
    assert statistics.student_t(10_001) == pytest.approx(scipy.t.ppf(0.975, 10_001), rel=3e-4)


def test_mean_interval_by_hand():
    # 1 2 3 4: mean 2.5, s = √(5/3), t(3) = 3.182446
    half = 3.182446 * math.sqrt(5 / 3) / 2
    found = statistics.mean_interval([1, 2, 3, 4])
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-5)
    assert statistics.mean_interval([1.0]).high == math.inf


def test_bootstrap_agrees_with_the_interval_of_right_and_wrong():
    before = [True] * 320 + [False] * 80
    after = [True] * 290 + [False] * 30 + [True] * 10 + [False] * 70
    closed = statistics.retention_above_chance(statistics.paired(before, after), 0.25)
    drawn = statistics.bootstrap_ratio(before, after, 0.25)
    assert drawn.value == pytest.approx(closed.value)
    assert drawn.low == pytest.approx(closed.low, abs=0.02)
    assert drawn.high == pytest.approx(closed.high, abs=0.02)
    assert drawn == statistics.bootstrap_ratio(before, after, 0.25)  # the seed is fixed


def test_perplexity_retention_by_hand():
    # every document costs 0.1 nats a token more: exp(−0.1), whatever is drawn
    tokens = [10, 200, 35]
    found = statistics.bootstrap_perplexity([20, 400, 70], [21, 420, 73.5], tokens)
    assert (found.value, found.low, found.high) == pytest.approx((math.exp(-0.1),) * 3)
    mixed = statistics.bootstrap_perplexity([20, 400, 70], [30, 400, 70], tokens)
    assert mixed.value == pytest.approx(math.exp(-10 / 245))
    assert mixed.low < mixed.value < mixed.high


def test_retention_of_a_table_measure():
    truth = [0, 1] * 100
    before = [0, 1] * 90 + [1, 0] * 10
    after = [0, 1] * 70 + [1, 0] * 30
    found, change = statistics.bootstrap_tables(truth, before, after, metrics.mcc)
    # balanced: mcc = right − wrong = .8 before, .4 after
    assert found.value == pytest.approx(0.5)
    assert 0.3 < found.low < 0.5 < found.high < 0.7
    # the difference of two means of ±1 in pairs: twice the difference of the shares of right answers
    flips = statistics.difference(
        statistics.paired(*([t == g for t, g in zip(truth, guess, strict=True)] for guess in (before, after)))
    )
    assert change.value == pytest.approx(-0.4)
    assert (change.low, change.high) == pytest.approx((2 * flips.low, 2 * flips.high), abs=0.03)
    # no prediction is a wrong one
    silent, _ = statistics.bootstrap_tables(truth, truth, [-1] * 200, metrics.mcc)
    assert silent.value == pytest.approx(-1)


def test_the_mean_f1_of_three_classes_by_a_closed_form():
    """Equal classes whose errors all go to the next one: the F1 of each is the share of right answers, so its
    change has the interval of a difference of shares."""
    truth = [0, 1, 2] * 100
    was = [at % 10 > 1 for at in range(300)]
    now = [at % 10 > 3 for at in range(300)]
    guesses = [
        [true if right else (true + 1) % 3 for true, right in zip(truth, kept, strict=True)]
        for kept in (was, now)
    ]
    found, change = statistics.bootstrap_tables(truth, *guesses, metrics.f1, 3)
    flips = statistics.difference(statistics.paired(was, now))
    assert found.value == pytest.approx(0.6 / 0.8) and change.value == pytest.approx(-0.2)
    assert (change.low, change.high) == pytest.approx((flips.low, flips.high), abs=0.01)


def test_bootstraps_have_a_width_without_flips():
    """No observed loss is no proof that nothing was lost: as wide as the closed form of right and wrong."""
    right = [at % 5 > 0 for at in range(40)]
    closed = statistics.retention_above_chance(statistics.paired(right, right), 0.25)
    drawn = statistics.bootstrap_ratio(right, right, 0.25)
    assert drawn.value == 1.0
    assert (drawn.low, drawn.high) == pytest.approx((closed.low, closed.high), abs=0.06)
    classes = [at % 3 for at in range(40)]
    found, change = statistics.bootstrap_tables(classes, classes, classes, metrics.f1, 3)
    flips = statistics.difference(statistics.paired([True] * 40, [True] * 40))
    assert found.value == 1.0 and found.low < 0.96 and change.value == 0.0
    assert (change.low, change.high) == pytest.approx((flips.low, flips.high), abs=0.04)


def test_scores_of_different_lengths_are_refused():
    with pytest.raises(ValueError):
        statistics.bootstrap_ratio([0.5, 0.4], [0.5])
