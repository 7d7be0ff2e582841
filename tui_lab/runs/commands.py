"""What people ask of a run: lines that any watcher appends and the run acknowledges, once.

``commands.jsonl`` may have several writers (labs in several SSH sessions), each line one ``write`` in
append mode. The acknowledgement is an event with the command's id, so it holds across resumes.
"""

from __future__ import annotations

import contextlib
import secrets
import time

from tui_lab.core.errors import LabError
from tui_lab.runs.events import LineTail, LineWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import CommandRecord, DamagedRecord, decode_command, encode_command

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


def send(run: Run, name: str) -> str:
    """Asks a run to do something; returns the command's id. Raises LabError."""
    if name not in COMMANDS:
        raise LabError(f"command {name!r}: a run understands {', '.join(COMMANDS)}")
    command_id = secrets.token_hex(6)
    try:
        writer = LineWriter(run.commands_path)
        try:
            writer.append_line(encode_command(CommandRecord(command_id, name, time.time())))
        finally:
            writer.close()
    except OSError as error:
        raise LabError(f"run {run.id}: the command cannot be written ({error.strerror})") from None
    return command_id


class Inbox:
    """The run's side. ``done``: ids that an earlier attempt acknowledged already."""

    def __init__(self, run: Run, done: set[str]) -> None:
        self._tail = LineTail(run.commands_path)
        self._done = set(done)

    def poll(self, most: int = 2_000) -> list[CommandRecord]:
        """Commands that came since the last call, oldest first, at most ``most`` lines. Lines that are not
        valid commands are skipped."""
        found: list[CommandRecord] = []
        for _ in range(most):
            if (line := self._tail.next_line()) is None:
                break
            with contextlib.suppress(DamagedRecord):
                command = decode_command(line)
                if command.id not in self._done:
                    self._done.add(command.id)
                    found.append(command)
        return found
