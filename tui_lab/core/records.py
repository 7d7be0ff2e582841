"""Values at the border of a process, a file or a thread: JSON text to typed records and back.

Records are msgspec Structs. A value that does not fit raises one LabError that names the field and what it
must be; unknown fields are ignored, so that an older program can read what a newer one wrote.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError

T = TypeVar("T")

_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_WRONG_TYPE = re.compile(r"Expected `([^`]+)`(.*?), got `([^`]+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")


def jsonable(value: Any) -> Any:
    """``value`` as strict JSON can hold it: records as objects, NaN and infinities as strings, tuples and
    sets as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return value


def to_json(value: object) -> str:
    """One line of strict JSON in ASCII; lone surrogates and control characters are escaped."""
    return json.dumps(jsonable(value), ensure_ascii=True, allow_nan=False, default=str)


def from_plain(value: object, kind: type[T], what: str) -> T:
    """``value`` (what :func:`json.loads` or :mod:`tomllib` returns) as a ``kind``. ``what`` names it in the
    error. "nan" and "inf" are read as numbers where a number is wanted.

    Raises:
        LabError: one sentence that names ``what``, the field and what it must be.
    """
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise LabError(f"{what}: {validation_sentence(error)}") from None
    except (OverflowError, RecursionError):
        raise LabError(f"{what}: a number is too large, or a value is nested too deeply") from None


def from_json(text: str | bytes, kind: type[T], what: str) -> T:
    """JSON text as a ``kind``; see :func:`from_plain`. Raises LabError, also for text that is not JSON."""
    try:
        value = input_files.parse_json(text)
    except ValueError as error:
        raise LabError(f"{what} is not valid JSON: {error}") from None
    return from_plain(value, kind, what)


#: Texts are cut here in a line that is longer than that: they are drawn on a screen.
LONGEST_TEXT = 100_000


def with_texts_cut(line: bytes) -> bytes:
    """A line of JSON with every text in it cut at ``LONGEST_TEXT``. Raises msgspec.DecodeError."""
    if len(line) <= LONGEST_TEXT:
        return line
    return msgspec.json.encode(_cut(msgspec.json.decode(line)))


def _cut(value: object) -> object:
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]} …"
    if isinstance(value, list):
        return [_cut(each) for each in value]
    if isinstance(value, dict):
        return {_cut(key): _cut(each) for key, each in value.items()}
    return value


def validation_sentence(error: msgspec.ValidationError) -> str:
    """msgspec's message with the field first and types in plain words: ``rows must be a whole number, not
    text``."""
    message, _, path = str(error).partition(" - at `")
    field = path.rstrip("`").removeprefix("$").lstrip(".")
    if match := _MISSING.fullmatch(message):
        return f"{field + '.' if field else ''}{match[1]} is missing"
    if match := _WRONG_TYPE.fullmatch(message):
        wanted = " or ".join(_TYPE_NAMES.get(name.strip(), name.strip()) for name in match[1].split("|"))
        text = f"must be {wanted}{match[2]}, not {_TYPE_NAMES.get(match[3], match[3])}"
    elif message.startswith("Expected "):
        text = f"must be {message.removeprefix('Expected ').replace('`', '')}"
    else:
        text = message[:1].lower() + message[1:]
    return f"{field or 'the value'} {text}"
