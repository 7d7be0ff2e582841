"""Figures about a generated text: confidence and repetition. Pure functions without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_logprob(logprobs: Sequence[float]) -> float:
    """Mean natural log-probability per token; NaN for an empty sequence."""
    return sum(logprobs) / len(logprobs) if logprobs else math.nan


def perplexity(logprobs: Sequence[float]) -> float:
    """exp of the mean negative log-probability; NaN for no tokens, infinity beyond the range of floats."""
    mean = mean_logprob(logprobs)
    return math.inf if mean < -700 else math.exp(-mean)


def distinct_n(tokens: Sequence[int], n: int) -> float:
    """Share of distinct n-grams (distinct-n, Li et al. 2016); NaN for fewer than n tokens."""
    grams = [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def rep_n(tokens: Sequence[int], n: int) -> float:
    """Share of repeated n-grams (seq-rep-n, Welleck et al. 2020): 1 − distinct-n."""
    return 1 - distinct_n(tokens, n)
