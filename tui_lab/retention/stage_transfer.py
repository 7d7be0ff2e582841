"""What a line of runs that go on from one another does to the tasks of the earlier ones, from the matrix of
the scores: a row for each stage, a column for each task, higher is better, NaN is unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence

ScoreMatrix = Sequence[Sequence[float]]


def backward_transfer(matrix: ScoreMatrix) -> float:
    """The mean change of the earlier tasks from the stage that learned each to the last stage (Lopez-Paz and
    Ranzato 2017): negative where they were forgotten. NaN for one stage, or where a value is unknown."""
    earlier = range(len(matrix) - 1)
    changes = [matrix[-1][task] - matrix[task][task] for task in earlier]
    return math.fsum(changes) / len(changes) if changes else math.nan


def forgetting(matrix: ScoreMatrix) -> list[float]:
    """For each task but the last its best score before the last stage, less that after it (Chaudhry and
    others 2018). NaN where a score since the task was learned is unknown."""
    found = []
    for task in range(len(matrix) - 1):
        column = [row[task] for row in matrix]
        before, since = column[:-1], column[task:]
        known = [value for value in before if not math.isnan(value)]
        found.append(math.nan if any(map(math.isnan, since)) else max(known) - column[-1])
    return found
