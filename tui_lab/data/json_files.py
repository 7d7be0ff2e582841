"""Rows of JSON files: one value a line, a list, an object that holds the rows, or objects in a sequence."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.cells import clean_json
from tui_lab.data.streams import FileRecord, Line, Records, data_suffix, lines

TRAIN_NAMES = ("train", "training")
# In order of preference: a test set is used for validation only when nothing better was given.
VALIDATION_NAMES = ("validation", "valid", "val", "dev", "eval", "test")
#: Where an object holds its rows, in order of preference.
ROW_KEYS = ("data", "rows", "examples", "items", "records", "instances", "samples", "entries", "questions")
MAX_JSON_BYTES = 512 << 20  # a file that is one JSON value has to be read as a whole
_BETWEEN = re.compile(r"[\s,]*")  # objects that follow one another


def without_blank_start(path: Path, found: Iterator[str]) -> Iterator[Line]:
    numbered = enumerate(found, 1)
    for number, line in numbered:
        if line.strip():
            return itertools.chain([(number, line)], numbered)
    raise LabError(f"{path} holds nothing but blank space: there is nothing to train on.")


def json_rows(path: Path, found: Iterator[Line]) -> Iterator[FileRecord]:
    number, first = next(found)
    lines_suffix = data_suffix(path) != ".json"
    is_whole = first.lstrip().startswith("[") or first.strip() == "{"  # a list, or objects over several lines
    if lines_suffix and not is_whole:
        return _json_lines(path, itertools.chain([(number, first)], found))
    head, more = _second_line((number, first), found)
    every = itertools.chain(head, found)
    # Both mix-ups are common: a list in a .jsonl file, and one row a line in a .json file.
    if _is_json(first) and (more or (lines_suffix and _is_chat(first))):
        return _json_lines(path, every)
    values = _values(path, _join(path, every), number)
    rows = _rows_of(path, values[0]) if len(values) == 1 else values
    return ((f"row {n}", row) for n, row in enumerate(rows, 1))


def json_in_text(found: Iterator[Line]) -> tuple[list[Line], bool]:
    """The first lines of a file that is called a text or a table, and whether they are JSON objects, one a
    line, or a list of objects."""
    head, more = _second_line(next(found), found)
    texts = [head[0][1], *([head[-1][1]] if more else [])]
    return head, all(re.match(r"\s*(\[\s*)?\{", text) and _is_json(text) for text in texts)


def _second_line(first: Line, found: Iterator[Line]) -> tuple[list[Line], bool]:
    """The lines up to the second one that is not blank, and whether there is one."""
    head = [first]
    for line in found:
        head.append(line)
        if line[1].strip():
            return head, True
    return head, False


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_chat(text: str) -> bool:
    """Whether a line is one chat: a list of turns, not a list of rows."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return bool(value) and all(
        isinstance(turn, dict) and {str(key) for key in turn} & {"role", "from"} for turn in value
    )


def _join(path: Path, found: Iterator[Line]) -> str:
    parts: list[str] = []
    size = 0
    for _, text in found:
        parts.append(text)
        size += len(text)
        if size > MAX_JSON_BYTES:
            raise LabError(
                f"{path} is one JSON value of more than {MAX_JSON_BYTES >> 20:,} MiB, which has to be read "
                "as a whole. Write one row a line into a file .jsonl."
            )
    return "".join(parts)


def json_splits(path: Path) -> dict[str, Records] | None:
    """The splits of a JSON object whose keys name them, as in {"train": [...], "validation": [...]}."""
    try:
        if path.stat().st_size == 0:
            return None
        found = without_blank_start(path, lines(path, max_line_bytes=MAX_JSON_BYTES))
        number, first = next(found)
        head, more = _second_line((number, first), found)
        if not first.lstrip().startswith("{") or (more and _is_json(first)):
            return None  # rows, one a line
        value = _loads(path, _join(path, itertools.chain(head, found)), number)
    except OSError as error:
        raise LabError(f"{path} could not be read: {error.strerror or first_line(error)}.") from None
    except _BadJson:
        return None  # reading the rows says what is wrong
    if not isinstance(value, dict):
        return None
    splits = {str(key): item for key, item in value.items() if isinstance(item, list)}
    if not any(key.lower() in TRAIN_NAMES for key in splits) or not all(map(_is_split, splits.values())):
        return None
    return {key: [(f"{key} row {n}", row) for n, row in enumerate(rows, 1)] for key, rows in splits.items()}


def _is_split(rows: list[object]) -> bool:
    return all(isinstance(row, dict | list) for row in rows) or all(isinstance(row, str) for row in rows)


def _rows_of(path: Path, value: object, is_inner: bool = False) -> list[object]:
    if isinstance(value, list):
        return _questions_of_articles(value)
    if isinstance(value, dict):
        if any(map(is_export, value.values())):
            return [value]
        if (table := _columnar(value)) is not None:
            return table
        lists = {key: item for key, item in value.items() if isinstance(item, list)}
        named = next((key for key in ROW_KEYS if key in lists and _are_objects(lists[key])), None)
        if not _looks_like_row(value) and (len(lists) == 1 or named):
            return _questions_of_articles(lists[named or next(iter(lists))])
        inner = [item for item in value.values() if isinstance(item, dict)]
        if len(inner) == 1 and not lists and not is_inner:
            return _rows_of(path, inner[0], is_inner=True)
        if _looks_like_row(value) or not lists:
            raise LabError(
                f"{path} holds a single JSON object (keys {named_some(value)}), not a "
                "list of rows. Put them into a list [ … ], or write one a line in a file .jsonl."
            )
        raise LabError(
            f"{path} holds an object with several lists ({named_some(lists)}); keep one, "
            "or name them train and validation."
        )
    raise LabError(f"{path} holds a single JSON {type(value).__name__}, not a list of rows.")


