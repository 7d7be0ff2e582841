"""The rows that predictions answer: those of a data set in any format that training reads, and questions
alone. A row without a reference is read as one whose answer is :data:`NO_REFERENCE`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from tui_lab.core.errors import LabError
from tui_lab.data import bundled
from tui_lab.data.column_plan import Row
from tui_lab.data.examples import Example
from tui_lab.data.files import RawData, Stream
from tui_lab.data.formats import OpenedData, open_data, open_raw
from tui_lab.data.rows import BadRow
from tui_lab.data.sources import read_raw
from tui_lab.data.streams import FileRecord, Records
from tui_lab.data.turns import turns_of

RowsOf = Literal["all", "train", "validation"]
#: No data set has this answer: its first character is of no script.
NO_REFERENCE = "\ue0f7 no reference"
#: Rows, and characters of rows, among which batches of one length are made: what is in memory at once.
WINDOW_ROWS, WINDOW_CHARS = 1024, 8_000_000


def open_rows(name: str, data_format: str = "auto", columns: str = "") -> OpenedData:
    """A data set to answer. Raises LabError."""
    try:
        opened = open_data(name, data_format, columns=columns)
    except LabError as error:
        try:
            raw = read_raw(name, bundled_names=bundled.NAMES)
            added = RawData(raw.name, _each(raw.train, _with_answer), None, raw.notes, raw.paths)
            if raw.validation is not None:
                added.validation = _each(raw.validation, _with_answer)
            return open_raw(added, data_format, columns)
        except LabError:
            raise error from None
    if opened.plan.format == "messages":
        for part in opened.parts:
            part.records = _each(part.records, lambda record: _with_last_turn(record, opened))
    return opened


def _each(records: Records, change: Callable[[dict[str, object]], dict[str, object]]) -> Records:
    def changed() -> Iterator[FileRecord]:
        for place, value in records:
            yield place, change(value) if isinstance(value, dict) else value

    return Stream(changed)


def _with_answer(record: dict[str, object]) -> dict[str, object]:
    """A record with an answer, which no column of it is."""
    return {**record, "answer": NO_REFERENCE}


def _with_last_turn(record: dict[str, object], opened: OpenedData) -> dict[str, object]:
    """A chat with an answer to its last turn where that is the user's."""
    column = Row(opened.plan, record).column("messages")
    if column is None:
        return record
    try:
        turns = turns_of(record[column], column)
    except BadRow:
        return record  # reading it says what is wrong
    if turns[-1]["role"] != "user":
        return record
    return {**record, column: [*turns, {"role": "assistant", "content": NO_REFERENCE}]}


def rows_of(opened: OpenedData, split: RowsOf, limit: int | None = None) -> Iterator[Example]:
    """The rows of a split, at most ``limit``."""
    parts: list[Iterable[Example]] = []
    if split in ("all", "train"):
        parts.append(opened.train)
    if split in ("all", "validation") and opened.validation is not None:
        parts.append(opened.validation)
    return itertools.islice(itertools.chain.from_iterable(parts), limit)


def count_rows(opened: OpenedData, split: RowsOf) -> tuple[int, str]:
    """The number of rows, and a digest of what they ask and expect. Raises LabError where there is none."""
    count, digest = 0, hashlib.sha256()
    for row in rows_of(opened, split):
        count += 1
        parts: tuple[object, ...] = (row.messages, row.tools, row.text, row.prompt, row.completion)
        parts += (row.tests,) if row.tests is not None else ()
        digest.update(repr(parts).encode("utf-8", "surrogatepass"))
    if not count:
        reasons = "; ".join(opened.warnings())
        which = "" if split == "all" else f"{split} "
        raise LabError(f"{opened.name} has no {which}row to answer" + (f": {reasons}" if reasons else ""))
    return count, digest.hexdigest()


def windows(rows: Iterable[Example]) -> Iterator[list[tuple[int, Example]]]:
    """The rows with their numbers, in parts that fit into memory; the same parts for the same rows."""
    window: list[tuple[int, Example]] = []
    chars = 0
    for number, example in enumerate(rows, 1):
        window.append((number, example))
        chars += sum(len(message["content"]) for message in example.messages or ())
        chars += sum(len(text or "") for text in (example.text, example.prompt, example.completion))
        if len(window) >= WINDOW_ROWS or chars >= WINDOW_CHARS:
            yield window
            window, chars = [], 0
    if window:
        yield window


def reference(example: Example) -> str | None:
    """The expected answer of a row; None where it has none."""
    expected = example.expected
    return None if expected == NO_REFERENCE else expected


def last_turn(example: Example) -> str:
    """The text of a row's prompt, of a chat its last turn."""
    prompt = example.generation_prompt
    return prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else ""
