"""Encoded rows and their examples in Arrow: in memory for small sets, else in files that are mapped.

Of a large set only arrays with a few numbers for each row are in memory. Examples are read in small batches
and not mapped, so that looking at all of them leaves nothing resident."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tui_lab.data.duplicates import Indices
from tui_lab.data.formats import Example
from tui_lab.data.row_tokens import IGNORED
from tui_lab.data.rows import TokenRow

ROWS_A_BATCH = 512
EXAMPLES_A_BATCH = 128
CACHED_BATCHES = 16
ROWS_FILE, EXAMPLES_FILE, ARRAYS_FILE = "rows.arrow", "examples.arrow", "arrays.npz"
_ROWS = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("task", pa.string())]
)
_EXAMPLES = pa.schema([("example", pa.binary())])


class StoredExamples(Sequence[Example]):
    """Examples in a file or a buffer, decoded when they are asked for; ``positions``: those of them that are
    meant."""

    def __init__(self, source: Path | pa.Buffer, index: Indices) -> None:
        opened = pa.OSFile(str(source)) if isinstance(source, Path) else pa.BufferReader(source)
        self._reader = pa.ipc.open_file(opened)
        self._decoder = msgspec.json.Decoder(Example)
        self._batch = functools.lru_cache(CACHED_BATCHES)(self._read_batch)
        self._source, self.positions = source, index

    def _read_batch(self, number: int) -> list[bytes]:
        column: list[bytes] = self._reader.get_batch(number).column(0).to_pylist()
        return column

    def chosen(self, index: Indices) -> StoredExamples:
        """Some of these examples."""
        return StoredExamples(self._source, self.positions[index])

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> list[Example]: ...
    def __getitem__(self, row: int | slice) -> Example | list[Example]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        batch, inside = divmod(int(self.positions[row]), EXAMPLES_A_BATCH)
        return self._decoder.decode(self._batch(batch)[inside])


class TokenRows(Sequence[TokenRow]):
    """Token rows in an Arrow table; ``positions``: those of its rows that are meant, in order. ``lengths``
    and ``trained`` (N,) are the tokens of each row, and those that give a loss; ``source`` (N,) is the number
    of the data set of each row in a mixture."""

    def __init__(
        self,
        table: pa.Table,
        index: Indices,
        lengths: Indices,
        trained: Indices,
        sources: Sequence[pa.Table | Path],
        source: Indices | None = None,
    ) -> None:
        self.source = np.zeros(len(index), dtype=np.int64) if source is None else source
        self.table, self.positions, self.lengths, self.trained = table, index, lengths, trained
        self._sources = sources  # the files, or tables in memory, of which the table consists

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> TokenRows:
        """Rows that are in memory already."""
        columns = {
            "input_ids": [row["input_ids"] for row in rows],
            "labels": [row["labels"] for row in rows],
            "task": [row.get("task") for row in rows],
        }
        lengths = np.array([len(row["input_ids"]) for row in rows], dtype=np.int64)
        trained = np.array([_trained(row["labels"]) for row in rows], dtype=np.int64)
        table = pa.Table.from_pydict(columns, schema=_ROWS)
        return cls(table, np.arange(len(rows), dtype=np.int64), lengths, trained, [table])

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, row: int) -> TokenRow: ...
    @overload
    def __getitem__(self, row: slice) -> list[TokenRow]: ...
    def __getitem__(self, row: int | slice) -> TokenRow | list[TokenRow]:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        at = int(self.positions[row])
        found: TokenRow = {
            "input_ids": self.table.column("input_ids")[at].as_py(),
            "labels": self.table.column("labels")[at].as_py(),
        }
        if task := self.table.column("task")[at].as_py():
            found["task"] = task
        return found

    def chosen(self, order: Sequence[int] | Indices) -> TokenRows:
        """Some of these rows, in this order."""
        at = np.asarray(order, dtype=np.int64)
        counts = self.lengths[at], self.trained[at]
        return TokenRows(self.table, self.positions[at], *counts, self._sources, self.source[at])

    def of_source(self, number: int) -> TokenRows:
        """These rows as those of a numbered data set."""
        numbers = np.full(len(self), number, dtype=np.int64)
        return TokenRows(self.table, self.positions, self.lengths, self.trained, self._sources, numbers)

    def joined(self, other: TokenRows) -> TokenRows:
        """These rows and then the others; nothing is copied."""
        table = pa.concat_tables([self.table, other.table])
        index = np.concatenate([self.positions, other.positions + self.table.num_rows])
        lengths = np.concatenate([self.lengths, other.lengths])
        trained = np.concatenate([self.trained, other.trained])
        source = np.concatenate([self.source, other.source])
        return TokenRows(table, index, lengths, trained, [*self._sources, *other._sources], source)

    def tasks(self) -> list[str | None]:
        """The task of each row."""
        found: list[str | None] = self.table.column("task").take(pa.array(self.positions)).to_pylist()
        return [task or None for task in found]

    def token_bytes(self) -> Iterator[bytes]:
        """The tokens of each row."""
        for first in range(0, len(self), ROWS_A_BATCH):
            batch = self.table.take(pa.array(self.positions[first : first + ROWS_A_BATCH]))
            column = batch.column("input_ids").combine_chunks()
            tokens = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.int32)
            ends = np.cumsum(np.asarray(column.value_lengths(), dtype=np.int64))
            yield from (part.tobytes() for part in np.split(tokens, ends[:-1]))

    def dataset(self) -> Any:
        """The rows as a data set of ``datasets``, with the columns input_ids and labels."""
        from datasets import Dataset, concatenate_datasets
        from datasets.table import InMemoryTable, MemoryMappedTable

        parts = []
        for number, source in enumerate(self._sources):
            mapped = isinstance(source, Path)
            table = MemoryMappedTable.from_file(str(source)) if mapped else InMemoryTable(source)
            # without a fingerprint datasets would read the whole table to make one
            part = Dataset(table, fingerprint=f"{number}-{id(self):x}-{len(self.positions)}")
            parts.append(part.select_columns(["input_ids", "labels"]))
        columns = parts[0] if len(parts) == 1 else concatenate_datasets(parts)
        plain = np.array_equal(self.positions, np.arange(self.table.num_rows))
        return columns if plain else columns.select(self.positions)


# pyarrow.array would import pandas, which takes a quarter of a second


def _ends(lengths: Sequence[int]) -> NDArray[np.int32]:
    return np.cumsum([0, *lengths]).astype(np.int32)


def _integers(values: NDArray[np.int32]) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def _texts(values: Sequence[bytes], kind: pa.DataType) -> pa.Array:
    ends = _ends([len(value) for value in values])
    return pa.Array.from_buffers(
        kind, len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    )


def _trained(labels: Sequence[int]) -> int:
    return sum(label != IGNORED for label in labels[1:])


@dataclass(frozen=True)
class Store:
    """All rows and examples of a set. ``owner`` (R,) is the example of each token row."""

    rows: TokenRows
    examples: StoredExamples
    owner: Indices

    def rows_of(self, examples: Indices) -> TokenRows:
        """The token rows of some examples, in the order of the rows."""
        wanted = np.zeros(len(self.examples), dtype=bool)
        wanted[examples] = True
        return self.rows.chosen(np.flatnonzero(wanted[self.owner]))


class StoreWriter:
    """Writes a store: into ``folder``, or into memory without one."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._buffers = [pa.BufferOutputStream(), pa.BufferOutputStream()] if folder is None else []
        rows, examples = self._buffers or [
            pa.OSFile(str(folder / name), "wb")  # type: ignore[operator]
            for name in (ROWS_FILE, EXAMPLES_FILE)
        ]
        self._sinks = (rows, examples)
        self._rows = pa.ipc.new_stream(rows, _ROWS)
        self._examples = pa.ipc.new_file(examples, _EXAMPLES)
        self._encode = msgspec.json.Encoder().encode
        self._waiting: list[tuple[NDArray[np.int32], NDArray[np.int32], str]] = []
        self._waiting_examples: list[bytes] = []
        self._lengths, self._trained, self._owner = array("q"), array("q"), array("q")
        self.examples = 0

    def add(self, example: Example, pieces: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]]) -> None:
        """An example with the ids and labels of its token rows."""
        for ids, labels in pieces:
            self._waiting.append((ids, labels, example.task))
            self._lengths.append(len(ids))
            self._trained.append(int(np.count_nonzero(labels[1:] != IGNORED)))
            self._owner.append(self.examples)
        self._waiting_examples.append(self._encode(example))
        self.examples += 1
        if len(self._waiting) >= ROWS_A_BATCH:
            self._flush_rows()
        if len(self._waiting_examples) == EXAMPLES_A_BATCH:
            self._flush_examples()

    def _flush_rows(self) -> None:
        if not self._waiting:
            return
        ends = _ends([len(ids) for ids, _, _ in self._waiting])
        columns = [
            pa.ListArray.from_arrays(
                _integers(ends), _integers(np.concatenate([r[at] for r in self._waiting]))
            )
            for at in (0, 1)
        ]
        tasks = _texts([task.encode() for _, _, task in self._waiting], pa.string())
        self._rows.write_batch(pa.record_batch([*columns, tasks], schema=_ROWS))
        self._waiting = []

    def _flush_examples(self) -> None:
        if self._waiting_examples:
            self._examples.write_batch(
                pa.record_batch([_texts(self._waiting_examples, pa.binary())], _EXAMPLES)
            )
        self._waiting_examples = []

    def close(self) -> Store:
        """The finished store. Raises OSError where the disk is full."""
        self._flush_rows()
        self._flush_examples()
        self._rows.close()
        self._examples.close()
        arrays = {
            "lengths": np.frombuffer(self._lengths, dtype=np.int64),
            "trained": np.frombuffer(self._trained, dtype=np.int64),
            "owner": np.frombuffer(self._owner, dtype=np.int64),
        }
        if self._folder is not None:
            for sink in self._sinks:
                sink.close()
            counts: dict[str, Any] = {"examples": np.int64(self.examples), **arrays}
            np.savez(self._folder / ARRAYS_FILE, **counts)
            return open_store(self._folder)
        rows, examples = (buffer.getvalue() for buffer in self._buffers)
        return _store(rows, examples, self.examples, arrays)

    def discard(self) -> None:
        """Closes the files of a store that is not finished."""
        for sink in self._sinks:
            sink.close()


