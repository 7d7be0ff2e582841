"""Commands to a run: any process appends them to ``commands.jsonl``, the run acknowledges each once.

The file may have several writers (labs in several SSH sessions); each line is one ``write`` in append mode.
The acknowledgement is an event with the command's id, so a resumed run does not execute it again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.records import from_json
from tui_lab.runs.event_lines import CommandRecord, encode_line
from tui_lab.runs.events import EventLineWriter, LineTail
from tui_lab.runs.folder import Run

#: Every command of a run, with its effect.
COMMANDS = {
    "pause": "pauses the run after the current step",
    "continue": "continues after a pause",
    "stop": "ends the run after the current step and saves the result",
    "skip": "skips the measurement in progress, before or after the training",
    "checkpoint": "saves a checkpoint after the current step",
    "probe": "measures retention and the distance from the base after the current step",
    "arm": "stops the run as soon as it has forgotten too much",
    "disarm": "lets the run continue although it forgets",
}


def send(run: Run, name: str) -> str:
    """Sends a command to a run; its id. Raises LabError."""
    if name not in COMMANDS:
        raise LabError(f"command {name!r}: a run understands {', '.join(COMMANDS)}")
    command_id = secrets.token_hex(6)
    try:
        writer = EventLineWriter(run.commands_path)
        try:
            fields = msgspec.to_builtins(CommandRecord(command_id, name, time.time()))
            writer.append_line(encode_line(fields))
        finally:
            writer.close()
    except OSError as error:
        raise LabError(f"run {run.id}: the command cannot be written ({error.strerror})") from None
    return command_id


def size(run: Run) -> int:
    """Bytes of the commands that were sent so far."""
    try:
        return run.commands_path.stat().st_size
    except OSError:
        return 0


def suspended_note(run: Run, pid: int | None) -> str:
    """What becomes of a command to a run whose process was suspended (SIGSTOP); "" where it was not, or the
    system does not say. ``pid``: the process that the run's log names."""
    try:
        folder = Path(f"/proc/{pid}")
        ours = os.fsencode(run.path) in (folder / "cmdline").read_bytes()
        state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return ""
    if not ours or state not in (b"T", b"t"):
        return ""
    return f"its process is suspended (SIGSTOP) and does it once it continues: `kill -CONT {pid}`"


class Inbox:
    """Reads the commands of a run. ``done``: ids that earlier attempts have acknowledged. ``late``: ids of
    commands within the first ``old_bytes`` of the file: they were meant for an attempt that died. (A place in
    the file says so and not a time: the clocks of two machines differ.)"""

    def __init__(self, run: Run, done: set[str], old_bytes: int = 0) -> None:
        self._tail = LineTail(run.commands_path)
        self._done = set(done)
        self._old_bytes = old_bytes
        self.late: set[str] = set()

    def poll(self, most: int = 2_000) -> list[CommandRecord]:
        """Commands since the last call, oldest first, at most ``most`` lines. Lines that are not valid
        commands are skipped."""
        found: list[CommandRecord] = []
        for _ in range(most):
            if (line := self._tail.next_line()) is None:
                break
            with contextlib.suppress(LabError):
                command = from_json(line, CommandRecord, "a command")
                if command.id not in self._done:
                    self._done.add(command.id)
                    if self._tail.line_end <= self._old_bytes:
                        self.late.add(command.id)
                    found.append(command)
        return found
