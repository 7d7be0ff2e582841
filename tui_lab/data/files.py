"""Raw records from files, folders and hub data sets.

JSON, JSONL, CSV, TSV, Parquet, plain text, a folder of these, a folder saved by ``datasets``, or a name on
the hub. Each record has its place ("line 17") for later messages. ``formats`` interprets the columns. Every
failure to read is one sentence with file, place and cause."""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.hub_errors import classify
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data import hub

EXTENSIONS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".text", ".md")
TRAIN_NAMES = ("train", "training")
# In order of preference: a test set is used for validation only when nothing better was given.
VALIDATION_NAMES = ("validation", "valid", "val", "dev", "eval", "test")
DOCUMENT_MARK = "<|endoftext|>"
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.\- ]+)?$")

RAGGED_CELLS = (
    "\0cells"  # marks a table row whose cells do not match the header; no real column has this name
)

FileRecord = tuple[str, object]  # (its place in the file, the value: usually a dict or a string)


@dataclass
class RawData:
    """Records as they lie in the source: ``train``, and ``validation`` where the source has one."""

    name: str
    train: list[FileRecord]
    validation: list[FileRecord] | None = None
    notes: list[str] = field(default_factory=list)


def read_raw(source: str, max_rows: int = 0, bundled_names: Iterable[str] = ()) -> RawData:
    """Reads a file, a folder or a hub name.

    Args:
        source: a path, or ``owner/name`` or ``owner/name:config`` of the hub.
        max_rows: > 0 stops after that many records of each split.
        bundled_names: names that an error may suggest.

    Raises:
        LabError: one sentence with file, place and cause.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_folder(path, max_rows)
    if path.exists():
        return (
            RawData(source, read_file(path, max_rows))
            if not _is_split_object(path)
            else _split_object(path, max_rows)
        )
    if HUB_NAME.match(source) and path.suffix.lower() not in EXTENSIONS and not path.parent.is_dir():
        return _read_hub(source, max_rows)
    raise LabError(_missing(source, path, list(bundled_names)))


def _missing(source: str, path: Path, bundled_names: list[str]) -> str:
    near: list[str] = difflib.get_close_matches(source, bundled_names, 1)
    if not near and path.parent.is_dir():
        try:
            siblings = [entry.name for entry in path.parent.iterdir()]
        except OSError:
            siblings = []
        near = [str(path.parent / name) for name in difflib.get_close_matches(path.name, siblings, 1)]
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"There is no data file or folder {source}.{hint} Give a file ({', '.join(EXTENSIONS)}), a folder of "
        f"such files, a bundled set ({', '.join(bundled_names) or 'none'}) or a hub name (owner/name)."
    )


# --- one file -------------------------------------------------------------------------------------


def read_file(path: Path, max_rows: int = 0) -> list[FileRecord]:
    """The records of one file, by its extension. Raises LabError with file, place and cause."""
    suffix = path.suffix.lower()
    if suffix not in EXTENSIONS:
        kind = f"files ending in {suffix}" if suffix else "files without an ending, such as .jsonl,"
        raise LabError(
            f"{path}: {kind} are not read as data. Rename or convert it to one of {', '.join(EXTENSIONS)}."
        )
    if not path.is_file():
        raise LabError(f"{path} is not a regular file, so it is not read as data.")
    try:
        if path.stat().st_size == 0:
            raise LabError(f"{path} is empty: there is nothing to train on.")
        if suffix == ".parquet":
            records = _read_parquet(path, max_rows)
        else:
            text = _read_text(path)
            if not text.strip():
                raise LabError(f"{path} holds nothing but blank space: there is nothing to train on.")
            if suffix in (".csv", ".tsv"):
                records = _read_table(path, text, max_rows)
            elif suffix in (".txt", ".text", ".md"):
                records = split_documents(text)
            else:
                records = _read_json(path, text, max_rows)
    except OSError as error:
        raise LabError(f"{path} could not be read: {error.strerror or error}.") from None
    if not records:
        raise LabError(f"{path} holds no rows: there is nothing to train on.")
    return records[:max_rows] if max_rows else records


def _read_text(path: Path) -> str:
    blob = path.read_bytes()
    if blob[:2] in (b"\xff\xfe", b"\xfe\xff") or blob[:4] == b"\x00\x00\xfe\xff":
        raise LabError(f"{path} is encoded as UTF-16 or UTF-32; save it as UTF-8.")
    if b"\x00" in blob[:65536]:
        raise LabError(
            f"{path} is a binary file, not text (it holds zero bytes), although it ends in {path.suffix}."
        )
    try:
        return blob.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = blob.count(b"\n", 0, error.start) + 1
        raise LabError(
            f"{path}, line {line}: byte 0x{blob[error.start]:02x} is not valid UTF-8. "
            "The file has another encoding (Latin-1 or Windows-1252 perhaps); save it as UTF-8."
        ) from None


def split_documents(text: str) -> list[FileRecord]:
    """Plain text into documents: at ``<|endoftext|>`` where the file uses it, else at blank lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parts = text.split(DOCUMENT_MARK) if DOCUMENT_MARK in text else _BLANK_LINES.split(text)
    return [(f"document {number}", part) for number, part in enumerate((p for p in parts if p.strip()), 1)]


