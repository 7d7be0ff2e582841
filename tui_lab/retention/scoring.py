"""Scores a suite's items with a model, equal to lm-evaluation-harness item by item and faster than it:
what rows have in common is computed once. Each item is told as soon as it is ready, so that an interrupted
evaluation goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tui_lab.errors import LabError
from tui_lab.retention.scoring_metrics import ItemScore, Metric, correct, metrics
from tui_lab.retention.suites_records import Suite

__all__ = ["Cancelled", "ItemScore", "Metric", "correct", "metrics", "score"]


class Cancelled(LabError):
    """The evaluation was asked to stop; what was told until then is done."""


def score(
    model: Any,
    tokenizer: Any,
    suite: Suite,
    *,
    done: Mapping[str, ItemScore] = {},  # noqa: B006 (read only)
    tell: Callable[[ItemScore], None] = lambda score: None,
    cancelled: Callable[[], bool] = lambda: False,
    batch_tokens: int = 0,
) -> list[ItemScore]:
    """The score of every item, in the suite's order.

    ``done`` holds scores of an earlier attempt by item id; ``tell`` gets each new one as it is ready (not in
    the suite's order); ``batch_tokens`` bounds what one forward reads (0: by device). ``model`` may be a
    PeftModel. Raises Cancelled, and LabError for items that cannot be scored."""
    raise NotImplementedError
