"""The messages between the lab and the playground process: one JSON object per line in each direction.
Imports no torch, since both sides use it.

The lab sends :class:`RequestMessage`; the process answers with progress and events that carry the id of the
request, then with one result or error, and sends its status on its own. Unknown fields are ignored, and the
lab ignores messages of an unknown kind."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain, jsonable, to_json, validation_sentence
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.prompt_settings import ThinkingMode
from tui_lab.decoding.records import Beams, DecodingSpeed, ScoredToken, TokenRecord

VERSION = 1

WorkerStatus = Literal["off", "starting", "loading", "ready", "busy", "died"]
#: Largest number of new tokens of a request.
MAX_NEW_TOKENS = 32_768
#: Number of alternatives per token if details are requested.
DETAILS = 12


class PlaygroundStatus(msgspec.Struct, frozen=True):
    """The state of the playground process and of its model."""

    state: WorkerStatus = "off"
    text: str = ""  # progress, or why the process ended
    model: str = ""
    dtype: str = ""
    quantization: str = "none"
    device: str = ""
    names: tuple[str, ...] = ()  # what lanes can run on, the base first
    memory_bytes: int = 0  # of the weights
    context: int | None = None  # tokens
    has_template: bool = True  # whether the tokenizer has a chat template
    can_think: bool = False  # whether its chat template asks otherwise with thinking on
    thinking: bool = False  # what "auto" asks for
    speed: DecodingSpeed | None = None  # of the last generation

    @property
    def loaded(self) -> bool:
        return bool(self.names)


# --- requests ---------------------------------------------------------------------------------------


class LoadRequest(msgspec.Struct, frozen=True, tag_field="do", tag="load"):
    """Loads a base model in place of the one before. ``model``: a name of the catalog, a run, a folder or a
    hub id."""

    model: str = "pocket"
    revision: str = ""
    quantization: str = "none"  # or nf4, int8, fp8
    dtype: str = "auto"
    allow_large: bool = False


class AddRequest(msgspec.Struct, frozen=True, tag_field="do", tag="add"):
    """Adds an adapter or a whole model for comparison."""

    name: str
    location: str  # a run, a folder or a hub id


class RemoveRequest(msgspec.Struct, frozen=True, tag_field="do", tag="remove"):
    """Removes what was added under a name."""

    name: str


class UnloadRequest(msgspec.Struct, frozen=True, tag_field="do", tag="unload"):
    """Frees the memory of everything that is loaded."""


class ChatTurn(msgspec.Struct, frozen=True):
    """An earlier turn of a lane's conversation: what was asked, and what the lane answered."""

    prompt: str
    answer: str


class GenerateRequest(msgspec.Struct, frozen=True, tag_field="do", tag="generate"):
    """One prompt for several lanes, in the text form of ``strategies.parse``."""

    prompt: str
    lanes: tuple[str, ...]
    system: str = ""
    raw: bool = False  # without the chat template
    thinking: ThinkingMode = "auto"  # auto: as the loaded run was trained
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    details: bool = False  # alternatives and candidates of every token
    cut: bool = False  # cut old turns, then the middle, out of a prompt that is too long
    turns: tuple[tuple[ChatTurn, ...], ...] = ()  # earlier turns of each lane; empty: no lane has any
    joins: bool = False  # may share a batch with requests that wait; then no perplexity is measured

    def turns_of(self, lane: int) -> tuple[ChatTurn, ...]:
        """The earlier turns of a lane."""
        return self.turns[lane] if lane < len(self.turns) else ()


def with_answers(request: GenerateRequest, answers: Sequence[str]) -> tuple[tuple[ChatTurn, ...], ...]:
    """The turns of each lane for the next request, given the answers to this one. A lane that answered
    nothing goes on as it was."""
    return tuple(
        (*request.turns_of(lane), *([ChatTurn(request.prompt, answer)] if answer.strip() else []))
        for lane, answer in enumerate(answers)
    )


