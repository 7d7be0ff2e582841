"""The score of one item, the metrics of a suite with their standard errors, and which items are right.
Predictions and sums are those of lm-evaluation-harness 0.4.13; metrics without a standard error there (MCC,
F1, perplexity) have one by bootstrap with a fixed seed. No torch, and numpy only where it is needed: the lab
reads results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from tui_lab.retention.statistics import RESAMPLES, SEED
from tui_lab.retention.suites import checks
from tui_lab.retention.suites.records import Item, Suite

if TYPE_CHECKING:
    import numpy

#: The prediction where log-likelihoods are not finite (a diverged model); it counts as wrong.
NO_PREDICTION = -1


class ScoreDetails(TypedDict, total=False):
    """Fields of a score besides log-likelihoods: ``text`` and ``passed`` for a generated answer, ``words``
    and ``bytes`` for a document, ``cut``: tokens cut off at the beginning of an item."""

    text: str
    passed: bool
    words: int
    bytes: int
    cut: int


@dataclass(frozen=True)
class ItemScore:
    """The score of a model on one item.

    `loglikelihoods` (nats) and `tokens` (counted) are by continuation; of a document there is one of each,
    of a generated answer none. `predicted` is the choice with the highest sum, `predicted_norm` the one with
    the highest sum by character. `extra` holds `text` of generated answers, `words` and `bytes` of documents,
    and `cut` (tokens) where an item was longer than the model's context."""

    id: str
    loglikelihoods: tuple[float, ...] = ()
    predicted: int = NO_PREDICTION
    predicted_norm: int = NO_PREDICTION
    tokens: tuple[int, ...] = ()
    extra: ScoreDetails = field(default_factory=lambda: ScoreDetails())


@dataclass(frozen=True)
class Metric:
    """A metric with its standard error, NaN for fewer than two items; that of a mean is the sample's standard
    deviation (n − 1) over √n."""

    value: float
    se: float = math.nan


def choice_lengths(item: Item) -> list[int]:
    """The divisors of acc_norm: characters of each choice, without the leading space."""
    shown = item.choices if len(item.choices) == len(item.continuations) else item.continuations
    return [len(text) if shown is item.choices else len(text.lstrip(" ")) for text in shown]


def choice_score(item: Item, loglikelihoods: Sequence[float], tokens: Sequence[int], cut: int) -> ItemScore:
    """The score of an item from its continuations' log-likelihoods (nats); the first of equal ones is
    predicted. ``tokens``: of each continuation; ``cut``: tokens cut off at the beginning."""
    predicted = predicted_norm = NO_PREDICTION
    if all(math.isfinite(value) for value in loglikelihoods):
        by_length = [
            value / length if length else -math.inf
            for value, length in zip(loglikelihoods, choice_lengths(item), strict=True)
        ]
        predicted = max(range(len(loglikelihoods)), key=lambda i: loglikelihoods[i])
        predicted_norm = max(range(len(by_length)), key=lambda i: by_length[i])
    extra: ScoreDetails = {"cut": cut} if cut else {}
    return ItemScore(item.id, tuple(loglikelihoods), predicted, predicted_norm, tuple(tokens), extra)


def document_score(item: Item, loglikelihood: float, tokens: int) -> ItemScore:
    """The score of a document from its log-likelihood (nats), with the numbers of tokens, words and bytes by
    which it is divided."""
    text = item.continuations[0]
    words = int(item.meta.get("words") or len(text.split()))
    sizes: ScoreDetails = {
        "words": words,
        "bytes": int(item.meta.get("bytes") or len(text.encode("utf-8", "replace"))),
    }
    return ItemScore(item.id, (loglikelihood,), tokens=(tokens,), extra=sizes)


def correct(suite: Suite, scores: Sequence[ItemScore]) -> list[bool]:
    """For each item whether it is right by the suite's metric, for paired counts. Raises ValueError where
    items and scores differ in number.

    For mc2 that is more than half of the probability on true answers, for mcc and f1 the predicted class, for
    answer_f1 a right answer word for word, for agreement the same option in both contexts.
    Documents are not right or wrong: the list is empty."""
    if suite.kind == "perplexity":
        return []
    if suite.scorer:
        return [score.extra.get("passed", False) for score in scores]
    if suite.kind == "generate":
        return checks.passed(suite.items, [score.extra.get("text", "") for score in scores])
    if suite.kind == "agreement":
        return [_agrees(score.loglikelihoods) for score in scores]
    if suite.metric == "mc2":
        return [share > 0.5 for share in true_shares(suite, scores)]
    by_length = suite.metric == "acc_norm"
    return [
        (score.predicted_norm if by_length else score.predicted) in item.answers
        for item, score in zip(suite.items, scores, strict=True)
    ]


