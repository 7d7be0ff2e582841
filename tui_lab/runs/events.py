"""The event log of a run: append-only JSON lines, written whole and read as they grow.

One writer, any number of readers. A record is one ``write`` of one line. A last line without its end is not
complete yet and is read later; a line that is not a valid record is skipped, and the tail says which one.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from tui_lab.core import input_files
from tui_lab.runs.event_lines import DamagedRecord, decode_event, encode_event, encode_line
from tui_lab.runs.schema import EndEvent, RunEvent

_CHUNK_BYTES = 1 << 18
#: Longer lines are not kept: they are damaged, or would take the memory and time of those who read them.
LONGEST_LINE_BYTES = 8 << 20
#: What is kept of such a line, to name it.
_KEPT_BYTES = 200
#: A line without an end beyond this is the end of the file.
_MOST_SKIPPED_BYTES = 256 << 20
#: Bytes of an unfinished line that one call reads.
_BYTES_A_CALL = 32 << 20
#: More than any end record has.
LAST_RECORD_BYTES = 16_384


class LogLine(NamedTuple):
    """One line of a log and the event that it holds."""

    line: bytes
    event: RunEvent


def line_fields(line: LogLine) -> Any:
    """The JSON object of a line as it was written. Of one with numbers of thousands of digits, which Python
    does not read: what the event has of it."""
    try:
        return input_files.parse_json(line.line)
    except ValueError:
        return json.loads(encode_event(line.event))


def last_event(path: Path) -> RunEvent | None:
    """The last event of a log, read from its last 16 KiB; None when there is none, or it is damaged."""
    try:
        with input_files.open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_RECORD_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    try:
        return decode_event(lines[-1]) if lines else None
    except DamagedRecord:
        return None


def has_ended(path: Path) -> bool:
    """Whether a log's last record is the end: its process may take a moment longer to exit."""
    return isinstance(last_event(path), EndEvent)


class EventLineWriter:
    """Appends whole lines to a file that others read. Each line is one ``write`` call; a lock between threads
    keeps a line in one piece where the disk takes it in parts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._descriptor = input_files.open_to_append(path)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # ends the half line of a killed writer, which is then skipped

    @property
    def descriptor(self) -> int:
        """The open file, to check whether it is still the one at :attr:`path`."""
        return self._descriptor

    def append(self, fields: dict[str, Any]) -> None:
        """Writes one JSON object. Raises OSError (disk full, folder gone)."""
        self.append_line(encode_line(fields))

    def append_line(self, data: bytes) -> None:
        """Writes one encoded line. Raises OSError (disk full, folder gone)."""
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


class EventWriter(EventLineWriter):
    """The writer of ``events.jsonl``."""

    def write(self, event: RunEvent) -> None:
        """Appends one event, with the present time where it has none. Raises OSError."""
        self.append_line(encode_event(event if event.t else replace(event, t=round(time.time(), 3))))


class LineTail:
    """Reads the lines of a growing file from where it stopped.

    When the file has become shorter than what was read (another file replaced it), reading begins anew and
    ``restarts`` grows. ``lines_read`` and ``line_end`` (bytes, the newest line included) count since then.
    ``at_end``: whether the newest read reached the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self.lines_read = 0
        self.line_end = 0
        self.at_end = False
        self._offset = 0
        self._partial: list[bytes] = []  # the pieces of a line without its end
        self._partial_bytes = 0
        self._skipped = 0  # bytes of it that are not kept
        self._lines: list[bytes] = []
        self._dropped: list[int] = []  # for each line the bytes that were not kept

    def next_line(self) -> bytes | None:
        """The next line without its end; None when there is no complete one, or it is so long that it needs
        another call (``at_end`` is then False). Of a line over ``LONGEST_LINE_BYTES`` the beginning is
        returned."""
        stop_at = self._offset + _BYTES_A_CALL
        self.at_end = False
        while not self._lines:
            if self._offset >= stop_at:
                return None
            if not self._fill():
                self.at_end = True
                return None
        self.lines_read += 1
        line = self._lines.pop()
        self.line_end += len(line) + self._dropped.pop() + 1
        return line

    @property
    def offset(self) -> int:
        """Bytes of the file that were read."""
        return self._offset

    def _fill(self) -> bool:
        """Reads the next chunk into ``_lines`` (reversed, so that pop takes the oldest); False at the end."""
        if self._skipped > _MOST_SKIPPED_BYTES:
            return False
        try:
            with input_files.open_regular(self.path) as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = self.lines_read = self.line_end = 0
                    self._take_partial()
                    self.restarts += 1
                file.seek(self._offset)
                chunk = file.read(_CHUNK_BYTES)
        except OSError:
            return False
        if not chunk:
            return False
        self._offset += len(chunk)
        first, *others = chunk.split(b"\n")
        self._add(first)
        if others:
            lines = [self._take_partial(), *((line, 0) for line in others[:-1])]
            self._lines = [line for line, _ in reversed(lines)]
            self._dropped = [dropped for _, dropped in reversed(lines)]
            self._add(others[-1])
        return True

    def _add(self, piece: bytes) -> None:
        """Adds to the unfinished line. Pieces are joined once: a line of many pieces would be copied for
        each."""
        self._partial.append(piece)
        self._partial_bytes += len(piece)
        if self._partial_bytes > LONGEST_LINE_BYTES:
            start = b"".join(self._partial)[:_KEPT_BYTES]
            self._skipped += self._partial_bytes - len(start)
            self._partial, self._partial_bytes = [start], len(start)

    def _take_partial(self) -> tuple[bytes, int]:
        """The unfinished line, and how many of its bytes were not kept."""
        line, skipped = b"".join(self._partial), self._skipped
        self._partial, self._partial_bytes, self._skipped = [], 0, 0
        return (line[:_KEPT_BYTES], skipped + max(0, len(line) - _KEPT_BYTES)) if skipped else (line, 0)


class EventTail(LineTail):
    """Reads the events of a growing log, bounded by count and by time. ``skipped`` counts lines that are not
    valid events; ``problem`` says in one sentence what is wrong with the newest of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.skipped = 0
        self.problem = ""

    def read_lines(self, max_records: int = 2_000, max_s: float = 0.02) -> list[LogLine]:
        """The next events with their lines, at most ``max_records`` and for about ``max_s`` seconds."""
        deadline = time.monotonic() + max_s
        found: list[LogLine] = []
        while len(found) < max_records and (line := self.next_line()) is not None:
            if line.strip():
                try:
                    found.append(LogLine(line, decode_event(line)))
                except DamagedRecord as error:
                    self.skipped += 1
                    self.problem = f"{self.path}, line {self.lines_read}: {error}"
            if time.monotonic() > deadline:
                break
        return found

    def read(self, max_records: int = 2_000, max_s: float = 0.02) -> list[RunEvent]:
        """The next events, at most ``max_records`` and for about ``max_s`` seconds; [] when there are
        none."""
        return [each.event for each in self.read_lines(max_records, max_s)]

    def read_all(self) -> list[RunEvent]:
        """All remaining events, for commands that have no screen to keep responsive."""
        found = self.read(max_records=1 << 62, max_s=math.inf)
        while not self.at_end:  # within a very long line
            found += self.read(max_records=1 << 62, max_s=math.inf)
        return found
