"""The event log of a run: append-only JSON lines, versioned, written whole and read as they grow.

One writer, any number of readers. A record is one ``write`` of one line; a last line without its end is
"not yet"; a line that is not a record (the half line of a killed writer) is passed over. Numbers that
JSON has no word for travel as the strings "nan", "inf" and "-inf" in the numeric fields.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tui_lab.core.records import jsonable
from tui_lab.runs.schema import Event, encode_event

#: Fields whose "nan" and "inf" are numbers again when read; elsewhere (a sample's text) they are text.
NUMERIC_FIELDS = frozenset(
    {"loss", "grad_norm", "learning_rate", "value", "train_loss", "validation_loss", "tok_per_s", "eta_s"}
)
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_CHUNK_BYTES = 1 << 18
#: More than any end record has.
_LAST_RECORD_BYTES = 16_384


def encode(record: dict[str, Any]) -> bytes:
    """One record as one line, its end included."""
    text = json.dumps(jsonable(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def decode(line: bytes) -> dict[str, Any] | None:
    """A line as a record; None when it is not one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    for key in NUMERIC_FIELDS & record.keys():
        value = record[key]
        if isinstance(value, str):
            record[key] = _NOT_FINITE.get(value, value)
    return record


def has_ended(path: Path) -> bool:
    """Whether a log's last record is the end: its process may take a moment longer to leave."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_RECORD_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return False
    record = decode(lines[-1]) if lines else None
    return record is not None and record.get("kind") == "end"


class LineWriter:
    """Appends whole lines to a file that others read. Each line is one ``write`` call; threads take turns, so
    that a write that the disk takes in parts stays in one piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # a killed writer's half line ends here and is passed over

    @property
    def descriptor(self) -> int:
        """The open file, for whoever must know whether it is still the one at :attr:`path`."""
        return self._descriptor

    def append(self, record: dict[str, Any]) -> None:
        """Writes one record. Raises OSError (disk full, folder gone)."""
        self.append_line(encode(record))

    def append_line(self, data: bytes) -> None:
        """Writes one encoded line. Raises OSError (disk full, folder gone)."""
        with self._turn:
            while data:
                data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        os.close(self._descriptor)


class EventWriter(LineWriter):
    """The writer of ``events.jsonl``."""

    def write(self, event: Event) -> None:
        """Appends one event, with the present time where it has none. Raises OSError."""
        self.append_line(encode_event(event if event.t else replace(event, t=round(time.time(), 3))))


class EventTail:
    """Reads a growing log from where it stopped, bounded by count and by time.

    ``skipped`` counts lines that were no records. When the file has become shorter than what was read
    (another file took its place), reading begins anew and ``restarts`` grows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = 0
        self.restarts = 0
        self._offset = 0
        self._rest = b""
        self._lines: list[bytes] = []

    def read(self, max_records: int = 2_000, max_s: float = 0.02) -> list[dict[str, Any]]:
        """The next records, at most ``max_records`` and for about ``max_s`` seconds; [] when none."""
        deadline = time.monotonic() + max_s
        records: list[dict[str, Any]] = []
        while len(records) < max_records:
            if not self._lines and not self._fill():
                break
            while self._lines and len(records) < max_records:
                line = self._lines.pop()
                if not line.strip():
                    continue
                record = decode(line)
                if record is None:
                    self.skipped += 1
                else:
                    records.append(record)
                if time.monotonic() > deadline:
                    return records
        return records

    def read_all(self) -> list[dict[str, Any]]:
        """Everything there is now, for commands that have no screen to keep alive."""
        return self.read(max_records=1 << 62, max_s=math.inf)

    def _fill(self) -> bool:
        """Reads the next chunk into ``_lines`` (reversed, so that pop takes the oldest)."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset, self._rest = 0, b""
                    self.restarts += 1
                file.seek(self._offset)
                chunk = file.read(_CHUNK_BYTES)
        except OSError:
            return False
        if not chunk:
            return False
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._lines = lines[::-1]
        return True
