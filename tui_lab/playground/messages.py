"""What the lab and the host say to each other, as frozen records that travel as JSON lines. No torch: both
sides import this. A request is ``{"id", "do", …}``; answers carry its id and a kind (progress, tokens,
beams, lane, then one result or error); ``status`` lines come by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from tui_lab.decoding.records import Alternative, Candidate, Hypothesis, TokenRecord

State = Literal["off", "starting", "loading", "ready", "busy", "died"]
#: Most probable tokens that are told of each token when details are asked for.
DETAILS = 12


@dataclass(frozen=True)
class HostStatus:
    """What the host is and holds."""

    state: State = "off"
    text: str = ""  # progress, or why it died
    model: str = ""
    dtype: str = ""
    quantization: str = "none"
    device: str = ""
    names: tuple[str, ...] = ()  # what lanes can run on: base first
    memory_bytes: int = 0  # of the weights
    context: int | None = None  # tokens
    has_template: bool = True  # the tokenizer brings a chat template

    @property
    def loaded(self) -> bool:
        return bool(self.names)


@dataclass(frozen=True)
class GenerateRequest:
    """One prompt for several lanes. Lanes are texts as ``strategies.parse`` reads them."""

    prompt: str
    lanes: tuple[str, ...]
    system: str = ""
    raw: bool = False  # leave the chat template out
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    details: bool = False  # alternatives and candidates of every token
    cut: bool = False  # leave out the middle of a prompt that is too long


@dataclass(frozen=True)
class PromptLength:
    """A prompt as the model would read it."""

    tokens: int
    context: int | None
    fits: bool


@dataclass(frozen=True)
class Tokens:
    """What a lane has said since the last message."""

    lane: int
    text: str
    count: int  # tokens so far


@dataclass(frozen=True)
class Beams:
    """The hypotheses of a beam lane after a step: live ones by score, then finished ones."""

    lane: int
    step: int
    hypotheses: tuple[Hypothesis, ...]


@dataclass(frozen=True)
class LaneDone:
    """A lane that has ended, with the account of it."""

    lane: int
    description: str  # the lane's text, seed included
    on: str
    text: str
    token_ids: tuple[int, ...]
    tokens: tuple[TokenRecord, ...]
    prompt_token_ids: tuple[int, ...]
    finish_reason: str
    first_token_s: float
    seconds: float
    tok_per_s: float
    mean_logprob: float  # under the weights that it ran on, before warping
    perplexity_base: float  # nan until all lanes have ended where another model must judge
    rep_4: float
    distinct_2: float


@dataclass(frozen=True)
class ScoredToken:
    """One token of a text in a model's eyes; ``top`` are the most probable tokens: id, text, logprob."""

    token_id: int
    logprob: float
    rank: int
    entropy: float
    top: tuple[tuple[int, str, float], ...] = ()


Event = Tokens | Beams | LaneDone
_KINDS: dict[str, type[Any]] = {"tokens": Tokens, "beams": Beams, "lane": LaneDone}
_NESTED: dict[str, type[Any]] = {
    "hypotheses": Hypothesis,
    "tokens": TokenRecord,
    "alternatives": Alternative,
    "candidates": Candidate,
}
#: Records that travel as rows: their fields' names, and which of them are floats.
_ROWS: dict[type[Any], tuple[tuple[str, ...], tuple[int, ...]]] = {
    made: (
        tuple(item.name for item in fields(made)),
        tuple(at for at, item in enumerate(fields(made)) if item.type == "float"),
    )
    for made in (Alternative, Candidate, Hypothesis)
}


def event_fields(event: Event) -> tuple[str, dict[str, Any]]:
    """The kind of an event and its fields, as they travel."""
    kind = next(name for name, made in _KINDS.items() if isinstance(event, made))
    return kind, _wire(event)


def _wire(value: Any) -> Any:
    """A record as it travels. Those that come by the thousand travel as rows without their fields' names;
    ``dataclasses.asdict`` would copy every value, which a lane with details would feel."""
    if isinstance(value, tuple):
        return [_wire(each) for each in value]
    if type(value) in _ROWS:
        return [_wire(each) for each in vars(value).values()]
    return {key: _wire(each) for key, each in vars(value).items()} if hasattr(value, "__dict__") else value


def read_event(kind: str, values: Mapping[str, Any]) -> Event | None:
    """The event that a message holds; None for a kind that is not known."""
    made = _KINDS.get(kind)
    return None if made is None else read(made, values)


def read(made: type[Any], values: Mapping[str, Any]) -> Any:
    """The record of a class from JSON: lists become tuples, "nan" and "inf" numbers; what is not known is
    left out."""
    kept: dict[str, Any] = {}
    for item in fields(made):
        if item.name not in values:
            continue
        value = values[item.name]
        if isinstance(value, list):
            inner = _NESTED.get(item.name)
            value = tuple(_inner(inner, each) for each in value) if inner else _tuple(value)
        elif isinstance(value, str) and item.type in ("float", float):
            value = _number(value)
        kept[item.name] = value
    return made(**kept)


def _inner(made: type[Any], value: Any) -> Any:
    if isinstance(value, dict):
        return read(made, value)
    names, floats = _ROWS[made]
    if len(value) != len(names):
        return read(made, dict(zip(names, value, strict=False)))
    for at in floats:
        if isinstance(value[at], str):
            value[at] = _number(value[at])
    return made(*(tuple(each) if isinstance(each, list) else each for each in value))


def _tuple(value: Any) -> Any:
    return tuple(_tuple(each) for each in value) if isinstance(value, list) else value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
