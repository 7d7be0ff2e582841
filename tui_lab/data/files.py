"""Raw records from files, folders and hub data sets, read as streams.

JSON, JSONL, CSV, TSV, Parquet, plain text (all of them also compressed), a folder of these, a clone of a
hub data set, a folder saved by ``datasets``, or a name on the hub. Each record has its place ("line 17") for
later messages. ``columns`` interprets the columns. Every failure to read is one sentence with file, place and
cause."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.streams import COMPRESSED, MAX_LINE_BYTES, OnBytes, check_expansion, data_suffix, lines

EXTENSIONS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".text", ".md")
TRAIN_NAMES = ("train", "training")
# In order of preference: a test set is used for validation only when nothing better was given.
VALIDATION_NAMES = ("validation", "valid", "val", "dev", "eval", "test")
DOCUMENT_MARK = "<|endoftext|>"
MARK_BYTES = 16 << 20  # the mark is looked for in so much of a text
MAX_JSON_BYTES = 512 << 20  # a file that is one JSON value has to be read as a whole
PARQUET_ROWS = 256  # rows decoded at once
SMALL_PARQUET_BYTES = 64 << 20  # of larger files the values are written out at once, which is faster
LARGE_BATCH_BYTES = 64 << 20  # rows of more than that become Python values one at a time
_DELIMITERS = ",;\t|"

RAGGED_CELLS = (
    "\0cells"  # marks a table row whose cells do not match the header; no real column has this name
)

FileRecord = tuple[str, object]  # (its place in the file, the value: usually a dict or a string)
Records = Iterable[FileRecord]  # can be iterated again


@dataclass(frozen=True)
class Stream:
    """Records that are read again at each iteration, so that none is held in memory."""

    read: Callable[[], Iterator[FileRecord]]

    def __iter__(self) -> Iterator[FileRecord]:
        return self.read()


@dataclass
class RawData:
    """Records as they lie in the source: ``train``, and ``validation`` where the source has one. ``paths``:
    the files that they come from, none for a hub set; ``count``: the training records where their number is
    known without reading them, else 0."""

    name: str
    train: Records
    validation: Records | None = None
    notes: list[str] = field(default_factory=list)
    paths: Sequence[Path] = ()
    count: int = 0


# --- one file -------------------------------------------------------------------------------------


def read_file(path: Path, max_rows: int = 0) -> list[FileRecord]:
    """The records of one file, by its extension. Raises LabError with file, place and cause."""
    return list(iterate_file(path, max_rows))


def iterate_file(path: Path, max_rows: int = 0, on_bytes: OnBytes | None = None) -> Iterator[FileRecord]:
    """The records of one file as a stream. Raises LabError with file, place and cause."""
    check_file(path)
    count = 0
    try:
        if path.stat().st_size == 0:
            raise LabError(f"{path} is empty: there is nothing to train on.")
        for record in _records(path, on_bytes):
            yield record
            count += 1
            if max_rows and count >= max_rows:
                return
    except OSError as error:
        raise LabError(f"{path} could not be read: {error.strerror or first_line(error)}.") from None
    if not count:
        raise LabError(f"{path} holds no rows: there is nothing to train on.")


def check_file(path: Path) -> None:
    """Raises LabError for a file whose ending names no format, and for what is no regular file."""
    suffix = data_suffix(path)
    if suffix not in EXTENSIONS:
        shown = path.suffix.lower()
        kind = f"files ending in {shown}" if shown else "files without an ending, such as .jsonl,"
        raise LabError(
            f"{path}: {kind} are not read as data. Rename or convert it to one of {', '.join(EXTENSIONS)} "
            f"(compressed: also {', '.join(COMPRESSED)})."
        )
    if not path.is_file():
        raise LabError(f"{path} is not a regular file, so it is not read as data.")


def _records(path: Path, on_bytes: OnBytes | None) -> Iterator[FileRecord]:
    suffix = data_suffix(path)
    if suffix == ".parquet":
        return _parquet(path, on_bytes)
    longest = MAX_JSON_BYTES if suffix == ".json" else MAX_LINE_BYTES
    found = _without_blank_start(path, lines(path, on_bytes, longest))
    if suffix in (".csv", ".tsv"):
        return _table(path, found)
    if suffix in (".txt", ".text", ".md"):
        return _documents(found)
    return _json(path, found)


Line = tuple[int, str]  # its number, its text


def _without_blank_start(path: Path, found: Iterator[str]) -> Iterator[Line]:
    numbered = enumerate(found, 1)
    for number, line in numbered:
        if line.strip():
            return itertools.chain([(number, line)], numbered)
    raise LabError(f"{path} holds nothing but blank space: there is nothing to train on.")


def _documents(found: Iterator[Line]) -> Iterator[FileRecord]:
    """Plain text into documents: at ``<|endoftext|>`` where the file uses it, else at blank lines."""
    head: list[Line] = []
    size = 0
    for line in found:
        head.append(line)
        size += len(line[1])
        if DOCUMENT_MARK in line[1] or size > MARK_BYTES:
            break
    marked = bool(head) and any(DOCUMENT_MARK in text for _, text in head)
    number = 0
    part: list[str] = []
    for piece in _pieces((text for _, text in itertools.chain(head, found)), marked):
        if piece is not None:
            part.append(piece)
            continue
        if (document := "".join(part)).strip():
            number += 1
            yield f"document {number}", document
        part = []


def _pieces(texts: Iterator[str], marked: bool) -> Iterator[str | None]:
    """The text of documents in pieces, with None at the end of each."""
    held = ""  # a line feed belongs to the document only if no blank line follows
    for text in texts:
        if marked:
            first, *others = text.replace("\r", "\n").split(DOCUMENT_MARK)
            yield first
            for other in others:
                yield None
                yield other
        elif text.strip():
            yield held
            body = text.replace("\r", "\n")
            held = "\n" if body.endswith("\n") else ""
            yield body.removesuffix("\n")
        elif held:
            held = ""
            yield None
    yield held
    yield None


def _json(path: Path, found: Iterator[Line]) -> Iterator[FileRecord]:
    number, first = next(found)
    lines_suffix = data_suffix(path) in (".jsonl", ".ndjson")
    if lines_suffix and not first.lstrip().startswith("["):
        return _json_lines(path, itertools.chain([(number, first)], found))
    head, more = _second_line((number, first), found)
    every = itertools.chain(head, found)
    # Both mix-ups are common: a list in a .jsonl file, and one row a line in a .json file.
    if _is_json(first) and (more or (lines_suffix and _is_chat(first))):
        return _json_lines(path, every)
    value = _loads(path, _join(path, every), number)
    return ((f"row {n}", row) for n, row in enumerate(_rows_of(path, value), 1))


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
        found = _without_blank_start(path, lines(path, max_line_bytes=MAX_JSON_BYTES))
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


def _rows_of(path: Path, value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if (table := _columnar(value)) is not None:
            return table
        lists = {key: item for key, item in value.items() if isinstance(item, list)}
        if len(lists) == 1 and not _looks_like_row(value):
            return next(iter(lists.values()))
        if _looks_like_row(value) or not lists:
            raise LabError(
                f"{path} holds a single JSON object (keys {_named_some(value)}), not a "
                "list of rows. Put them into a list [ … ], or write one a line in a file .jsonl."
            )
        raise LabError(
            f"{path} holds an object with several lists ({_named_some(lists)}); keep one, "
            "or name them train and validation."
        )
    raise LabError(f"{path} holds a single JSON {type(value).__name__}, not a list of rows.")


def _columnar(value: dict[str, object]) -> list[object] | None:
    """Rows of a table by columns: lists of one length, or pandas' objects with one index."""
    columns = list(value.values())
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
    return None


