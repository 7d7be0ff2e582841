"""Greedy answers of a model to many prompts at once: samples for the eye, answers that a score judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

#: Prompts answered in one batch: wide enough to be fast, narrow enough to need no memory to speak of.
ROWS_A_BATCH = 32


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    rows_a_batch: int = ROWS_A_BATCH,
    cancelled: Callable[[], bool] | None = None,
) -> list[str]:
    """The model's greedy continuation of each prompt (token ids), special tokens left out.

    Prompts are padded on the left and masked, in batches of similar length; the order of the result is
    that of the prompts. ``cancelled`` is asked at every token: answers then end where they are. The caller
    sees to evaluation mode and random states.
    """
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop_ids[0]
    device = next(model.parameters()).device
    stopping = _stopping(cancelled) if cancelled else None
    for start in range(0, len(order), rows_a_batch):
        rows = order[start : start + rows_a_batch]
        width = max(len(prompts[i]) for i in rows)
        ids = torch.full((len(rows), width), pad, dtype=torch.long)  # (rows, width)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, index in enumerate(rows):
            prompt = prompts[index]
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        out = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(stop_ids),
            pad_token_id=pad,
            use_cache=True,
            stopping_criteria=stopping,
        )
        for row, index in enumerate(rows):
            answers[index] = tokenizer.decode(
                _until_stop(out[row, width:].tolist(), stop_ids), skip_special_tokens=True
            )
    return [text.strip() for text in answers]


def _stopping(cancelled: Callable[[], bool]) -> Any:
    """transformers' form of a question whether to stop: one answer a row."""
    from transformers import StoppingCriteriaList

    def asked(input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), cancelled(), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([asked])


def _until_stop(ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in stop_ids:
            return ids[:position]
    return ids