class ScoreRequest(msgspec.Struct, frozen=True, tag_field="do", tag="score"):
    """Scores a text with each model of ``on``."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    on: tuple[str, ...]
    top: int = DETAILS


class CancelRequest(msgspec.Struct, frozen=True, tag_field="do", tag="cancel"):
    """Ends a request at its next step; it still gets its result."""

    of: int  # the id of that request


Request = (
    LoadRequest | AddRequest | RemoveRequest | UnloadRequest | GenerateRequest | ScoreRequest | CancelRequest
)


class RequestMessage(msgspec.Struct, frozen=True):
    """One line from the lab. ``accepts_changes``: changed inputs are accepted."""

    id: int
    request: Request
    v: int = VERSION
    accepts_changes: bool = False


# --- events of a generation -------------------------------------------------------------------------


class PromptLength(msgspec.Struct, frozen=True, tag_field="kind", tag="prompt"):
    """The length of the encoded prompt. It comes before the first token."""

    tokens: int
    context: int | None  # of the model


class Tokens(msgspec.Struct, frozen=True, tag_field="kind", tag="tokens"):
    """The text of a lane since its last message."""

    lane: int
    text: str
    count: int  # tokens so far


class LaneDone(msgspec.Struct, frozen=True, tag_field="kind", tag="lane"):
    """The result of a lane with figures about it."""

    lane: int
    description: str  # the lane's text form, seed included
    on: str
    text: str
    token_ids: tuple[int, ...]
    tokens: tuple[TokenRecord, ...]
    prompt_token_ids: tuple[int, ...]
    finish_reason: str
    first_token_s: float
    seconds: float
    tok_per_s: float
    mean_logprob: float  # of the model that the lane ran on, before warping
    perplexity_base: float  # NaN in the event of a lane that did not run on the base; known in the result
    rep_4: float
    distinct_2: float

    @property
    def perplexity_own(self) -> float:
        """The perplexity of the answer under the weights that the lane ran on."""
        return math.exp(min(-self.mean_logprob, 700.0))


GenerationEvent = Tokens | Beams | LaneDone


# --- answers ----------------------------------------------------------------------------------------


class Done(msgspec.Struct, frozen=True, tag_field="is", tag="done"):
    """The result of a request without data."""


class Generated(msgspec.Struct, frozen=True, tag_field="is", tag="generated"):
    """The result of a generation: the perplexity of each answer under the base, by lane."""

    perplexities: dict[int, float]


class TooLong(msgspec.Struct, frozen=True, tag_field="is", tag="too_long"):
    """The result of a generation whose prompt does not fit the context; nothing was decoded."""

    tokens: int
    context: int


class Scored(msgspec.Struct, frozen=True, tag_field="is", tag="scored"):
    """The result of scoring: the tokens of the text, by the name of the model, and the text of the prompt's
    tokens."""

    tokens: dict[str, tuple[ScoredToken, ...]]
    prompt: tuple[str, ...] = ()


Result = Done | Generated | TooLong | Scored


class StatusMessage(msgspec.Struct, frozen=True, tag_field="kind", tag="status"):
    """A new status."""

    status: PlaygroundStatus
    v: int = VERSION


class ProgressMessage(msgspec.Struct, frozen=True, tag_field="kind", tag="progress"):
    """What a request is doing now."""

    id: int
    text: str


class EventMessage(msgspec.Struct, frozen=True, tag_field="kind", tag="event"):
    """An event of a generation."""

    id: int
    event: PromptLength | Tokens | Beams | LaneDone


class ResultMessage(msgspec.Struct, frozen=True, tag_field="kind", tag="result"):
    """The end of a request that succeeded."""

    id: int
    result: Result
    status: PlaygroundStatus


class ErrorMessage(msgspec.Struct, frozen=True, tag_field="kind", tag="error"):
    """The end of a request that failed, or a line that is not a request (``id`` is None if it has none).
    ``changes``: what has changed since, where that is the reason; ``what``: the beginning of that sentence.
    """

    id: int | None
    message: str
    status: PlaygroundStatus | None = None
    what: str = ""
    changes: tuple[str, ...] = ()


PlaygroundMessage = StatusMessage | ProgressMessage | EventMessage | ResultMessage | ErrorMessage


class PromptTooLongError(LabError):
    """The prompt does not fit the model's context."""

    def __init__(self, length: TooLong) -> None:
        super().__init__(
            f"the prompt has {length.tokens} tokens and the model's context holds {length.context}: "
            "shorten it, or let its middle be cut out"
        )
        self.length = length


# --- lines ------------------------------------------------------------------------------------------


def encode_line(message: RequestMessage | PlaygroundMessage) -> bytes:
    """A message as one line of strict JSON in ASCII. NaN and infinities are written as strings."""
    return to_json(message).encode() + b"\n"


class BadRequest(LabError):
    """A line that is not a request; ``id`` is its id if it has one."""

    def __init__(self, message: str, request_id: int | None = None) -> None:
        super().__init__(message)
        self.id = request_id


def decode_request(line: bytes) -> RequestMessage:
    """The request on a line. Raises BadRequest in one sentence."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the request is not valid JSON: {error}") from None
    request_id = value.get("id") if isinstance(value, dict) else None
    try:
        return msgspec.convert(value, RequestMessage)
    except msgspec.ValidationError as error:
        number = request_id if type(request_id) is int else None
        raise BadRequest(
            f"the request is malformed: {sanitize(validation_sentence(error))}", number
        ) from None


class DamagedMessage(Exception):
    """A line that was meant to be a message: who waits for it would wait for ever."""


def decode_message(line: bytes) -> PlaygroundMessage | None:
    """The message on a line; None for a line that is no message, or a message of an unknown kind. Raises
    DamagedMessage."""
    try:
        value = input_files.parse_json(line)
    except ValueError as error:
        if (b"{" in line[:1] and "nested" in str(error)) or _ANSWER.search(line[:4096]):
            raise DamagedMessage(first_line(error)) from None
        return None
    try:
        message: PlaygroundMessage = msgspec.convert(value, PlaygroundMessage, strict=False, str_keys=True)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        if isinstance(value, dict) and value.get("kind") in ("result", "error"):
            raise DamagedMessage(first_line(error)) from None
        return None
    return message


#: The beginning of a message that somebody waits for.
_ANSWER = re.compile(rb'"kind"\s*:\s*"(result|error)"')


def event_fields(event: GenerationEvent) -> tuple[str, dict[str, object]]:
    """The kind and the fields of an event, as a recording keeps them."""
    fields = jsonable(event)
    return fields.pop("kind"), fields


def read_event(kind: str, fields: dict[str, object]) -> GenerationEvent | None:
    """The event of a recording; None for an unknown kind. Raises LabError for fields that do not fit."""
    if kind not in ("tokens", "beams", "lane"):
        return None
    event: GenerationEvent = from_plain({**fields, "kind": kind}, GenerationEvent, "the recorded event")  # type: ignore[arg-type]
    return event
