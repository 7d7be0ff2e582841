"""Raw records from files, folders and hub data sets, read as streams.

JSON, JSONL, CSV, TSV, Parquet, Arrow, plain text (texts also compressed), a folder of these, a clone of a
hub data set, a folder saved by ``datasets``, or a name on the hub. Each record has its place ("line 17") for
later messages. ``columns`` interprets the columns. Every failure to read is one sentence with file, place and
cause."""

from __future__ import annotations

import csv
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line
from tui_lab.data import arrow_files
from tui_lab.data.json_files import (
    MAX_JSON_BYTES,
    TRAIN_NAMES,
    VALIDATION_NAMES,
    json_in_text,
    json_rows,
    named_some,
    without_blank_start,
)
from tui_lab.data.streams import (
    COMPRESSED,
    MAX_LINE_BYTES,
    FileRecord,
    Line,
    OnBytes,
    Records,
    data_suffix,
    lines,
)

EXTENSIONS = (
    ".json", ".jsonl", ".ndjson", ".jsonlines", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt",
    ".text", ".md",
)  # fmt: skip
DOCUMENT_MARK = "<|endoftext|>"
MARK_BYTES = 16 << 20  # the mark is looked for in so much of a text
_DELIMITERS = ",;\t|"
#: What numbers that are none become in a table; "None" and "N/A" may be answers.
EMPTY_CELLS = frozenset(("nan", "NaN", "NAN", "-nan", "<NA>", "#N/A"))

RAGGED_CELLS = (
    "\0cells"  # marks a table row whose cells do not match the header; no real column has this name
)


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
        return arrow_files.parquet_rows(path, on_bytes)
    if suffix in (".arrow", ".feather"):
        return arrow_files.arrow_rows(path, on_bytes)
    longest = MAX_JSON_BYTES if suffix == ".json" else MAX_LINE_BYTES
    found = without_blank_start(path, lines(path, on_bytes, longest))
    if suffix in (".csv", ".tsv", ".txt", ".text"):  # rows of JSON are often called so
        head, is_json = json_in_text(found)
        found = itertools.chain(head, found)
        if is_json:
            return json_rows(path, found)
    if suffix in (".csv", ".tsv"):
        return _table(path, found)
    if suffix in (".txt", ".text", ".md"):
        return _documents(found)
    return json_rows(path, found)


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
        # The header decides: names of columns hold no separators outside quotes, texts do.
        cells_by = {each: _cells(header, each) for each in _DELIMITERS}
        delimiter = "\t" if data_suffix(path) == ".tsv" else max(_DELIMITERS, key=cells_by.__getitem__)
    texts = itertools.chain([header], (text for _, text in found))
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                if names.count("") > 1:  # Excel writes columns that are empty
                    names = [cell or f"column {number}" for number, cell in enumerate(names, 1)]
                if len(set(names)) != len(names):
                    raise LabError(
                        f"{path}, line {skipped + 1}: column names repeat ({named_some(names)}). "
                        "The first line of a table must name its columns."
                    )
                continue
            while len(cells) > len(names) and not cells[-1].strip():
                cells.pop()
            # Such a row is reported later, neither cut nor filled silently.
            values = (None if cell.strip() in EMPTY_CELLS else cell for cell in cells)
            row: dict[str, object] = dict(zip(names, values, strict=False))
            if len(cells) != len(names):
                row[RAGGED_CELLS] = f"{len(cells)} cells where the header has {len(names)}"
            yield f"line {skipped + reader.line_num}", row
    except csv.Error as error:
        raise LabError(
            f"{path}, line {skipped + reader.line_num}: not a valid table ({first_line(error)})."
        ) from None


def _cells(header: str, delimiter: str) -> int:
    """The cells of a header at a delimiter, 0 where its quotes do not fit."""
    try:
        return len(next(csv.reader([header], delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


# --- several splits -------------------------------------------------------------------------------


def choose_splits(name: str, splits: dict[str, Records], max_rows: int) -> RawData:
    """Train and validation out of named splits, saying which was taken. Raises LabError where none of several
    is called train."""
    lower = {key.lower(): key for key in splits}
    train_key = next((lower[key] for key in TRAIN_NAMES if key in lower), None)
    if train_key is None:
        if len(splits) != 1:
            raise LabError(f"{name} has the splits {named_some(splits)}, but none is called train.")
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
    names = arrow_files.label_names(getattr(rows, "features", None))
    return Stream(
        lambda: (
            (f"{key} row {number}", arrow_files.with_names(dict(row), names))
            for number, row in enumerate(rows, 1)
        )
    )
