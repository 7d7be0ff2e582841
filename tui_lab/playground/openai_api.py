"""The part of OpenAI's HTTP interface that ``tui-lab serve`` speaks: requests to chat and completions, read
into requests of the playground process, and the objects of its answers. What the models here cannot do is
refused by name; a field is never silently dropped.

Source: OpenAI API reference, "Chat" and "Completions"; ``top_k``, ``min_p`` and ``repetition_penalty`` as in
vLLM's server."""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.strategies import Lane, Sample
from tui_lab.playground.messages import MAX_NEW_TOKENS, ChatTurn, GenerateRequest, LaneDone

DEFAULT_NEW_TOKENS = 256
#: Fields that have no effect on an answer.
_WITHOUT_EFFECT = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
#: Fields that are accepted with the value that asks for nothing.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (False,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


class ApiError(LabError):
    """An error with the HTTP status and the ``code`` of OpenAI's error object."""

    def __init__(self, message: str, status: int = 400, code: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class TextPart(msgspec.Struct, frozen=True):
    """A part of a message; only text is supported."""

    type: str
    text: str = ""


class Message(msgspec.Struct, frozen=True):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """Its text. Raises ApiError for other parts."""
        if isinstance(self.content, str):
            return self.content
        for part in self.content:
            if part.type != "text":
                raise ApiError(f"a message has a part of type {sanitize(part.type)[:40]}; only text is read")
        return "".join(part.text for part in self.content)


class StreamOptions(msgspec.Struct, frozen=True):
    """``include_usage`` adds a last chunk with the counts of tokens."""

    include_usage: bool = False


class _Sampling(msgspec.Struct, kw_only=True, frozen=True):
    model: str = ""
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatBody(_Sampling, kw_only=True, frozen=True):
    """The body of ``/v1/chat/completions``."""

    messages: list[Message]


class CompletionBody(_Sampling, kw_only=True, frozen=True):
    """The body of ``/v1/completions``."""

    prompt: str | list[str]


Body = ChatBody | CompletionBody


def read_body(text: bytes, kind: type[Body]) -> Body:
    """The body of a request. Raises ApiError that names the field."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise ApiError("the body is not a JSON object") from None
    for name in list(fields):
        value = fields[name]
        neutral = _NEUTRAL.get(name)
        if name in _WITHOUT_EFFECT or (neutral is not None and (value is None or value in neutral)):
            del fields[name]
        elif name not in kind.__struct_fields__:
            raise ApiError(f"{sanitize(name)[:60]} is not supported: leave it out")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise ApiError(f"the body cannot be read: {sanitize(str(error))[:200]}") from None


def lane_of(body: Body, name: str, seed: int) -> Lane:
    """How the request is decoded, on the model ``name``; ``seed`` where it has none. Raises LabError."""
    values = {
        key: value
        for key in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        if (value := getattr(body, key)) is not None
    }
    return Lane(Sample(**values), seed if body.seed is None else body.seed, name)


def generate_request(body: Body, lane: Lane) -> GenerateRequest:
    """The request to the playground process. Raises ApiError."""
    limit = body.max_completion_tokens or body.max_tokens or DEFAULT_NEW_TOKENS
    if not 1 <= limit <= MAX_NEW_TOKENS:
        raise ApiError(f"max_tokens is at least 1 and at most {MAX_NEW_TOKENS:,}, not {limit}")
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if isinstance(body, CompletionBody):
        prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        if len(prompts) != 1:
            raise ApiError(f"prompt is one text, not a list of {len(prompts)}: send one request for each")
        return GenerateRequest(
            prompts[0], (lane.text,), raw=True, max_new_tokens=limit, stop=stop, joins=True
        )
    system, turns, prompt = _conversation(body.messages)
    return GenerateRequest(
        prompt, (lane.text,), system, max_new_tokens=limit, stop=stop, turns=(turns,), joins=True
    )


def _conversation(messages: list[Message]) -> tuple[str, tuple[ChatTurn, ...], str]:
    """The system message, the earlier turns and the last question. Raises ApiError for other orders."""
    rest = list(messages)
    system = rest.pop(0).text if rest and rest[0].role in ("system", "developer") else ""
    roles = [message.role for message in rest]
    if not rest or len(rest) % 2 == 0 or roles != ["user", "assistant"] * (len(rest) // 2) + ["user"]:
        raise ApiError(
            "messages are a system message or none, then user and assistant in turn, and end with a user "
            f"message; these are: {', '.join(message.role for message in messages) or 'none'}"
        )
    texts = [message.text for message in rest]
    turns = tuple(ChatTurn(*pair) for pair in zip(texts[:-1:2], texts[1::2], strict=True))
    return system, turns, texts[-1]


# --- answers ----------------------------------------------------------------------------------------


class Usage(msgspec.Struct, frozen=True):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def usage_of(done: LaneDone) -> Usage:
    """The tokens of an answer and of its prompt."""
    prompt, answer = len(done.prompt_token_ids), len(done.token_ids)
    return Usage(prompt, answer, prompt + answer)


def finish_reason(done: LaneDone) -> str:
    """OpenAI's name of why an answer ended."""
    return "length" if done.finish_reason in ("length", "context") else "stop"


class AnswerObjects:
    """Makes the JSON objects of one answer: whole, or as chunks of a stream."""

    def __init__(self, body: Body, model: str, number: int) -> None:
        self._chat = isinstance(body, ChatBody)
        self._start = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{number}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, done: LaneDone) -> dict[str, object]:
        """The answer as one object."""
        content = (
            {"message": {"role": "assistant", "content": done.text}} if self._chat else {"text": done.text}
        )
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason(done)}
        name = "chat.completion" if self._chat else "text_completion"
        return {**self._start, "object": name, "choices": [choice], "usage": usage_of(done)}

    def chunk(self, text: str, done: LaneDone | None = None, first: bool = False) -> dict[str, object]:
        """New text, or the end of the answer."""
        delta = {**({"role": "assistant"} if first else {}), **({"content": text} if not done else {})}
        content: dict[str, object] = {"delta": delta} if self._chat else {"text": text}
        choice = {
            "index": 0, **content, "logprobs": None, "finish_reason": finish_reason(done) if done else None,
        }  # fmt: skip
        name = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._start, "object": name, "choices": [choice]}

    def usage(self, done: LaneDone) -> dict[str, object]:
        """The last chunk, where it was asked for."""
        return {**self.chunk(""), "choices": [], "usage": usage_of(done)}
