"""What people ask of a run: lines that any watcher appends and the run acknowledges, once.

``commands.jsonl`` may have several writers (labs in several SSH sessions), each line one ``write`` in
append mode. The acknowledgement is an event with the command's id, so it holds across resumes.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.runs.events import EventTail, LineWriter
from tui_lab.runs.folder import Run

#: Every command that a run understands, with what it does.
COMMANDS = {
    "pause": "holds the run after the step in hand",
    "continue": "goes on after a pause",
    "stop": "ends the run after the step in hand and saves what was learned",
    "checkpoint": "saves a checkpoint after the step in hand",
    "probe": "measures retention and the distance from the base after the step in hand",
    "arm": "stops the run once retention is surely lost",
    "disarm": "lets the run go on whatever retention does",
}


@dataclass(frozen=True)
class Command:
    id: str
    name: str
    sent_at: float


def send(run: Run, name: str) -> str:
    """Asks a run to do something; returns the command's id. Raises LabError."""
    if name not in COMMANDS:
        raise LabError(f"command {name!r}: a run understands {', '.join(COMMANDS)}")
    command_id = secrets.token_hex(6)
    try:
        writer = LineWriter(run.commands_path)
        try:
            writer.append({"id": command_id, "name": name, "t": time.time()})
        finally:
            writer.close()
    except OSError as error:
        raise LabError(f"run {run.id}: the command cannot be written ({error.strerror})") from None
    return command_id


class Inbox:
    """The run's side. ``done``: ids that an earlier attempt acknowledged already."""

    def __init__(self, run: Run, done: set[str]) -> None:
        self._tail = EventTail(run.commands_path)
        self._done = set(done)

    def poll(self) -> list[Command]:
        """Commands that came since the last call, oldest first. Lines that are none are passed over."""
        return [command for record in self._tail.read() if (command := self._command(record))]

    def _command(self, record: dict[str, Any]) -> Command | None:
        command_id, name, sent_at = record.get("id"), record.get("name"), record.get("t")
        if not isinstance(command_id, str) or command_id in self._done or not isinstance(name, str):
            return None
        self._done.add(command_id)
        return Command(command_id, name, float(sent_at) if isinstance(sent_at, int | float) else 0.0)
