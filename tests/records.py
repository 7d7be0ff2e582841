"""Events for tests, written as their fields."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tui_lab.forecast.jobs import MemoryProbeAnswer
from tui_lab.runs.event_lines import DamagedRecord, decode_event, encode_line
from tui_lab.runs.schema import RunEvent


def event(kind: str, **fields: Any) -> RunEvent:
    """The event that a log line with these fields is read as. Raises DamagedRecord."""
    return decode_event(encode_line({"kind": kind, **fields}))


def parse(records: Iterable[Mapping[str, Any]]) -> list[RunEvent]:
    """Lines with these fields as a reader takes them: damaged ones are skipped."""
    found = []
    for record in records:
        with contextlib.suppress(DamagedRecord):
            found.append(decode_event(encode_line(dict(record))))
    return found


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log as they are on disk."""
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if line.strip()]
    except FileNotFoundError:
        return []


def probe_answer(peak_bytes: int, seconds: float, phase: str) -> MemoryProbeAnswer:
    """The memory probe's answer, for tests that read its peak."""
    return MemoryProbeAnswer(peak_bytes, {phase: peak_bytes}, 0, 0, 0, 0, 0, 0, seconds, phase)
