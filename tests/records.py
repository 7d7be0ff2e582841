"""Events for tests, written as their fields."""

from __future__ import annotations

from typing import Any

from tui_lab.runs.schema import Event, decode_event, encode_line


def event(kind: str, **fields: Any) -> Event:
    """The event that a log line with these fields is read as. Raises DamagedRecord."""
    return decode_event(encode_line({"kind": kind, **fields}))