def _read_json(path: Path, text: str, max_rows: int) -> list[FileRecord]:
    lines_suffix = path.suffix.lower() in (".jsonl", ".ndjson")
    # Both mix-ups are common: a list in a .jsonl file, and one object a line in a .json file.
    if lines_suffix and not text.lstrip().startswith("["):
        return list(_json_lines(path, text, max_rows))
    try:
        value = _loads(path, text)
    except _BadJson as error:
        if error.extra_data and (text.lstrip().startswith("{") or lines_suffix):
            return list(_json_lines(path, text, max_rows))
        raise
    return [(f"row {number}", row) for number, row in enumerate(_rows_of(path, value), 1)]


def _rows_of(path: Path, value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
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


def _named_some(names: Iterable[object]) -> str:
    return sanitize(", ".join(str(name)[:40] for name in itertools.islice(names, 8)))


def _looks_like_row(value: dict[str, object]) -> bool:
    return bool({"messages", "conversations", "conversation"} & set(value))


def _json_lines(path: Path, text: str, max_rows: int) -> Iterator[FileRecord]:
    count = 0
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 is legal inside JSON strings
        if not line.strip():
            continue
        yield f"line {number}", _loads(path, line, number)
        count += 1
        if max_rows and count >= max_rows:
            return


class _BadJson(LabError):
    """Text that is not one JSON value; ``extra_data``: a value with more text after it."""

    extra_data = False


def _loads(path: Path, text: str, line: int = 1) -> Any:
    """The JSON value of ``text``, which begins at ``line`` of the file. Raises _BadJson."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {line + error.lineno - 1}, column {error.colno}"
        bad = _BadJson(f"{place}: invalid JSON ({error.msg}). Correct or remove that line.")
        bad.extra_data = error.msg.startswith("Extra data")
        raise bad from None
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise _BadJson(f"{path}, line {line}: not usable JSON: {reason}.") from None


def _read_table(path: Path, text: str, max_rows: int) -> list[FileRecord]:
    csv.field_size_limit(sys.maxsize)
    header = text.lstrip("\n\r").split("\n", 1)[0]
    # The header decides: names of columns hold no separators, texts do.
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[FileRecord] = []
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                if len(set(names)) != len(names):
                    raise LabError(
                        f"{path}, line 1: column names repeat ({_named_some(names)}). "
                        "The first line of a table must name its columns."
                    )
                continue
            # Such a row is reported later, neither cut nor filled silently.
            row: dict[str, object] = dict(zip(names, cells, strict=False))
            if len(cells) != len(names):
                row[RAGGED_CELLS] = f"{len(cells)} cells where the header has {len(names)}"
            records.append((f"line {reader.line_num}", row))
            if max_rows and len(records) >= max_rows:
                break
    except csv.Error as error:
        raise LabError(f"{path}, line {reader.line_num}: not a valid table ({error}).") from None
    return records


def _read_parquet(path: Path, max_rows: int) -> list[FileRecord]:
    import pyarrow
    import pyarrow.parquet

    rows: list[object] = []
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                rows.extend(batch.to_pylist())
                if max_rows and len(rows) >= max_rows:
                    break
    except (pyarrow.ArrowException, ValueError) as error:
        raise LabError(f"{path} is not a readable Parquet file: {first_line(error)}.") from None
    return [(f"row {number}", row) for number, row in enumerate(rows, 1)]


# --- several splits -------------------------------------------------------------------------------


def _is_split_object(path: Path) -> bool:
    """A JSON object whose keys are split names, as in {"train": [...], "validation": [...]}."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return head.startswith(b"{") and re.match(rb'\{\s*"(train|training)"\s*:\s*\[', head) is not None


def _split_object(path: Path, max_rows: int) -> RawData:
    value = _loads(path, _read_text(path))
    splits = {str(key): item for key, item in value.items() if isinstance(item, list)}
    return _choose_splits(
        str(path),
        {key: [(f"{key} row {n}", row) for n, row in enumerate(rows, 1)] for key, rows in splits.items()},
        max_rows,
    )


def _choose_splits(name: str, splits: dict[str, list[FileRecord]], max_rows: int) -> RawData:
    """Train and validation out of named splits, saying which was taken."""
    lower = {key.lower(): key for key in splits}
    train_key = next((lower[key] for key in TRAIN_NAMES if key in lower), None)
    if train_key is None:
        if len(splits) != 1:
            raise LabError(f"{name} has the splits {_named_some(splits)}, but none is called train.")
        train_key = next(iter(splits))
    validation_key = next(
        (lower[key] for key in VALIDATION_NAMES if key in lower and lower[key] != train_key), None
    )
    train = splits[train_key]
    notes = [f"training rows are the split “{train_key}”"] if len(splits) > 1 else []
    validation = splits[validation_key] if validation_key else None
    if validation_key and validation:
        notes.append(f"validation rows are the split “{validation_key}”")
    return RawData(name, train[:max_rows] if max_rows else train, validation or None, notes)


def _read_folder(folder: Path, max_rows: int) -> RawData:
    if (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists():
        return _read_saved(folder, max_rows)
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file())
    except OSError as error:
        raise LabError(f"The folder {folder} could not be read: {error.strerror or error}.") from None
    # A README describes the data; it is not data.
    files = [p for p in files if not (p.suffix.lower() == ".md" or p.stem.lower() in ("readme", "license"))]
    if not files:
        raise LabError(
            f"The folder {folder} holds no data files. It should hold files ending in "
            f"{', '.join(EXTENSIONS[:-1])}; train.* and validation.* are taken as such."
        )
    splits: dict[str, list[FileRecord]] = {}
    named = [(p, next((n for n in (*TRAIN_NAMES, *VALIDATION_NAMES) if _named(p, n)), None)) for p in files]
    has_train = any(name in TRAIN_NAMES for _, name in named)
    for path, name in named:
        key = name if name and has_train else "train"
        splits.setdefault(key, []).extend(
            (f"{path.name} {place}", row) for place, row in read_file(path, max_rows)
        )
    raw = _choose_splits(str(folder), splits, max_rows)
    raw.notes.insert(0, f"{len(files)} file{'s' if len(files) > 1 else ''} of the folder")
    return raw


def _named(path: Path, split: str) -> bool:
    return re.match(rf"{split}($|[^a-z])", path.stem.lower()) is not None


def _read_saved(folder: Path, max_rows: int) -> RawData:
    import datasets

    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # noqa: BLE001 - datasets raises whatever its readers and the hub do
        raise LabError(
            f"The folder {folder} looks like a saved data set but could not be read: {first_line(error)}."
        ) from None
    return _from_datasets(str(folder), saved, max_rows)


def _read_hub(source: str, max_rows: int) -> RawData:
    import datasets

    name, _, config = source.partition(":")
    datasets.disable_progress_bars()
    reachable = hub.reachable()
    try:
        with contextlib.nullcontext() if reachable else hub.cache_only():
            loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # noqa: BLE001 - datasets raises whatever its readers and the hub do
        raise LabError(_hub_failure(source, error, reachable)) from None
    return _from_datasets(source, loaded, max_rows)


def _hub_failure(source: str, error: Exception, reachable: bool) -> str:
    problem = classify(error)
    if not reachable or problem == "offline":
        return (
            f"There is no file or folder {source}, and as a hub name it could not be fetched: the hub is not "
            "reachable from here, and the set is not in the local cache. Give a local file or a bundled set."
        )
    if "config" in str(error).lower() and "missing" in str(error).lower():
        names = ", ".join(re.findall(r"\[([^\]]*)\]", str(error))[:1])[:300]
        return f"The hub set {source} has several configurations ({names}); choose one: owner/name:config."
    if problem is not None:
        return f"There is no file or folder {source}, nor such a set on the hub (or it is private or gated)."
    return f"The hub set {source} could not be loaded: {type(error).__name__}, {first_line(error)}."


def _from_datasets(name: str, loaded: Any, max_rows: int) -> RawData:
    splits = dict(loaded.items()) if hasattr(loaded, "items") else {"train": loaded}
    lower = {str(key).lower(): str(key) for key in splits}
    wanted = {next((lower[k] for k in TRAIN_NAMES if k in lower), next(iter(splits)))}
    wanted |= {k for k in [next((lower[v] for v in VALIDATION_NAMES if v in lower), None)] if k}
    records: dict[str, list[FileRecord]] = {}
    for key in splits:
        rows = splits[key]
        if key not in wanted:
            records[str(key)] = []  # named in an error, never decoded
            continue
        if max_rows and len(rows) > max_rows:
            rows = rows.select(range(max_rows))
        records[str(key)] = [(f"{key} row {number}", dict(row)) for number, row in enumerate(rows, 1)]
    return _choose_splits(name, records, max_rows)
