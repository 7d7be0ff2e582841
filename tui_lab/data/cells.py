"""Values of cells: text, numbers and empty cells, and lists and objects that a table holds as text."""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import math
import re
from typing import Any

from tui_lab.data.rows import BadRow

#: Where an object has its text.
TEXT_FIELDS = ("text", "content", "value", "parts")
ANSWER_FIELDS = ("text", "value", "answer", "spans", "input_text")
MAX_LITERAL_CHARS = 1 << 20  # of a list written as Python writes it
MAX_LITERAL_DEPTH = 40


def is_missing(value: object) -> bool:
    """Whether a cell is empty: None, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text_of(value: object, what: str) -> str:
    """``value`` as text: a string, a number, an object with its text, or OpenAI's list of text parts. Raises
    BadRow."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes):  # Parquet files of old tools do not mark texts
        return value.decode("utf-8", "replace")
    if is_missing(value):
        raise BadRow(f"{what} is {value if value is None else 'NaN'}, not text", empty=True)
    if isinstance(value, bool) or value in (math.inf, -math.inf):
        raise BadRow(f"{what} is {value if isinstance(value, float) else 'bool'}, not text")
    if isinstance(value, int | float | decimal.Decimal | datetime.date):
        return str(value)
    if isinstance(value, dict) and (inner := next((key for key in TEXT_FIELDS if key in value), None)):
        return "".join(texts_of(value[inner], f"{inner} of {what}"))
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        # a table fills the fields of other kinds of parts with None
        kinds = {str(part.get("type") or ("text" if "text" in part else "")) for part in value}
        if kinds <= {"text", "input_text", "output_text"}:
            return "".join(text_of(part.get("text"), f"a text part of {what}") for part in value)
        raise BadRow(
            f"{what} holds parts of type {', '.join(sorted(kinds - {'text'}))}; only text can be trained"
        )
    raise BadRow(f"{what} is {type(value).__name__}, not text")


def answers_in(cell: object) -> list[object]:
    """The answers of a cell: several right ones, SQuAD's with places, TriviaQA's with aliases, or one."""
    value = structure_of(cell)
    if isinstance(value, dict):
        value = next((value[key] for key in ANSWER_FIELDS if key in value), value)
    if not isinstance(value, list) or all(isinstance(part, dict) and "type" in part for part in value):
        return [value] if value != [] else []
    if all(isinstance(part, dict) and set(part) == {"text"} for part in value):  # parts of one text
        return [value]
    return list(value)


def texts_of(value: object, what: str) -> list[str]:
    """The texts of a list, or the one that ``value`` is. Raises BadRow."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return [clean(part) for part in value]
    return [text_of(value, what)]


def clean(text: str) -> str:
    """The text without lone surrogates, which break every tokenizer."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def clean_json(value: Any) -> Any:
    """A JSON value with every text in it cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_json(item) for item in value]
    if isinstance(value, dict):
        return {clean_json(key): clean_json(item) for key, item in value.items()}
    return value


def structure_of(value: object) -> Any:
    """The list or object that a text holds, as JSON or as Python writes it; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return clean_json(json.loads(value))
    except (ValueError, RecursionError):
        pass
    if len(value) > MAX_LITERAL_CHARS or _depth(value) > MAX_LITERAL_DEPTH:
        return value
    # numpy prints objects in a list without commas
    for text in (value, re.sub(r"\}\s*\n?\s*\{", "}, {", value)):
        try:
            return clean_json(ast.literal_eval(text.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value


def _depth(text: str) -> int:
    depth = most = 0
    for char in text:
        if char in "[{(":
            depth += 1
            most = max(most, depth)
        elif char in "]})":
            depth -= 1
    return most
