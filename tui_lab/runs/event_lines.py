"""Lines of ``events.jsonl`` and ``commands.jsonl``: events from and to JSON, and the record of a command.

A line is validated once, by :func:`decode_event`: fields that a version does not know are ignored, a kind
that it does not know becomes an :class:`UnknownEvent`, and a field of the wrong type raises
:class:`DamagedRecord` with one sentence. Numbers that JSON has no word for travel as the strings "nan", "inf"
and "-inf"."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Struct

from tui_lab.core.privacy import without_secrets
from tui_lab.core.records import jsonable, validation_sentence, with_texts_cut
from tui_lab.runs.schema import EVENT_KINDS, EVENTS_VERSION, KnownEvent, RunEvent, UnknownEvent, kind_of


class DamagedRecord(ValueError):
    """A line that is not a valid record; the message is one sentence."""


class CommandRecord(Struct, frozen=True):
    """A line of ``commands.jsonl``; ``sent_at``: seconds since 1970, 0 where unknown."""

    id: str
    name: str
    sent_at: float = msgspec.field(default=0.0, name="t")


class _Header(Struct):
    kind: str
    v: int = EVENTS_VERSION
    t: float = 0.0


# Not strict: "nan" and "inf" become numbers where a field is a number, and stay text where it is text.
_EVENT_DECODER = msgspec.json.Decoder(KnownEvent, strict=False)
_HEADER_DECODER = msgspec.json.Decoder(_Header, strict=False)


def decode_event(line: bytes) -> RunEvent:
    """The event of one line. Raises DamagedRecord."""
    try:
        return _EVENT_DECODER.decode(with_texts_cut(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        header = decode_header(line)
        if header is not None and header.kind not in EVENT_KINDS:
            return UnknownEvent(name=header.kind, v=header.v, t=header.t)
        raise DamagedRecord(_reason(error)) from None


def decode_header(line: bytes) -> _Header | None:
    """Kind, version and time of a line; None when it is not an event."""
    try:
        return _HEADER_DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return validation_sentence(error)
    return "this line is not valid JSON"


def encode_event(event: RunEvent) -> bytes:
    """One event as one line, its end included; fields without a value are left out."""
    fields = msgspec.to_builtins(event)
    head = {"v": event.v, "t": event.t, "kind": kind_of(event)}
    return encode_line({**head, **{key: value for key, value in fields.items() if value is not None}} | head)


def encode_line(fields: dict[str, Any]) -> bytes:
    """A JSON object as one line, its end included."""
    text = json.dumps(jsonable(fields), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return without_secrets(text).encode("utf-8", "replace") + b"\n"
