"""Scores the items of a suite with a model: the values of lm-evaluation-harness 0.4.13, item by item.

What rows have in common is computed once, which makes it faster. Each item is reported when it is ready, so
that an interrupted evaluation can be continued; when memory runs out, batches are halved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.data.rows import Model, Tokenizer
from tui_lab.retention.scoring import generate
from tui_lab.retention.scoring.encode import Encoder, ScoringRow, row_length
from tui_lab.retention.scoring.forward import (
    MAX_PACK_WIDTH,
    LogLikelihoodScorer,
    RowScorer,
    evaluation_mode,
)
from tui_lab.retention.scoring.generate import Cancelled
from tui_lab.retention.scoring.metrics import (
    ItemScore,
    Metric,
    choice_score,
    correct,
    document_score,
    metrics,
)
from tui_lab.retention.scoring.prefix_tree import Pack, make_packs
from tui_lab.retention.suites.records import Suite

__all__ = ["Cancelled", "ItemScore", "Metric", "correct", "metrics", "score"]

#: Tokens of one forward pass: enough to keep the device busy, few enough for its memory. On a CPU they fit
#: the caches (10 to 14 % faster than four times as many).
BATCH_TOKENS = {"cpu": 1024, "mps": 8192}
_BATCH_TOKENS_CUDA = 32_768
#: Items that are encoded and packed together: neighbours in a suite share beginnings, and the rows of a whole
#: few-shot benchmark would take gigabytes.
SECTION_ITEMS = 512


def score(
    model: Model,
    tokenizer: Tokenizer,
    suite: Suite,
    *,
    done: Mapping[str, ItemScore] | None = None,
    on_score: Callable[[ItemScore], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    batch_tokens: int = 0,
) -> list[ItemScore]:
    """The score of every item, in the suite's order.

    ``model`` is a causal language model of transformers, a PeftModel, or a RowScorer. ``done`` has the
    scores of an earlier attempt by item id. ``on_score`` gets each new score when it is ready (not in the
    suite's order), ``on_warning`` a sentence where scoring is slower than it could be. ``batch_tokens``
    bounds the tokens of one forward pass (0: by device). Raises Cancelled, and LabError for items that cannot
    be scored."""
    found = {item.id: done[item.id] for item in suite.items if done and item.id in done}

    def ready(one: ItemScore) -> None:
        found[one.id] = one
        if on_score is not None:
            on_score(one)

    waiting = [at for at, item in enumerate(suite.items) if item.id not in found]
    if waiting:
        with evaluation_mode(model):
            if suite.kind == "generate":
                generate.answer_items(model, tokenizer, suite, waiting, ready, cancelled)
            else:
                evaluation = _Evaluation(model, tokenizer, suite, ready, cancelled, batch_tokens)
                if on_warning is not None:
                    for text in evaluation.warnings:
                        on_warning(text)
                evaluation.run(waiting)
    return [found[item.id] for item in suite.items]


class _Evaluation:
    """The items of one suite, section by section."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        suite: Suite,
        ready: Callable[[ItemScore], None],
        cancelled: Callable[[], bool],
        batch_tokens: int,
    ) -> None:
        self._suite, self._ready, self._cancelled = suite, ready, cancelled
        self._scorer = model if isinstance(model, RowScorer) else LogLikelihoodScorer(model)
        self.warnings = self._scorer.warnings
        self._encoder = Encoder(tokenizer, row_length(model, tokenizer, self._scorer.virtual_tokens))
        device = model.get_input_embeddings().weight.device.type
        self._budget = batch_tokens or BATCH_TOKENS.get(device, _BATCH_TOKENS_CUDA)
        #: A pack may be wider than a batch: a shared beginning saves more time than the caches do.
        self._max_width = batch_tokens or max(self._budget, MAX_PACK_WIDTH)
        self._rows: dict[int, list[ScoringRow]] = {}
        self._values: dict[tuple[int, int], float] = {}

    def run(self, waiting: Sequence[int]) -> None:
        for begin in range(0, len(waiting), SECTION_ITEMS):
            self._check_cancelled()
            rows = self._encoder.rows(self._suite, waiting[begin : begin + SECTION_ITEMS])
            self._rows, self._values = {}, {}
            for row in rows:
                self._rows.setdefault(row.item, []).append(row)
            share = self._scorer.supports_trees and self._suite.kind != "perplexity"
            packs = make_packs(
                rows, min(self._scorer.max_width, self._max_width), share, self._scorer.token_cost_ratio
            )
            # the widest first, so that a lack of memory shows at once
            packs.sort(key=lambda pack: -pack.width)
            self._score_packs(packs)

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise Cancelled

    def _score_packs(self, packs: list[Pack]) -> None:
        """Scores packs of falling width in batches within the budget."""
        while packs:
            self._check_cancelled()
            batch = packs[: max(1, self._budget // packs[0].width)]
            try:
                values = self._scorer.log_likelihoods(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = True
            else:
                failed = False
            if failed:  # outside the handler: the error's traceback keeps the batch's tensors alive
                packs = self._halve(packs, batch)
                continue
            del packs[: len(batch)]
            self._store(batch, values)

    def _halve(self, packs: list[Pack], batch: list[Pack]) -> list[Pack]:
        """The same packs for batches of half the tokens, or with the widest pack in two parts."""
        free_memory()
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
            parts += make_packs(
                rows, widest.width, self._scorer.supports_trees, self._scorer.token_cost_ratio
            )
        return sorted([*parts, *packs[1:]], key=lambda pack: -pack.width)

    def _store(self, batch: Sequence[Pack], values: Sequence[Sequence[float]]) -> None:
        """Stores the log-likelihoods of rows and reports the items that are complete."""
        touched: dict[int, None] = {}
        for pack, found in zip(batch, values, strict=True):
            for row, value in zip(pack.rows, found, strict=True):
                self._values[row.item, row.choice] = value
                touched[row.item] = None
        for at in touched:
            rows = self._rows[at]
            if all((at, row.choice) in self._values for row in rows):
                self._ready(self._score(at, rows))

    def _score(self, at: int, rows: Sequence[ScoringRow]) -> ItemScore:
        item = self._suite.items[at]
        values = [self._values[at, row.choice] for row in rows]
        tokens = [len(row.targets) for row in rows]
        if self._suite.kind == "perplexity":
            return document_score(item, sum(values), sum(tokens))
        return choice_score(item, values, tokens, max(row.cut for row in rows))
