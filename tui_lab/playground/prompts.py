"""Encodes a prompt, with the turns before it, into the tokens that the model reads, and finds the tokens that
end an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tui_lab.core.errors import LabError
from tui_lab.data import templates
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.playground.messages import ChatTurn

#: Takes the place of the middle of a cut prompt.
GAP = " … "
#: Smallest share of the context that a cut prompt leaves for the answer.
_ANSWER_SHARE = 0.25


class Asked(msgspec.Struct, frozen=True):
    """What a lane is asked: a prompt after earlier turns, and how it is written for the model."""

    prompt: str
    turns: tuple[ChatTurn, ...] = ()
    system: str = ""
    raw: bool = False  # without the chat template
    thinking: ThinkingMode = "auto"  # auto: as the loaded run was trained


class EncodedPrompt(NamedTuple):
    """Prompt tokens, and the tokens that end an answer."""

    ids: list[int]
    stop_ids: frozenset[int]


def encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Asked, has_template: bool = True
) -> EncodedPrompt:
    """Encodes a prompt, with the chat template unless it is raw. A tokenizer without a template gets a plain
    one for a single turn; ``has_template``: it came with one. Raises LabError for an empty prompt, and for
    earlier turns or a system prompt without template."""
    if not asked.prompt.strip():
        raise LabError("the prompt is empty: type at least one word")
    if asked.turns and (asked.raw or not has_template):
        reason = "which is off: switch it on" if asked.raw else "and this model has none: load a chat model"
        raise LabError(
            f"a chat of several turns needs a chat template, {reason}, or start a new conversation"
        )
    if asked.raw:
        if asked.system:
            raise LabError("a system prompt needs the chat template, which is off: drop one of the two")
        return EncodedPrompt(
            templates.prompt_ids(tokenizer, asked.prompt),
            frozenset(templates.stop_ids(tokenizer, model, chat=False)),
        )
    if not tokenizer.chat_template:
        templates.set_template(tokenizer)
    messages = [{"role": "system", "content": asked.system}] if asked.system else []
    for turn in asked.turns:
        messages += [
            {"role": "user", "content": turn.prompt},
            {"role": "assistant", "content": turn.answer},
        ]
    messages.append({"role": "user", "content": asked.prompt})
    on = None if asked.thinking == "auto" else asked.thinking == "on"
    ids = templates.prompt_ids(tokenizer, messages, on)
    return EncodedPrompt(ids, frozenset(templates.stop_ids(tokenizer, model)))


def encode_cut(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Asked,
    *,
    context: int,
    max_new_tokens: int,
) -> EncodedPrompt:
    """Encodes a prompt so that it and the answer fit ``context`` tokens: without the oldest turns, then
    without the middle of the prompt itself. Raises LabError if it cannot fit."""
    available = context - min(max_new_tokens, max(1, int(context * _ANSWER_SHARE)))
    for first in range(1, len(asked.turns) + 1):
        later = msgspec.structs.replace(asked, turns=asked.turns[first:])
        encoded = encode(model, tokenizer, later)
        if len(encoded.ids) <= available:
            return encoded
    body = list(tokenizer(asked.prompt, add_special_tokens=False, verbose=False)["input_ids"])
    body_tokens = min(len(body), available)
    while body_tokens >= 2:
        half = body_tokens // 2
        ends = (body[: body_tokens - half], body[len(body) - half :])
        text = GAP.join(str(tokenizer.decode(part, skip_special_tokens=False)) for part in ends)
        encoded = encode(model, tokenizer, msgspec.structs.replace(asked, prompt=text, turns=()))
        if len(encoded.ids) <= available:
            return encoded
        body_tokens -= max(1, len(encoded.ids) - available)
    raise LabError(f"the prompt does not fit the model's context of {context} tokens even when it is cut")


def prompt_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of a prompt's tokens, special tokens included; tokens of one character are one piece."""
    encoded = templates.Encoded(list(ids), [templates.IGNORED] * len(ids))
    return tuple(text for text, _trained in templates.pieces(tokenizer, encoded))