def _named_some(names: Iterable[object]) -> str:
    return sanitize(", ".join(str(name)[:40] for name in itertools.islice(names, 8)))


def _looks_like_row(value: dict[str, object]) -> bool:
    return bool({"messages", "conversations", "conversation"} & set(value))


def _json_lines(path: Path, found: Iterator[Line]) -> Iterator[FileRecord]:
    # not splitlines: U+2028 is legal inside JSON strings
    for number, line in found:
        if line.strip():
            yield f"line {number}", _loads(path, line.rstrip("\r\n"), number)


class _BadJson(LabError):
    """Text that is not one JSON value."""


def _loads(path: Path, text: str, line: int = 1) -> Any:
    """The JSON value of ``text``, which begins at ``line`` of the file. Raises _BadJson."""
    try:
        return msgspec.json.decode(text)  # much faster than json; refuses NaN and lone surrogates
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {line + error.lineno - 1}, column {error.colno}"
        raise _BadJson(f"{place}: invalid JSON ({error.msg}). Correct or remove that line.") from None
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise _BadJson(f"{path}, line {line}: not usable JSON: {reason}.") from None


def _table(path: Path, found: Iterator[Line]) -> Iterator[FileRecord]:
    csv.field_size_limit(sys.maxsize)
    number, header = next(found)
    skipped = number - 1
    delimiter = ""
    if re.fullmatch(r"\"?sep=(.)\"?\s*", header, re.IGNORECASE):  # a hint that Excel reads and writes
        delimiter = header.strip().strip('"')[4:] or "\t"
        number, header = next(found, (number, ""))
        skipped = number - 1
    if not delimiter:
        # The header decides: names of columns hold no separators, texts do.
        delimiter = "\t" if data_suffix(path) == ".tsv" else max(_DELIMITERS, key=header.count)
    texts = itertools.chain([header], (text for _, text in found))
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                if len(set(names)) != len(names):
                    raise LabError(
                        f"{path}, line {skipped + 1}: column names repeat ({_named_some(names)}). "
                        "The first line of a table must name its columns."
                    )
                continue
            # Such a row is reported later, neither cut nor filled silently.
            row: dict[str, object] = dict(zip(names, cells, strict=False))
            if len(cells) != len(names):
                row[RAGGED_CELLS] = f"{len(cells)} cells where the header has {len(names)}"
            yield f"line {skipped + reader.line_num}", row
    except csv.Error as error:
        raise LabError(
            f"{path}, line {skipped + reader.line_num}: not a valid table ({first_line(error)})."
        ) from None


