"""Win rates from a judge: calibrated on a few human votes, and controlled for length. A win is 1, a tie 0.5,
a loss 0; a rate is the mean. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui_lab.retention.statistics import NO_INTERVAL, Interval, student_t

#: Votes below which no interval is given: its variance would be a guess.
FEWEST_VOTES = 10
#: Newton steps and the penalty on the slope of the length, which keeps separated wins finite.
NEWTON_STEPS, RIDGE = 25, 0.1
#: Votes that the judge is wrong about, added to the variance: without one simulated coverage falls to 87 %
#: for 20 votes, with one it is 93.0 % to 97.2 % on a grid of 30 cases (20 to 200 votes, rates 0.3 to 0.7).
_PSEUDO_ERRORS = 1.0
Z = 1.959964


def win_rate(wins: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of wins with the interval of Student's t, and one win that could have been otherwise added to
    the variance: equal wins prove no certainty. NaN for fewer than 2."""
    import numpy

    y = numpy.asarray(wins, dtype=float)
    if y.size < 2:
        return Interval(float(y.mean()) if y.size else math.nan, 0.0, 1.0)
    variance = (float(((y - y.mean()) ** 2).sum()) + _PSEUDO_ERRORS) / y.size**2
    return _around(float(y.mean()), variance, y.size, level)


def _around(value: float, variance: float, n: int, level: float) -> Interval:
    half = student_t(n - 1, level) * math.sqrt(variance)
    return Interval(min(1.0, max(0.0, value)), max(0.0, value - half), min(1.0, value + half))


def prediction_powered(
    votes: Sequence[float], judged: Sequence[float], others: Sequence[float], level: float = 0.95
) -> Interval:
    """The human win rate by prediction-powered inference (Angelopoulos et al. 2023), with the weight of the
    judge tuned as in PPI++ (Angelopoulos, Duchi and Zrnic 2023).

    ``votes`` (n,) and ``judged`` (n,) are a person's and the judge's wins on the same pairs, ``others`` (N,)
    the judge's on further pairs of the same kind. A judge that is biased widens the interval; it does not
    move it away from the truth. NaN for fewer than FEWEST_VOTES votes. Raises ValueError for different
    lengths."""
    import numpy

    y, f, g = (numpy.asarray(values, dtype=float) for values in (votes, judged, others))
    if y.shape != f.shape:
        raise ValueError(f"{y.size} votes and {f.size} judgements: they must be of the same pairs")
    if y.size < FEWEST_VOTES:
        return NO_INTERVAL
    n, size = y.size, g.size
    weight = 0.0
    if size > 1 and (pooled := float(numpy.concatenate((f, g)).var(ddof=1))) > 0:
        covariance = float(numpy.cov(y, f)[0, 1])
        weight = min(1.0, max(0.0, covariance / ((1 + n / size) * pooled)))
    value = float(y.mean() + weight * (g.mean() - f.mean())) if weight else float(y.mean())
    rest = y - weight * f
    variance = (float(((rest - rest.mean()) ** 2).sum()) + _PSEUDO_ERRORS) / n / n
    if weight:
        variance += weight**2 * float(g.var(ddof=1)) / size
    return _around(value, variance, n, level)


def length_controlled(wins: Sequence[float], length_differences: Sequence[float]) -> Interval:
    """The win rate at equal length, after AlpacaEval 2 (Dubois et al. 2024): a logistic regression of the
    wins on tanh(difference / standard deviation), read off at difference 0; fitted by Newton's method. The
    interval is that of the intercept.

    ``length_differences`` (n,): length of the tuned answer minus that of the base, in any unit. NaN for fewer
    than 3 pairs. Raises ValueError for different lengths."""
    import numpy

    y, lengths = numpy.asarray(wins, dtype=float), numpy.asarray(length_differences, dtype=float)
    if y.shape != lengths.shape:
        raise ValueError(f"{y.size} wins and {lengths.size} lengths: they must be of the same pairs")
    if y.size < 3:
        return NO_INTERVAL
    spread = float(lengths.std()) or 1.0
    x = numpy.column_stack((numpy.ones(y.size), numpy.tanh(lengths / spread)))
    # half a win and half a loss at equal length keep the intercept finite
    x, y = numpy.vstack((x, [1.0, 0.0])), numpy.append(y, 0.5)
    penalty = numpy.diag([0.0, RIDGE])
    beta = numpy.zeros(2)
    for _ in range(NEWTON_STEPS):
        rate = 1 / (1 + numpy.exp(-x @ beta))
        information = (x * (rate * (1 - rate))[:, None]).T @ x + penalty
        step = numpy.linalg.solve(information, x.T @ (y - rate) - penalty @ beta)
        beta = beta + step
        if float(numpy.abs(step).max()) < 1e-10:
            break
    error = math.sqrt(float(numpy.linalg.inv(information)[0, 0]))
    low, value, high = (1 / (1 + math.exp(-(float(beta[0]) + sign * Z * error))) for sign in (-1, 0, 1))
    return Interval(value, low, high)