def _agrees(loglikelihoods: Sequence[float]) -> bool:
    """Whether the likelier option is the same after both contexts; not where a value is not finite."""
    one, other, one_again, other_again = loglikelihoods
    return all(map(math.isfinite, loglikelihoods)) and (one >= other) == (one_again >= other_again)


def true_shares(suite: Suite, scores: Sequence[ItemScore]) -> list[float]:
    """mc2 (TruthfulQA, Lin et al. 2022) of every item, 0 to 1: Σ over true answers of exp(ll) / Σ over all; 0
    where log-likelihoods are not finite."""
    import numpy

    shares = []
    for item, score in zip(suite.items, scores, strict=True):
        values = numpy.array(score.loglikelihoods, dtype=float)
        if not values.size or not numpy.isfinite(values).all():
            shares.append(0.0)
            continue
        # the highest is taken out first: exp of a long answer's sum is 0 in any float
        weights = numpy.exp(values - values.max())
        shares.append(float(weights[list(item.answers)].sum() / weights.sum()))
    return shares


def item_values(suite: Suite, scores: Sequence[ItemScore]) -> list[float]:
    """The value (0 to 1) of every item of a suite whose metric is a mean of values: mc2, or answer_f1, the F1
    of the predicted answer's words with the nearest right one; 0 where log-likelihoods are not finite."""
    if suite.metric == "mc2":
        return true_shares(suite, scores)
    return [
        0.0 if score.predicted == NO_PREDICTION else float(item.meta["f1"][score.predicted])
        for item, score in zip(suite.items, scores, strict=True)
    ]


def metrics(suite: Suite, scores: Sequence[ItemScore]) -> dict[str, Metric]:
    """Every metric of the suite's kind, the suite's own first; {} without scores. Accuracies are 0 to 1,
    perplexities per word, byte and token, ``bits_per_byte`` in bits."""
    if not scores:
        return {}
    if suite.kind == "perplexity":
        found = _perplexities(scores)
    elif suite.kind == "generate":
        texts = [score.extra.get("text", "") for score in scores]
        found = {"pass": mean(correct(suite, scores))}
        if followed := checks.followed(suite.items, texts):
            found["instructions"] = mean(followed)
        found |= {name: Metric(value, math.nan) for name, value in checks.spread(texts).items()}
    elif suite.kind == "agreement":
        found = {"agreement": mean(correct(suite, scores))}
    elif suite.kind == "pairs":
        by_length = [
            score.predicted_norm in item.answers for item, score in zip(suite.items, scores, strict=True)
        ]
        found = {"pair_preference": mean(correct(suite, scores)), "pair_preference_norm": mean(by_length)}
    elif suite.metric == "mc2":
        found = {"mc2": mean(true_shares(suite, scores))}
    else:
        found = _choices(suite, scores)
    first = {suite.metric: found[suite.metric]} if suite.metric in found else {}
    return first | found


def _choices(suite: Suite, scores: Sequence[ItemScore]) -> dict[str, Metric]:
    pairs = list(zip(suite.items, scores, strict=True))
    found = {
        "acc": mean([score.predicted in item.answers for item, score in pairs]),
        "acc_norm": mean([score.predicted_norm in item.answers for item, score in pairs]),
    }
    if suite.metric == "answer_f1":
        found["answer_f1"] = mean(item_values(suite, scores))
    if suite.metric in TABLE_METRICS:
        truth = [item.answers[0] for item, _ in pairs]
        table = confusion(truth, [score.predicted for _, score in pairs], classes_of(suite))
        found[suite.metric] = Metric(
            TABLE_METRICS[suite.metric](table), _table_error(TABLE_METRICS[suite.metric], table)
        )
    return found


