"""Statistics of paired scores: what a score before and the same items' score after say about forgetting.

Paired counts, the exact McNemar test, intervals for difference, retention and retention above chance, and
bootstraps for metrics that are not means of right and wrong. An interval has a width even where no item
flipped: no observed loss does not prove that nothing was lost. No torch, and numpy only where it is needed,
because the lab's screens import this."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

RESAMPLES, SEED = 2_000, 20_240_917
#: The most numbers that a bootstrap draws at once: 8 MB, whatever the number of items.
_DRAWN_AT_ONCE = 1_000_000
#: Pseudo-counts added to the flips each way in `retention_above_chance`: with one, simulated coverage stays
#: above 93.9 % on a grid of 3,024 cases (n 100–1,000, pre 0.3–0.95, R 0.9–1); with a half it falls to 87.9 %.
_PSEUDO_FLIPS = 1.0


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; NaN and infinite ends where the data give no bound."""

    value: float
    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Paired:
    """Counts of the same items before and after: `a` right both times, `b` lost (1→0), `c` gained (0→1),
    `d` wrong both times."""

    n: int
    a: int
    b: int
    c: int
    d: int

    @property
    def pre(self) -> float:
        """Share of right answers before."""
        return (self.a + self.b) / self.n if self.n else math.nan

    @property
    def post(self) -> float:
        """Share of right answers after."""
        return (self.a + self.c) / self.n if self.n else math.nan

    @property
    def pre_se(self) -> float:
        """Standard error of `pre`: the sample's standard deviation (n − 1) over √n."""
        return math.sqrt(self.pre * (1 - self.pre) / (self.n - 1)) if self.n > 1 else math.nan

    @property
    def flips(self) -> float:
        """ψ, the share of items whose answer changed from right to wrong or back."""
        return (self.b + self.c) / self.n if self.n else math.nan