def open_store(folder: Path) -> Store:
    """The store in a folder. Raises OSError, ValueError or an error of Arrow for a damaged one."""
    with np.load(folder / ARRAYS_FILE, allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in ("lengths", "trained", "owner")}
        count = int(saved["examples"])
    return _store(folder / ROWS_FILE, folder / EXAMPLES_FILE, count, arrays)


def _store(
    rows: Path | pa.Buffer, examples: Path | pa.Buffer, count: int, arrays: dict[str, Indices]
) -> Store:
    opened = pa.memory_map(str(rows)) if isinstance(rows, Path) else pa.BufferReader(rows)
    table = pa.ipc.open_stream(opened).read_all()
    index = np.arange(table.num_rows, dtype=np.int64)
    return Store(
        TokenRows(
            table, index, arrays["lengths"], arrays["trained"], [rows if isinstance(rows, Path) else table]
        ),
        StoredExamples(examples, np.arange(count, dtype=np.int64)),
        arrays["owner"],
    )


def length_of(example: Example) -> int:
    """The characters of an example's texts."""
    turns = sum(len(str(turn.get("content") or "")) for turn in example.messages or ())
    return turns + sum(len(text or "") for text in (example.text, example.prompt, example.completion))


def batches(examples: Iterator[Example], size: int, max_chars: int) -> Iterator[list[Example]]:
    """Examples in lists of at most ``size``; a list ends with the example that brings its texts to
    ``max_chars`` characters."""
    waiting: list[Example] = []
    chars = 0
    for example in examples:
        waiting.append(example)
        chars += length_of(example)
        if len(waiting) == size or chars >= max_chars:
            yield waiting
            waiting, chars = [], 0
    if waiting:
        yield waiting