def mean(values: Sequence[float | bool]) -> Metric:
    """Mean and standard error; NaN where they are undefined."""
    import numpy

    numbers = numpy.array(values, dtype=float)
    se = float(numbers.std(ddof=1) / math.sqrt(numbers.size)) if numbers.size > 1 else math.nan
    return Metric(float(numbers.mean()) if numbers.size else math.nan, se)


# --- classes ----------------------------------------------------------------------------------------


def classes_of(suite: Suite) -> int:
    """The number of classes of a suite whose metric is one of TABLE_METRICS."""
    return max(2, *(len(item.continuations) for item in suite.items))


def confusion(truth: Sequence[int], predicted: Sequence[int], classes: int = 2) -> numpy.ndarray:
    """Counts (classes, classes) of true class × predicted class; no prediction counts as a wrong class."""
    import numpy

    table = numpy.zeros((classes, classes), dtype=int)
    for true, guess in zip(truth, predicted, strict=True):
        table[true, guess if 0 <= guess < classes else (true + 1) % classes] += 1
    return table


def mcc(table: numpy.ndarray) -> float:
    """Matthews' correlation coefficient (1975) of a table (2, 2), −1 to 1; 0 where a row or a column is
    empty, as in scikit-learn."""
    (tn, fp), (fn, tp) = table.tolist()
    below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / below if below else 0.0


def f1(table: numpy.ndarray) -> float:
    """F1 of class 1, 0 to 1, of a table (2, 2); of a larger table the mean of the F1 of every class, as
    SuperGLUE scores CB. 0 for a class that neither occurs nor is predicted."""
    rows = table.tolist()
    either = [sum(row) + sum(column) for row, column in zip(rows, zip(*rows, strict=True), strict=True)]
    scores = [2 * rows[k][k] / total if total else 0.0 for k, total in enumerate(either)]
    return scores[1] if len(scores) == 2 else sum(scores) / len(scores)


#: Metrics of the table of true × predicted class.
TABLE_METRICS: dict[str, Callable[[numpy.ndarray], float]] = {"mcc": mcc, "f1": f1}


def _table_error(measure: Callable[[numpy.ndarray], float], table: numpy.ndarray) -> float:
    """The standard error by bootstrap over items, drawn as cells of their table."""
    import numpy

    count = int(table.sum())
    if count < 2:
        return math.nan
    draws = numpy.random.default_rng(SEED).multinomial(count, table.ravel() / count, RESAMPLES)
    return float(numpy.std([measure(draw.reshape(table.shape)) for draw in draws], ddof=1))


# --- documents --------------------------------------------------------------------------------------


def _perplexities(scores: Sequence[ItemScore]) -> dict[str, Metric]:
    """Weighted as in lm-evaluation-harness: all log-likelihoods over all words, bytes or tokens."""
    import numpy

    sums = numpy.array([score.loglikelihoods[0] for score in scores])
    sizes = {
        "word_perplexity": [score.extra["words"] for score in scores],
        "byte_perplexity": [score.extra["bytes"] for score in scores],
        "perplexity": [score.tokens[0] for score in scores],
    }
    draws = numpy.random.default_rng(SEED).integers(len(scores), size=(RESAMPLES, len(scores)))
    found = {}
    for name, size in sizes.items():
        weights = numpy.array(size, dtype=float)
        found[name] = Metric(
            _exp(-sums.sum() / weights.sum()), _spread([_exp(v) for v in _rates(sums, weights, draws)], draws)
        )
    nats = _rates(sums, numpy.array(sizes["byte_perplexity"], dtype=float), draws)
    bits = -sums.sum() / sum(sizes["byte_perplexity"]) / math.log(2)
    found["bits_per_byte"] = Metric(float(bits), _spread(nats / math.log(2), draws))
    return found


def _rates(sums: numpy.ndarray, weights: numpy.ndarray, draws: numpy.ndarray) -> numpy.ndarray:
    rates: numpy.ndarray = -sums[draws].sum(1) / weights[draws].sum(1)
    return rates


def _spread(values: Sequence[float] | numpy.ndarray, draws: numpy.ndarray) -> float:
    import numpy

    return float(numpy.std(values, ddof=1)) if draws.shape[1] > 1 else math.nan


def _exp(value: float) -> float:
    """exp; infinity instead of an OverflowError."""
    return math.exp(value) if value < 700 else math.inf if value == value else math.nan