def _repeated_columns(path: Path) -> list[str]:
    """The text columns of a small Parquet file, which are read as indices into their distinct values: a few
    hundred bytes can mean the same long text a million times."""
    import pyarrow.parquet
    from pyarrow import types

    if path.stat().st_size > SMALL_PARQUET_BYTES:
        return []
    schema = pyarrow.parquet.read_schema(path)
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return [field.name for field in schema if any(is_text(field.type) for is_text in texts)]


def _unpacked_bytes(column: Any) -> int:
    """Bytes of a column of pyarrow once each value is written out."""
    import pyarrow.compute
    from pyarrow import types

    if not types.is_dictionary(column.type) or not len(column.dictionary):
        return int(column.nbytes)
    lengths = pyarrow.compute.binary_length(column.dictionary)
    found = pyarrow.compute.sum(lengths.take(column.indices).cast("int64")).as_py()
    return int(found or 0)


def _parquet(path: Path, on_bytes: OnBytes | None) -> Iterator[FileRecord]:
    import pyarrow
    import pyarrow.parquet

    number = unpacked = 0
    try:
        with pyarrow.parquet.ParquetFile(path, read_dictionary=_repeated_columns(path)) as table:
            groups = range(table.metadata.num_row_groups)
            check_expansion(path, sum(table.metadata.row_group(each).total_byte_size for each in groups))
            total = max(1, table.metadata.num_rows)
            for batch in table.iter_batches(batch_size=PARQUET_ROWS):
                size = sum(_unpacked_bytes(column) for column in batch.columns)
                unpacked += size
                check_expansion(path, unpacked)
                step = batch.num_rows if size < LARGE_BATCH_BYTES else 1
                for start in range(0, batch.num_rows, max(1, step)):
                    for row in batch.slice(start, step).to_pylist():
                        number += 1
                        yield f"row {number}", row
                if on_bytes is not None:
                    on_bytes(path.stat().st_size * number // total)
    except (pyarrow.ArrowException, ValueError) as error:
        raise LabError(f"{path} is not a readable Parquet file: {first_line(error)}.") from None


# --- several splits -------------------------------------------------------------------------------


def choose_splits(name: str, splits: dict[str, Records], max_rows: int) -> RawData:
    """Train and validation out of named splits, saying which was taken. Raises LabError where none of several
    is called train."""
    lower = {key.lower(): key for key in splits}
    train_key = next((lower[key] for key in TRAIN_NAMES if key in lower), None)
    if train_key is None:
        if len(splits) != 1:
            raise LabError(f"{name} has the splits {_named_some(splits)}, but none is called train.")
        train_key = next(iter(splits))
    validation_key = next(
        (lower[key] for key in VALIDATION_NAMES if key in lower and lower[key] != train_key), None
    )
    notes = [f"training rows are the split “{train_key}”"] if len(splits) > 1 else []
    validation = splits[validation_key] if validation_key else None
    if validation is not None and not is_empty(validation):
        notes.append(f"validation rows are the split “{validation_key}”")
    else:
        validation = None
    unused = [key for key in splits if key not in (train_key, validation_key)]
    if unused:
        notes.append(f"not used: {', '.join(f'“{key}”' for key in unused[:8])}")
    return RawData(name, _limited(splits[train_key], max_rows), validation, notes)


def is_empty(records: Records) -> bool:
    """Whether there is no record."""
    return next(iter(records), None) is None


def _limited(records: Records, max_rows: int) -> Records:
    return Stream(lambda: itertools.islice(records, max_rows)) if max_rows else records


def from_datasets(name: str, loaded: Any, max_rows: int) -> RawData:
    """The splits of a data set that ``datasets`` loaded; rows are decoded while they are read."""
    splits = dict(loaded.items()) if hasattr(loaded, "items") else {"train": loaded}
    records: dict[str, Records] = {str(key): _rows_of_split(str(key), rows) for key, rows in splits.items()}
    raw = choose_splits(name, records, max_rows)
    taken = next((key for key in splits if str(key).lower() in TRAIN_NAMES), next(iter(splits)))
    raw.count = min(len(splits[taken]), max_rows or len(splits[taken]))
    return raw


def _rows_of_split(key: str, rows: Any) -> Records:
    return Stream(lambda: ((f"{key} row {number}", dict(row)) for number, row in enumerate(rows, 1)))
