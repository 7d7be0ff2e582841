"""Encodes a prompt, with the turns before it, into the tokens that the model reads, and finds the tokens that
end an answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tui_lab.core.errors import LabError
from tui_lab.data import row_tokens, templates
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.decoding import strategies
from tui_lab.decoding.adapter_files import own_tokenizer
from tui_lab.decoding.context import context_length
from tui_lab.decoding.records import DecodingRequest, LaneGroup
from tui_lab.decoding.session import BASE
from tui_lab.decoding.strategies import Lane
from tui_lab.models.loading import ModelSource
from tui_lab.playground.messages import (
    DETAILS,
    MAX_NEW_TOKENS,
    ChatTurn,
    GenerateRequest,
    PromptLength,
    PromptTooLongError,
    TooLong,
)

#: Takes the place of the middle of a cut prompt.
GAP = " … "
#: Smallest share of the context that a cut prompt leaves for the answer.
_ANSWER_SHARE = 0.25


class PromptInput(msgspec.Struct, frozen=True):
    """The text of a lane: a prompt after earlier turns, and how it is written for the model."""

    prompt: str
    turns: tuple[ChatTurn, ...] = ()
    system: str = ""
    raw: bool = False  # without the chat template
    thinking: ThinkingMode = "auto"  # auto: as the loaded run was trained


class EncodedPrompt(NamedTuple):
    """Prompt tokens, and the tokens that end an answer."""

    ids: list[int]
    stop_ids: frozenset[int]


@dataclass(frozen=True)
class Prompter:
    """How lanes on a model are prompted. ``has_template``: the tokenizer came with a chat template."""

    tokenizer: PreTrainedTokenizerBase
    has_template: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Prompter:
        """A tokenizer before it has been used."""
        return cls(tokenizer, bool(tokenizer.chat_template))


class Prompters:
    """How the lanes on a base and on what is compared with it are prompted: each as it was trained."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """``tokenizer``: of the base, with its own template."""
        self.own = Prompter.of(tokenizer)
        self.saved: dict[str, Prompter] = {}  # with the templates saved with adapters, by name

    def add(self, name: str, base: ModelSource, saved: Path | None) -> None:
        """Takes the template and settings in a folder for the lanes on a name, if there are any. Raises
        LabError."""
        if saved is None:
            return
        if own_tokenizer(saved) is not None or templates.has_saved(saved):
            self.saved[name] = Prompter.of(templates.load_for(base.location, base.revision, saved))

    def of(self, name: str = BASE) -> Prompter:
        """How lanes on a model are prompted. The base, and adapters that come with no template, are asked as
        the first that has one and the tokens of the base, because answers are compared."""
        if name in self.saved:
            return self.saved[name]
        known = len(self.own.tokenizer)
        return next((each for each in self.saved.values() if len(each.tokenizer) == known), self.own)


class PreparedRequest(NamedTuple):
    """A request as it is decoded: the prompt tokens of each lane, the lanes by their prompts, and the length
    of the longest prompt."""

    prompt_ids: list[tuple[int, ...]]
    groups: list[LaneGroup]
    length: PromptLength


def prepared(model: PreTrainedModel, prompters: Prompters, request: GenerateRequest) -> PreparedRequest:
    """Parses the lanes of a request and encodes their prompts. Raises PromptTooLongError for a prompt that
    does not fit the context and must not be cut, and LabError."""
    lanes = _lanes_of(request)
    context = context_length(model.config)
    prompts = encode_lanes(model, prompters, request, lanes, context)
    longest = max(len(prompt.ids) for prompt in prompts)
    return PreparedRequest(
        [tuple(prompt.ids) for prompt in prompts],
        lane_groups(request, lanes, prompts),
        PromptLength(longest, context),
    )


def _lanes_of(request: GenerateRequest) -> tuple[Lane, ...]:
    """The lanes of a request, with seeds. Raises LabError."""
    if not 1 <= request.max_new_tokens <= MAX_NEW_TOKENS:
        raise LabError(f"max_new_tokens is from 1 to {MAX_NEW_TOKENS}, not {request.max_new_tokens}")
    if not request.lanes:
        raise LabError("there is no lane: add one")
    return strategies.with_seeds(strategies.parse_all(request.lanes), time.time_ns() % 1_000_000)


def encode_lanes(
    model: PreTrainedModel,
    prompters: Prompters,
    request: GenerateRequest,
    lanes: Sequence[Lane],
    context: int | None = None,
) -> list[EncodedPrompt]:
    """The prompt of each lane. ``context``: tokens that a prompt must fit, unless the request cuts it. Raises
    PromptTooLongError, and LabError."""
    if request.turns and len(request.turns) != len(lanes):
        raise LabError(f"the request has the turns of {len(request.turns)} lanes and {len(lanes)} lanes")
    known: dict[tuple[int, tuple[ChatTurn, ...]], EncodedPrompt] = {}  # each is encoded once
    prompts = []
    for number, lane in enumerate(lanes):
        prompter, turns = prompters.of(lane.on or BASE), request.turns_of(number)
        key = (id(prompter), turns)
        if key not in known:
            source = PromptInput(request.prompt, turns, request.system, request.raw, request.thinking)
            encoded = encode(model, prompter, source)
            if context is not None and len(encoded.ids) >= context:
                if not request.cut:
                    raise PromptTooLongError(TooLong(len(encoded.ids), context))
                encoded = encode_cut(model, prompter, source, context, request.max_new_tokens)
            known[key] = encoded
        prompts.append(known[key])
    return prompts


def lane_groups(
    request: GenerateRequest, lanes: Sequence[Lane], prompts: Sequence[EncodedPrompt]
) -> list[LaneGroup]:
    """The lanes of a request by their prompts: those of one prompt share a batch."""
    members: dict[tuple[tuple[int, ...], frozenset[int]], list[int]] = {}
    for number, prompt in enumerate(prompts):
        members.setdefault((tuple(prompt.ids), prompt.stop_ids), []).append(number)
    stop = tuple(text for text in request.stop if text)
    inspect = DETAILS if request.details else 0
    groups = []
    for (ids, stop_ids), numbers in members.items():
        of_prompt = tuple(lanes[number] for number in numbers)
        decoded = DecodingRequest(ids, of_prompt, request.max_new_tokens, stop_ids, stop, inspect)
        groups.append(LaneGroup(decoded, tuple(numbers)))
    return groups


def encode(model: PreTrainedModel, prompter: Prompter, source: PromptInput) -> EncodedPrompt:
    """Encodes a prompt, with the chat template unless it is raw. A tokenizer without a template gets a plain
    one for a single turn. Raises LabError for an empty prompt, and for earlier turns or a system prompt
    without template."""
    tokenizer = prompter.tokenizer
    if not source.prompt.strip():
        raise LabError("the prompt is empty: type at least one word")
    if source.turns and (source.raw or not prompter.has_template):
        reason = "which is off: switch it on" if source.raw else "and this model has none: load a chat model"
        raise LabError(
            f"a chat of several turns needs a chat template, {reason}, or start a new conversation"
        )
    if source.raw:
        if source.system:
            raise LabError("a system prompt needs the chat template, which is off: drop one of the two")
        return EncodedPrompt(
            row_tokens.prompt_ids(tokenizer, source.prompt),
            frozenset(row_tokens.stop_ids(tokenizer, model, chat=False)),
        )
    if not tokenizer.chat_template:
        templates.set_template(tokenizer)
    messages = [{"role": "system", "content": source.system}] if source.system else []
    for turn in source.turns:
        messages += [
            {"role": "user", "content": turn.prompt},
            {"role": "assistant", "content": turn.answer},
        ]
    messages.append({"role": "user", "content": source.prompt})
    on = None if source.thinking == "auto" else source.thinking == "on"
    ids = row_tokens.prompt_ids(tokenizer, messages, on)
    return EncodedPrompt(ids, frozenset(row_tokens.stop_ids(tokenizer, model)))


def encode_cut(
    model: PreTrainedModel, prompter: Prompter, source: PromptInput, context: int, max_new_tokens: int
) -> EncodedPrompt:
    """Encodes a prompt so that it and the answer fit ``context`` tokens: without the oldest turns, then
    without the middle of the prompt itself. Raises LabError if it cannot fit."""
    available = context - min(max_new_tokens, max(1, int(context * _ANSWER_SHARE)))
    for first in range(1, len(source.turns) + 1):
        later = msgspec.structs.replace(source, turns=source.turns[first:])
        encoded = encode(model, prompter, later)
        if len(encoded.ids) <= available:
            return encoded
    tokenizer = prompter.tokenizer
    body = list(tokenizer(source.prompt, add_special_tokens=False, verbose=False)["input_ids"])
    body_tokens = min(len(body), available)
    while body_tokens >= 2:
        half = body_tokens // 2
        ends = (body[: body_tokens - half], body[len(body) - half :])
        text = GAP.join(str(tokenizer.decode(part, skip_special_tokens=False)) for part in ends)
        encoded = encode(model, prompter, msgspec.structs.replace(source, prompt=text, turns=()))
        if len(encoded.ids) <= available:
            return encoded
        body_tokens -= max(1, len(encoded.ids) - available)
    raise LabError(f"the prompt does not fit the model's context of {context} tokens even when it is cut")


def prompt_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of a prompt's tokens, special tokens included; tokens of one character are one piece."""
    encoded = row_tokens.Encoded(list(ids), [row_tokens.IGNORED] * len(ids))
    return tuple(text for text, _trained in row_tokens.pieces(tokenizer, encoded))
