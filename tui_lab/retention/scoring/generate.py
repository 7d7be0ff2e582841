"""Greedy answers to suites of prompts, in batches; ``suites/checks.py`` scores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import free_memory, is_out_of_memory
from tui_lab.data.rows import Model, Tokenizer
from tui_lab.decoding.generate import Stops, generate_answers
from tui_lab.retention.scoring.encode import row_length
from tui_lab.retention.scoring.metrics import ItemScore
from tui_lab.retention.suites import checks
from tui_lab.retention.suites.records import Item, Suite

ROWS_AT_ONCE = 32
DEFAULT_NEW_TOKENS = 96
#: Where an answer to a plain "Question: … Answer:" ends: models without a chat template continue with
#: questions.
PLAIN_STOPS = ("\nQuestion:", "\n\n")


class Cancelled(LabError):
    """The evaluation was cancelled; the scores reported until then are valid."""

    def __init__(self) -> None:
        super().__init__("the evaluation was cancelled; the scores so far are kept")


def answer_items(
    model: Model,
    tokenizer: Tokenizer,
    suite: Suite,
    waiting: Sequence[int],
    ready: Callable[[ItemScore], None],
    cancelled: Callable[[], bool],
) -> None:
    """Answers the items at the indices ``waiting`` greedily and passes each score to ``ready``.

    Raises Cancelled, and LabError where one answer does not fit the memory.
    """
    from tui_lab.data import row_tokens

    chat = bool(tokenizer.chat_template)
    stops = row_tokens.stop_ids(tokenizer, model, chat=chat)
    positions = row_length(model, tokenizer)
    alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for at in waiting:
        item = suite.items[at]
        alike.setdefault((_new_tokens(item), tuple(item.meta.get("until", ()))), []).append(at)
    rows_at_once = ROWS_AT_ONCE
    for (max_new_tokens, until), indices in alike.items():
        prompt_length = max(1, positions - max_new_tokens)
        prompts = {at: _prompt(tokenizer, suite.items[at], chat)[-prompt_length:] for at in indices}
        pending = sorted(indices, key=lambda at: len(prompts[at]))
        while pending:
            if cancelled():
                raise Cancelled
            batch = pending[:rows_at_once]
            try:
                texts = generate_answers(
                    model,
                    tokenizer,
                    [prompts[at] for at in batch],
                    stop_ids=Stops(stops, until),
                    max_new_tokens=max_new_tokens,
                    rows_a_batch=rows_at_once,
                    cancelled=cancelled,
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                texts = []
            if not texts:
                free_memory()
                if len(batch) == 1:
                    raise LabError(
                        f"an answer of {max_new_tokens} tokens does not fit the free memory; close other "
                        "programs, load the model in 4 bits, or take a smaller one"
                    )
                rows_at_once = max(1, len(batch) // 2)
                continue
            if cancelled():
                raise Cancelled  # these answers may have been cut short
            for at, text in zip(batch, texts, strict=True):
                ready(_score(suite.items[at], text, chat))
            del pending[: len(batch)]


def _new_tokens(item: Item) -> int:
    return int(item.meta.get("max_new_tokens") or DEFAULT_NEW_TOKENS)


def _prompt(tokenizer: Tokenizer, item: Item, chat: bool) -> list[int]:
    from tui_lab.data import row_tokens

    if chat and item.messages:
        return row_tokens.prompt_ids(tokenizer, item.messages)
    return row_tokens.prompt_ids(tokenizer, item.context)


def _score(item: Item, text: str, chat: bool) -> ItemScore:
    stops = item.meta.get("until", () if chat and item.messages else PLAIN_STOPS)
    text = min((text.split(stop)[0] for stop in stops), key=len, default=text).strip()
    return ItemScore(item.id, extra={"text": text, "passed": checks.passes(item, text)})
