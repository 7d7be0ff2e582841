"""Encodes a prompt into the tokens that the model reads, and finds the tokens that end an answer."""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tui_lab.core.errors import LabError
from tui_lab.data import templates
from tui_lab.data.prompt_settings import ThinkingMode

#: Takes the place of the middle of a cut prompt.
GAP = " … "
#: Smallest share of the context that a cut prompt leaves for the answer.
_ANSWER_SHARE = 0.25


class EncodedPrompt(NamedTuple):
    """Prompt tokens, and the tokens that end an answer."""

    ids: list[int]
    stop_ids: frozenset[int]


def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    system: str = "",
    raw: bool = False,
    thinking: ThinkingMode = "auto",
) -> EncodedPrompt:
    """Encodes a prompt, with the chat template unless ``raw``. A tokenizer without a template gets a plain
    one; ``thinking`` "auto": as the loaded run was trained. Raises LabError for an empty prompt and for a
    system prompt without template."""
    if not prompt.strip():
        raise LabError("the prompt is empty: type at least one word")
    if raw:
        if system:
            raise LabError("a system prompt needs the chat template, which is off: drop one of the two")
        return EncodedPrompt(
            templates.prompt_ids(tokenizer, prompt),
            frozenset(templates.stop_ids(tokenizer, model, chat=False)),
        )
    if not tokenizer.chat_template:
        templates.set_template(tokenizer)
    messages = [{"role": "system", "content": system}] if system else []
    on = None if thinking == "auto" else thinking == "on"
    ids = templates.prompt_ids(tokenizer, [*messages, {"role": "user", "content": prompt}], on)
    return EncodedPrompt(ids, frozenset(templates.stop_ids(tokenizer, model)))


def encode_cut(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    context: int,
    max_new_tokens: int,
    system: str = "",
    raw: bool = False,
    thinking: ThinkingMode = "auto",
) -> EncodedPrompt:
    """Encodes a prompt without its middle, so that it and the answer fit ``context`` tokens. Raises LabError
    if it cannot fit."""
    available = context - min(max_new_tokens, max(1, int(context * _ANSWER_SHARE)))
    body = list(tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
    body_tokens = min(len(body), available)
    while body_tokens >= 2:
        half = body_tokens // 2
        ends = (body[: body_tokens - half], body[len(body) - half :])
        text = GAP.join(str(tokenizer.decode(part, skip_special_tokens=False)) for part in ends)
        encoded = encode(model, tokenizer, text, system=system, raw=raw, thinking=thinking)
        if len(encoded.ids) <= available:
            return encoded
        body_tokens -= max(1, len(encoded.ids) - available)
    raise LabError(f"the prompt does not fit the model's context of {context} tokens even when it is cut")