def paired(before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Counts of items by right and wrong before and after, both in the same order. Raises ValueError for
    different lengths."""
    pairs = [(bool(was), bool(is_now)) for was, is_now in zip(before, after, strict=True)]
    a, b, c, d = (pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False)))
    return Paired(len(pairs), a, b, c, d)


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p of the exact McNemar test (McNemar 1947): b of b + c flips, each direction equally
    likely."""
    flips, fewer = b + c, min(b, c)
    term = total = 1
    for k in range(fewer):
        term = term * (flips - k) // (k + 1)  # whole numbers: exact for any count
        total += term
    return min(1.0, float(2 * total / 2**flips))


def difference(p: Paired, level: float = 0.95) -> Interval:
    """post − pre, −1 to 1, with the adjusted Wald interval of Bonett and Price (2012): one flip added each
    way. ``level`` is the confidence level, here and below."""
    if not p.n:
        return Interval(math.nan, -1.0, 1.0)
    n, lost, gained = p.n + 2, (p.b + 1) / (p.n + 2), (p.c + 1) / (p.n + 2)
    centre = gained - lost
    half = _z(level) * math.sqrt((lost + gained - centre**2) / n)
    return Interval(p.post - p.pre, max(-1.0, centre - half), min(1.0, centre + half))


def bonett_price(p: Paired, level: float = 0.95) -> Interval:
    """post / pre with the interval of Bonett and Price (2006), "Confidence intervals for a ratio of binomial
    proportions based on paired data": two Wilson intervals, narrowed for the correlation of the pairs."""
    pre, post, seen = p.a + p.b, p.a + p.c, p.a + p.b + p.c
    if not seen:
        return Interval(math.nan, 0.0, math.inf)
    joint = math.sqrt((p.b + p.c + 2) / ((post + 1) * (pre + 1)))
    apart = sum(math.sqrt((1 - (right + 1) / (seen + 2)) / (right + 1)) for right in (post, pre))
    z = joint / apart * _z(level)
    post_low, post_high = _wilson(post, seen, z)
    pre_low, pre_high = _wilson(pre, seen, z)
    high = post_high / pre_low if pre_low > 0 else math.inf
    return Interval(post / pre if pre else math.nan, post_low / pre_high, high)


def retention(p: Paired, level: float = 0.95) -> Interval:
    """R = post / pre with the interval of Bonett and Price, and never narrower than Fieller's with one flip
    added each way.

    Without the second, coverage in simulations falls to 87.7 % where no item is ever gained; both together
    cover 93.9 % or more, with 6 % more width on average."""
    found = bonett_price(p, level)
    if not p.a + p.b:
        return found
    low, high = _fieller(p, 0.0, level)
    return Interval(found.value, max(0.0, min(found.low, low)), max(found.high, high))


def retention_above_chance(p: Paired, chance: float, level: float = 0.95) -> Interval:
    """R_c = (post − chance) / (pre − chance) with the interval of Fieller (1954) for a ratio of correlated
    means, one flip added each way so that it has a width without flips too. Unbounded where pre may be
    chance; NaN for no items."""
    if not p.n or p.pre == chance:
        return Interval(math.nan, -math.inf, math.inf)
    if chance <= 0:
        return retention(p, level)
    low, high = _fieller(p, chance, level)
    return Interval((p.post - chance) / (p.pre - chance), low, high)


def _fieller(p: Paired, chance: float, level: float) -> tuple[float, float]:
    lost, gained = p.b + _PSEUDO_FLIPS, p.c + _PSEUDO_FLIPS
    n = p.n + 2 * _PSEUDO_FLIPS
    pre, post, both = (p.a + lost) / n, (p.a + gained) / n, p.a / n
    x, y, z2 = pre - chance, post - chance, _z(level) ** 2
    # the ratios θ with (y − θx)² ≤ z² Var(y − θx): between the roots of  square·θ² − 2·middle·θ + last
    square = x * x - z2 * pre * (1 - pre) / n
    middle = x * y - z2 * (both - pre * post) / n
    last = y * y - z2 * post * (1 - post) / n
    inside = middle * middle - square * last
    if square <= 0 or inside < 0 or x <= 0:
        return -math.inf, math.inf
    root = math.sqrt(inside)
    return (middle - root) / square, (middle + root) / square


def items_needed(psi: float, delta: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The number of items with which a paired comparison detects a change ``delta`` of the accuracy when a
    share ``psi`` of the items flips: [z_{1−α/2}√ψ + z_power √(ψ − δ²)]² / δ² (Connor 1987). Raises
    ValueError."""
    if not 0 < abs(delta) <= psi <= 1:
        raise ValueError(
            "a change of the score is above 0 and at most the share of items that flip, at most 1"
        )
    normal = NormalDist()
    root = normal.inv_cdf(1 - alpha / 2) * math.sqrt(psi)
    root += normal.inv_cdf(power) * math.sqrt(psi - delta**2)
    return math.ceil(root**2 / delta**2)


def wilson(wins: float, n: int, level: float = 0.95) -> Interval:
    """A proportion with its Wilson score interval (Wilson 1927)."""
    if not n:
        return Interval(math.nan, 0.0, 1.0)
    return Interval(wins / n, *_wilson(wins, n, _z(level)))


def _wilson(wins: float, n: float, z: float) -> tuple[float, float]:
    share = wins / n
    root = z * math.sqrt(max(0.0, z * z + 4 * wins * (1 - share)))
    below, middle = 2 * (n + z * z), 2 * wins + z * z
    return max(0.0, (middle - root) / below), min(1.0, (middle + root) / below)


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """A mean with the interval of Student's t (1908), in the unit of ``values`` (n,); unbounded for one
    value, NaN for none."""
    import numpy

    numbers = numpy.asarray(values, dtype=float)
    if not numbers.size:
        return Interval(math.nan, -math.inf, math.inf)
    mean = float(numbers.mean())
    if numbers.size == 1:
        return Interval(mean, -math.inf, math.inf)
    half = student_t(numbers.size - 1, level) * float(numbers.std(ddof=1)) / math.sqrt(numbers.size)
    return Interval(mean, mean - half, mean + half)


# --- metrics that are not right or wrong --------------------------------------------------------------


def bootstrap_ratio(
    before: Sequence[float], after: Sequence[float], chance: float = 0.0, level: float = 0.95
) -> Interval:
    """(mean after − chance) / (mean before − chance) over the same items, for mc2; ``before`` and
    ``after`` (n,) are shares, 0 to 1. Percentile bootstrap over items (Efron 1979), with one flip added each
    way so that it has a width without flips too. Raises ValueError for different lengths."""
    import numpy

    was, now = numpy.asarray(before, dtype=float), numpy.asarray(after, dtype=float)

    def ratio(old: numpy.ndarray, new: numpy.ndarray) -> Callable[[numpy.ndarray], numpy.ndarray]:
        # (draws, n) how often each item was drawn
        return lambda weights: _divide(weights @ new / new.size - chance, weights @ old / old.size - chance)

    if (n := _same_length(was, now)) < 2:
        return _bootstrap(n, ratio(was, now), level)
    value = float(ratio(was, now)(numpy.ones((1, n)))[0])
    flipped = ratio(numpy.append(was, (1.0, 0.0)), numpy.append(now, (0.0, 1.0)))
    drawn = _bootstrap(n + 2, flipped, level)
    return Interval(value, min(drawn.low, value), max(drawn.high, value))


def bootstrap_perplexity(
    before_nats: Sequence[float], after_nats: Sequence[float], tokens: Sequence[int], level: float = 0.95
) -> Interval:
    """Perplexity retention exp(−ΔCE), ΔCE in nats a token over all documents; percentile bootstrap
    over documents. The nats (n,) are each document's summed negative log-likelihood. Raises ValueError for
    different lengths."""
    import numpy

    rise = numpy.asarray(after_nats, dtype=float) - numpy.asarray(before_nats, dtype=float)
    sizes = numpy.asarray(tokens, dtype=float)

    def ratios(weights: numpy.ndarray) -> numpy.ndarray:
        found: numpy.ndarray = numpy.exp(-_divide(weights @ rise, weights @ sizes))
        return found

    return _bootstrap(_same_length(rise, sizes), ratios, level)


def bootstrap_tables(
    truth: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    measure: Callable[[numpy.ndarray], float],
    classes: int = 2,
    level: float = 0.95,
) -> tuple[Interval, Interval]:
    """The ratio after / before and the difference after − before of a ``measure`` of the table
    (classes, classes) of true × predicted class (mcc, f1).

    ``measure`` maps a table to a number. Items are resampled by drawing from the kinds that an item can be of
    (true class, class before, class after), so the two scores stay paired; an invalid class counts as wrong.
    One flip each way is added to what is drawn from, so that there is a width without flips too. Raises
    ValueError for different lengths."""
    import numpy

    shape = (classes,) * 3
    cells = numpy.zeros(shape)
    for true, was, now in zip(truth, before, after, strict=True):
        cells[true, *(guess if 0 <= guess < classes else (true + 1) % classes for guess in (was, now))] += 1

    def both(table: numpy.ndarray) -> tuple[float, float]:  # (true, before, after)
        was, now = measure(table.sum(2)), measure(table.sum(1))
        return now / was if was > 0 else math.nan, now - was

    count = int(cells.sum())
    if count < 2:
        ratio, change = both(cells) if count else (math.nan, math.nan)
        return Interval(ratio, -math.inf, math.inf), Interval(change, -math.inf, math.inf)
    shares = cells.sum((1, 2)) / count
    drawn_from = cells.copy()
    for true in range(classes):
        for wrong in set(range(classes)) - {true}:
            flip = _PSEUDO_FLIPS * shares[true] / (classes - 1)
            drawn_from[true, true, wrong] += flip
            drawn_from[true, wrong, true] += flip
    size = drawn_from.sum()
    draws = numpy.random.default_rng(SEED).multinomial(round(size), drawn_from.ravel() / size, RESAMPLES)
    ratio, change = both(cells)
    ratios, changes = zip(*(both(draw.reshape(shape)) for draw in draws), strict=True)
    return _percentiles(ratio, ratios, level), _percentiles(change, changes, level)


def _same_length(one: numpy.ndarray, other: numpy.ndarray) -> int:
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"{one.shape} scores before and {other.shape} after: they must be of the same items")
    return one.size


def _bootstrap(n: int, ratios: Callable[[numpy.ndarray], numpy.ndarray], level: float) -> Interval:
    import numpy

    if not n:
        return Interval(math.nan, -math.inf, math.inf)
    value = float(ratios(numpy.ones((1, n)))[0])
    if n == 1:
        return Interval(value, -math.inf, math.inf)
    random, found = numpy.random.default_rng(SEED), []
    for begin in range(0, RESAMPLES, max(1, _DRAWN_AT_ONCE // n)):
        rows = min(max(1, _DRAWN_AT_ONCE // n), RESAMPLES - begin)
        found.append(ratios(random.multinomial(n, numpy.full(n, 1 / n), rows).astype(float)))
    return _percentiles(value, numpy.concatenate(found), level)


def _divide(above: numpy.ndarray, below: numpy.ndarray) -> numpy.ndarray:
    """The ratio; NaN where the denominator is not above 0."""
    import numpy

    found: numpy.ndarray = numpy.divide(above, below, out=numpy.full_like(above, numpy.nan), where=below > 0)
    return found


def _percentiles(value: float, drawn: Any, level: float) -> Interval:
    import numpy

    values = numpy.asarray(drawn, dtype=float)
    # a draw without a value may lie at either end, so it widens both
    low = numpy.sort(numpy.where(numpy.isnan(values), -numpy.inf, values))
    high = numpy.sort(numpy.where(numpy.isnan(values), numpy.inf, values))
    at = int((1 - level) / 2 * values.size)
    return Interval(value, float(min(low[at], value)), float(max(high[-1 - at], value)))


# --- quantiles ----------------------------------------------------------------------------------------


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


@lru_cache(maxsize=256)
def student_t(degrees: int, level: float = 0.95) -> float:
    """The two-sided quantile of Student's t distribution with ``degrees`` ≥ 1 degrees of freedom, without
    scipy. Within 0.01% of scipy's."""

    def middle(t: float) -> float:
        # P(|T| < t), elementary for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)
        angle = math.atan(t / math.sqrt(degrees))
        cos2, term, total = math.cos(angle) ** 2, 1.0, 0.0
        if degrees % 2 == 0:
            for k in range(1, degrees // 2 + 1):
                total += term
                term *= cos2 * (2 * k - 1) / (2 * k)
            return math.sin(angle) * total
        term = math.cos(angle)
        for k in range(1, (degrees - 1) // 2 + 1):
            total += term
            term *= cos2 * (2 * k) / (2 * k + 1)
        return 2 / math.pi * (angle + math.sin(angle) * total)

    if degrees > 10_000:
        return _z(level)  # they differ by less than 0.01%
    low, high = 0.0, 1.0
    while middle(high) < level:
        low, high = high, high * 2
    for _ in range(60):
        half = (low + high) / 2
        low, high = (half, high) if middle(half) < level else (low, half)
    return (low + high) / 2
