"""Rows of Parquet, Arrow and Feather files. What they unpack to is bounded; texts may repeat without end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import first_line
from tui_lab.data.streams import FileRecord, OnBytes, check_expansion

PARQUET_ROWS = 256  # rows decoded at once
SMALL_PARQUET_BYTES = 64 << 20  # of larger files the values are written out at once, which is faster
LARGE_BATCH_BYTES = 64 << 20  # rows of more than that become Python values one at a time


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


def parquet_rows(path: Path, on_bytes: OnBytes | None) -> Iterator[FileRecord]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, read_dictionary=_repeated_columns(path)) as table:
            groups = [table.metadata.row_group(each) for each in range(table.metadata.num_row_groups)]
            counts = [table.metadata.num_rows, *(group.num_rows for group in groups)]
            if not table.metadata.num_columns or min(counts) < 0 or counts[0] != sum(counts[1:]):
                raise ValueError(
                    "its counts of rows and columns are damaged"
                )  # Arrow would abort the process
            check_expansion(path, sum(group.total_byte_size for group in groups))
            total = max(1, table.metadata.num_rows)
            size = path.stat().st_size
            report = None if on_bytes is None else lambda number: on_bytes(size * number // total)
            yield from _batch_rows(path, table.iter_batches(batch_size=PARQUET_ROWS), report)
    except (pyarrow.ArrowException, ValueError) as error:
        raise LabError(f"{path} is not a readable Parquet file: {first_line(error)}.") from None


def arrow_rows(path: Path, on_bytes: OnBytes | None) -> Iterator[FileRecord]:
    """The rows of a file of Arrow or Feather, written as a file or as a stream. Raises LabError."""
    import pyarrow

    try:
        with pyarrow.OSFile(str(path)) as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            reader = (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(file)
            report = None if on_bytes is None else lambda _: on_bytes(file.tell())
            numbers = range(reader.num_record_batches) if is_file else ()
            yield from _batch_rows(path, map(reader.get_batch, numbers) if is_file else reader, report)
    except (pyarrow.ArrowException, ValueError, OSError, MemoryError) as error:
        raise LabError(f"{path} is not a readable Arrow file: {first_line(error)}.") from None


LabelNames = Mapping[str, Sequence[str]]  # the names of the labels of a column, by their number


def label_names(features: Any) -> dict[str, Sequence[str]]:
    """The names of labels that ``datasets`` stores as numbers, from its features or their JSON."""
    found: dict[str, Sequence[str]] = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        plain = feature if isinstance(feature, dict) else getattr(feature, "__dict__", {})
        kind = plain.get("_type", type(feature).__name__)
        names = plain.get("names")
        if kind == "ClassLabel" and isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[str(column)] = names
    return found


def _names_in(schema: Any) -> dict[str, Sequence[str]]:
    """The names of labels in what ``datasets`` writes beside the columns of a file."""
    try:
        written = msgspec.json.decode((schema.metadata or {}).get(b"huggingface", b"{}"))
        return label_names(written["info"]["features"])
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        return {}


def with_names(row: dict[str, Any], names: LabelNames) -> dict[str, Any]:
    """A row with the names of its labels in place of their numbers; -1 stands for no label."""
    for column, known in names.items():
        number = row.get(column)
        if type(number) is int:
            row[column] = known[number] if 0 <= number < len(known) else None if number == -1 else number
    return row


def _batch_rows(
    path: Path, batches: Iterable[Any], report: Callable[[int], None] | None
) -> Iterator[FileRecord]:
    """The rows of batches of pyarrow, which are checked; ``report`` is called with the rows so far."""
    number = unpacked = 0
    names: LabelNames | None = None
    for batch in batches:
        batch.validate(full=True)
        names = _names_in(batch.schema) if names is None else names
        size = sum(_unpacked_bytes(column) for column in batch.columns)
        unpacked += size
        check_expansion(path, unpacked)
        step = PARQUET_ROWS if size < LARGE_BATCH_BYTES else 1
        for start in range(0, batch.num_rows, step):
            for row in batch.slice(start, step).to_pylist():
                number += 1
                yield f"row {number}", with_names(row, names)
        if report is not None:
            report(number)
