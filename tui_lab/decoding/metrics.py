"""What is told of an answer beside its text: how sure the model was, how much the answer repeats itself.
Pure functions of tokens and log-probabilities; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_logprob(logprobs: Sequence[float]) -> float:
    """Mean natural log-probability of a token; nan for none."""
    return sum(logprobs) / len(logprobs) if logprobs else math.nan


def perplexity(logprobs: Sequence[float]) -> float:
    """exp of the mean negative log-probability; nan for no tokens, inf beyond the range of floats."""
    mean = mean_logprob(logprobs)
    return math.inf if mean < -700 else math.exp(-mean)


def distinct_n(tokens: Sequence[int], n: int) -> float:
    """Share of n-grams that are different (Li et al. 2016, distinct-n); nan where there is no n-gram."""
    grams = [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def rep_n(tokens: Sequence[int], n: int) -> float:
    """Share of n-grams that stood before (Welleck et al. 2020, seq-rep-n): 1 − distinct-n of one text."""
    return 1 - distinct_n(tokens, n)
