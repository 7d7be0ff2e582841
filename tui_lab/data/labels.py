"""Data whose answers are labels: finds the labels, and scores predictions for each of them. No torch.

One causal language model does what task heads do: a label is an answer, its probability that of its text
among the texts of all labels. Precision, recall and F1 are those of the generated answers; the area under
the ROC curve is the share of pairs of a row of the class and another row in which the first one has the
higher probability of the label, ties counted half (Hanley and McNeil 1982)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tui_lab.data.label_records import LabelScore, LabelScores
from tui_lab.data.scoring import normalised

#: Answers are labels where there are at most so many different ones, each of at most so many words and, in
#: the mean, on at least so many rows.
MOST_LABELS, MOST_WORDS, ROWS_A_LABEL = 20, 5, 10


def labels_of(answers: Sequence[str]) -> tuple[str, ...]:
    """The labels, in their most frequent spelling, the most frequent first; () where answers are no
    labels."""
    spellings: dict[str, Counter[str]] = {}
    for answer in answers:
        found = spellings.setdefault(normalised(answer), Counter())
        found[answer.strip()] += 1
        if len(spellings) > MOST_LABELS or len(answer.split()) > MOST_WORDS:
            return ()
    if len(spellings) < 2 or len(answers) < ROWS_A_LABEL * len(spellings) or "" in spellings:
        return ()
    order = sorted(spellings, key=lambda name: (-spellings[name].total(), name))
    return tuple(spellings[name].most_common(1)[0][0] for name in order)


def label_scores(
    labels: Sequence[str],
    expected: Sequence[str],
    answers: Sequence[str],
    probabilities: np.ndarray | None = None,
) -> LabelScores:
    """The scores of ``answers`` against ``expected``; ``probabilities`` (rows, labels) are those of the
    labels as answers."""
    number = {normalised(label): at for at, label in enumerate(labels)}
    truth = np.array([number.get(normalised(text), -1) for text in expected])
    predicted = np.array([number.get(normalised(text), -1) for text in answers])
    found = []
    for at, label in enumerate(labels):
        is_class, is_predicted = truth == at, predicted == at
        right = int((is_class & is_predicted).sum())
        if not is_class.any() and not is_predicted.any():
            continue
        precision = right / max(1, int(is_predicted.sum()))
        recall = right / max(1, int(is_class.sum()))
        area = (
            None if probabilities is None else auc(probabilities[is_class, at], probabilities[~is_class, at])
        )
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        found.append(LabelScore(label, int(is_class.sum()), precision, recall, f1, area))
    areas = [each.auc for each in found if each.auc is not None]
    return LabelScores(
        precision=_mean([each.precision for each in found]),
        recall=_mean([each.recall for each in found]),
        f1=_mean([each.f1 for each in found]),
        labels=found,
        auc=_mean(areas) if areas else None,
        other=int((predicted < 0).sum()),
    )


def auc(positive: np.ndarray, negative: np.ndarray) -> float | None:
    """The share of pairs in which the positive's value is higher, ties counted half; None without pairs."""
    if not len(positive) or not len(negative):
        return None
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).sum() / (2 * len(positive) * len(negative)))


def balanced_weights(counts: Sequence[int]) -> list[float]:
    """Weights of classes by their rows: n / (K·n_c), so that every class weighs the same and the mean over
    rows is 1 (King and Zeng 2001)."""
    return [sum(counts) / (len(counts) * count) for count in counts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
