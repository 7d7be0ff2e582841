"""Scores a suite's items with a model, equal to lm-evaluation-harness item by item and faster than it:
what rows have in common is computed once. Each item is told as soon as it is ready, so that an interrupted
evaluation goes on where it stopped; when the memory does not suffice, batches are halved."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.retention.scoring import generate
from tui_lab.retention.scoring.encode import Encoder, Row, context_length
from tui_lab.retention.scoring.forward import WIDEST, Reader, evaluating
from tui_lab.retention.scoring.generate import Cancelled
from tui_lab.retention.scoring.metrics import (
    ItemScore,
    Metric,
    choice_score,
    correct,
    document_score,
    metrics,
)
from tui_lab.retention.scoring.prefix_tree import Pack, packs_of
from tui_lab.retention.suites.records import Suite

__all__ = ["Cancelled", "ItemScore", "Metric", "correct", "metrics", "score"]

#: Tokens that one forward reads: enough to keep the device busy, little enough for its memory; on processors
#: what their caches hold (a tenth to a seventh faster than four times as many).
BATCH_TOKENS = {"cpu": 1024, "mps": 8192}
_BATCH_TOKENS_CUDA = 32_768
#: Items that are encoded and packed together: neighbours of a suite share beginnings, and rows of a whole
#: few-shot benchmark would take gigabytes.
ITEMS_AT_ONCE = 512


def score(
    model: Any,
    tokenizer: Any,
    suite: Suite,
    *,
    done: Mapping[str, ItemScore] = {},
    tell: Callable[[ItemScore], None] = lambda score: None,
    cancelled: Callable[[], bool] = lambda: False,
    batch_tokens: int = 0,
) -> list[ItemScore]:
    """The score of every item, in the suite's order.

    ``done`` holds scores of an earlier attempt by item id; ``tell`` gets each new one as it is ready (not in
    the suite's order); ``batch_tokens`` bounds what one forward reads (0: by device). ``model`` may be a
    PeftModel. Raises Cancelled, and LabError for items that cannot be scored."""
    found = {item.id: done[item.id] for item in suite.items if item.id in done}

    def ready(one: ItemScore) -> None:
        found[one.id] = one
        tell(one)

    waiting = [at for at, item in enumerate(suite.items) if item.id not in found]
    if waiting:
        with evaluating(model):
            if suite.kind == "generate":
                generate.answer_items(model, tokenizer, suite, waiting, ready, cancelled)
            else:
                _Evaluation(model, tokenizer, suite, ready, cancelled, batch_tokens).run(waiting)
    return [found[item.id] for item in suite.items]


class _Evaluation:
    """The items of one suite, section by section."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        suite: Suite,
        ready: Callable[[ItemScore], None],
        cancelled: Callable[[], bool],
        batch_tokens: int,
    ) -> None:
        self._suite, self._ready, self._cancelled = suite, ready, cancelled
        self._reader = Reader(model)
        self._encoder = Encoder(tokenizer, context_length(model, tokenizer, self._reader.virtual_tokens))
        device = model.get_input_embeddings().weight.device.type
        self._budget = batch_tokens or BATCH_TOKENS.get(device, _BATCH_TOKENS_CUDA)
        #: A pack may be wider than a batch is meant to be: what it saves is more than what the caches do.
        self._widest = batch_tokens or max(self._budget, WIDEST)
        self._rows: dict[int, list[Row]] = {}
        self._values: dict[tuple[int, int], float] = {}

    def run(self, waiting: Sequence[int]) -> None:
        for begin in range(0, len(waiting), ITEMS_AT_ONCE):
            self._stop_if_asked()
            rows = self._encoder.rows(self._suite, waiting[begin : begin + ITEMS_AT_ONCE])
            self._rows, self._values = {}, {}
            for row in rows:
                self._rows.setdefault(row.item, []).append(row)
            share = self._reader.trees and self._suite.kind != "perplexity"
            packs = packs_of(rows, min(self._reader.width, self._widest), share, self._reader.reach)
            # the longest first: what does not fit the memory shows at once
            packs.sort(key=lambda pack: -pack.width)
            self._read(packs)

    def _stop_if_asked(self) -> None:
        if self._cancelled():
            raise Cancelled("the evaluation was stopped as asked; the items that were done are kept")

    def _read(self, packs: list[Pack]) -> None:
        """Reads packs of falling width in batches under the budget."""
        while packs:
            self._stop_if_asked()
            batch = packs[: max(1, self._budget // packs[0].width)]
            try:
                values = self._reader.read(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = True
            else:
                failed = False
            if failed:  # outside the handler: the error's traceback held the batch's tensors
                packs = self._smaller(packs, batch)
                continue
            del packs[: len(batch)]
            self._take(batch, values)

    def _smaller(self, packs: list[Pack], batch: list[Pack]) -> list[Pack]:
        """The same work in batches of half the tokens, or its widest packs in parts."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        used = len(batch) * batch[0].width
        self._budget = max(1, min(self._budget, used) // 2)
        if len(batch) > 1:
            return packs
        widest = batch[0]
        if len(widest.rows) == 1:
            raise LabError(
                f"an item of {widest.width:,} tokens does not fit the free memory; close other programs, "
                "load the model in 4 bits, or take a smaller one"
            )
        half = len(widest.rows) // 2
        parts: list[Pack] = []
        for rows in (widest.rows[:half], widest.rows[half:]):
            parts += packs_of(rows, widest.width, self._reader.trees, self._reader.reach)
        return sorted([*parts, *packs[1:]], key=lambda pack: -pack.width)

    def _take(self, batch: Sequence[Pack], values: Sequence[Sequence[float]]) -> None:
        """Keeps the rows' values and tells the items that are whole now."""
        touched: dict[int, None] = {}
        for pack, found in zip(batch, values, strict=True):
            for row, value in zip(pack.rows, found, strict=True):
                self._values[row.item, row.choice] = value
                touched[row.item] = None
        for at in touched:
            rows = self._rows[at]
            if all((at, row.choice) in self._values for row in rows):
                self._ready(self._score(at, rows))

    def _score(self, at: int, rows: Sequence[Row]) -> ItemScore:
        item = self._suite.items[at]
        values = [self._values[at, row.choice] for row in rows]
        tokens = [len(row.targets) for row in rows]
        if self._suite.kind == "perplexity":
            return document_score(item, sum(values), sum(tokens))
        return choice_score(item, values, tokens, max(row.cut for row in rows))
