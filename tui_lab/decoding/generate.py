"""Greedy answers of a model to many prompts at once, for samples and for scoring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteriaList

#: Prompts per batch: enough to be fast, few enough to need little memory.
ROWS_A_BATCH = 32


@dataclass(frozen=True)
class Stops:
    """What ends an answer: one of the tokens ``ids``, or one of ``texts`` in it."""

    ids: Sequence[int]
    texts: Sequence[str] = ()


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Sequence[int] | Stops,
    max_new_tokens: int,
    rows_a_batch: int = ROWS_A_BATCH,
    cancelled: Callable[[], bool] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """The model's greedy continuation of each prompt, as text without special tokens, in the order of the
    prompts. Prompts are padded on the left and masked, in batches of similar length. The caller sets
    evaluation mode and random states.

    Args:
        prompts: token ids.
        stop_ids: tokens that end an answer, at least one; with texts that end it too as Stops.
        max_new_tokens: tokens of an answer at most.
        rows_a_batch: prompts of a batch at most.
        cancelled: called at every token; once it is true, the answers end there.
        on_progress: called after each batch with the number of answers so far.
    """
    stops = stop_ids if isinstance(stop_ids, Stops) else Stops(stop_ids)
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops.ids[0]
    device = next(model.parameters()).device
    stopping = [_stopping(cancelled)] if cancelled else []
    for start in range(0, len(order), rows_a_batch):
        rows = order[start : start + rows_a_batch]
        width = max(len(prompts[i]) for i in rows)
        ids = torch.full((len(rows), width), pad, dtype=torch.long)  # (rows, width)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, index in enumerate(rows):
            prompt = prompts[index]
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        at_texts = [_stop_at(tokenizer, stops.texts, width)] if stops.texts else []
        out = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(stops.ids),
            pad_token_id=pad,
            use_cache=True,
            stopping_criteria=StoppingCriteriaList([*stopping, *at_texts]),
        )
        for row, index in enumerate(rows):
            answers[index] = tokenizer.decode(
                _until_stop(out[row, width:].tolist(), stops.ids), skip_special_tokens=True
            )
        if on_progress is not None:
            on_progress(start + len(rows))
    return [text.strip() for text in answers]


#: Tokens at the end of an answer in which a stop text is looked for: more than the longest of them has.
_STOP_TOKENS = 24


def _stop_at(tokenizer: Any, texts: Sequence[str], width: int) -> Callable[..., torch.Tensor]:
    """A stopping criterion of transformers: whether the end of each row's answer contains one of the texts;
    answers begin at column ``width``."""

    def criterion(input_ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        ends = tokenizer.batch_decode(input_ids[:, max(width, input_ids.shape[1] - _STOP_TOKENS) :])
        found = [any(text in end for text in texts) for end in ends]
        return torch.tensor(found, dtype=torch.bool, device=input_ids.device)

    return criterion


def _stopping(cancelled: Callable[[], bool]) -> Callable[..., torch.Tensor]:
    """``cancelled`` as a stopping criterion of transformers: one value per row."""

    def criterion(input_ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), cancelled(), dtype=torch.bool, device=input_ids.device)

    return criterion


def _until_stop(ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in stop_ids:
            return ids[:position]
    return ids