def is_export(cell: object) -> bool:
    """Whether a cell is the tree of a conversation as ChatGPT exports it: nodes by id, with messages."""
    return (
        isinstance(cell, dict)
        and bool(cell)
        and all(
            isinstance(node, dict) and "message" in node and ("parent" in node or "children" in node)
            for node in cell.values()
        )
    )


def _are_objects(rows: list[object]) -> bool:
    return bool(rows) and all(isinstance(row, dict) for row in rows)


def _questions_of_articles(rows: list[object]) -> list[object]:
    """The questions of SQuAD's articles, each with its paragraph; other rows as they are."""
    found: list[object] = []
    for row in rows:
        paragraphs = row.get("paragraphs") if isinstance(row, dict) else None
        if not isinstance(paragraphs, list) or not all(
            isinstance(p, dict) and "qas" in p for p in paragraphs
        ):
            return rows
        for paragraph in paragraphs:
            questions = paragraph["qas"] if isinstance(paragraph["qas"], list) else []
            context = {key: each for key, each in paragraph.items() if key != "qas"}
            found += [{**context, **each} if isinstance(each, dict) else each for each in questions]
    return found


def _columnar(value: dict[str, object]) -> list[object] | None:
    """Rows of a table by columns: lists of one length, or an object in one of pandas' forms; rows by name."""
    columns = list(value.values())
    names, cells = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(cells, list):
        rows = [row for row in cells if isinstance(row, list) and len(row) == len(names)]
        if len(rows) == len(cells):
            return [dict(zip(map(str, names), row, strict=True)) for row in rows]
    if len(columns) < 2:
        return None
    if all(isinstance(column, list) and column for column in columns):
        lists = [column for column in columns if isinstance(column, list)]
        if len({len(column) for column in lists}) == 1 and len(lists[0]) > 1:
            return [dict(zip(value, cells, strict=True)) for cells in zip(*lists, strict=True)]
    if all(isinstance(column, dict) and column for column in columns):
        tables = [column for column in columns if isinstance(column, dict)]
        index = list(tables[0])
        if all(list(table) == index for table in tables) and all(str(key).isdecimal() for key in index):
            return [{name: table[key] for name, table in zip(value, tables, strict=True)} for key in index]
        if all(table.keys() == tables[0].keys() for table in tables) and len(tables) > 1:
            return list(columns)
    return None


def named_some(names: Iterable[object]) -> str:
    return sanitize(", ".join(str(name)[:40] for name in itertools.islice(names, 8)))


def _looks_like_row(value: dict[str, object]) -> bool:
    """Whether an object is one chat, not rows."""
    turns = [value.get(key) for key in ("messages", "conversations", "conversation")]
    return any(
        isinstance(found, list) and not (found and isinstance(found[0], dict) and "messages" in found[0])
        for found in turns
    )


def _json_lines(path: Path, found: Iterator[Line]) -> Iterator[FileRecord]:
    # not splitlines: U+2028 is legal inside JSON strings
    for number, line in found:
        if line.strip():
            yield f"line {number}", _loads(path, line.rstrip("\r\n"), number)


class _BadJson(LabError):
    """Text that is not one JSON value."""


def _values(path: Path, text: str, line: int) -> list[Any]:
    """The JSON value of a text, or its objects where several follow one another. Raises _BadJson."""
    try:
        return [_loads(path, text, line)]
    except _BadJson as error:
        found: list[Any] = []
        at, decoder = 0, json.JSONDecoder()
        try:
            while (at := _BETWEEN.match(text, at).end()) < len(text):  # type: ignore[union-attr]
                value, at = decoder.raw_decode(text, at)
                found.append(clean_json(value))
        except json.JSONDecodeError as later:
            if not found:
                raise error from None
            place = f"{path}, line {line + later.lineno - 1}, column {later.colno}"
            raise _BadJson(f"{place}: invalid JSON ({later.msg}). Correct or remove that object.") from None
        except (RecursionError, ValueError):
            raise error from None
        if len(found) < 2 or not _are_objects(found):
            raise error from None
        return found


def _loads(path: Path, text: str, line: int = 1) -> Any:
    """The JSON value of ``text``, which begins at ``line`` of the file. Raises _BadJson."""
    try:
        return msgspec.json.decode(text)  # much faster than json; refuses NaN and lone surrogates
    except (ValueError, RecursionError):
        pass
    try:
        return clean_json(json.loads(text))
    except json.JSONDecodeError as error:
        place = f"{path}, line {line + error.lineno - 1}, column {error.colno}"
        raise _BadJson(f"{place}: invalid JSON ({error.msg}). Correct or remove that line.") from None
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise _BadJson(f"{path}, line {line}: not usable JSON: {reason}.") from None
