"""``tui-lab logs RUN``: what a run wrote, without the lab: the output of its process
(``worker.log``) and its events as sentences, both sanitized."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tui_lab.cli.follow import LONGEST_TEXT
from tui_lab.cli.options import EXIT_OK
from tui_lab.cli.output import Answer, note
from tui_lab.core import input_files
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import folder, wording
from tui_lab.runs.events import line_fields
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.schema import RunEvent
from tui_lab.runs.state import Watcher

POLL_S = 0.2
#: Lines without an end are cut here.
LONGEST_LINE = 4_000
_CHUNK_BYTES = 1 << 16
#: Of a longer log only the end is read.
_MOST_BYTES = 256 << 20


class WorkerLog:
    """Reads ``worker.log`` line by line as it grows; an unfinished last line is only returned by
    :meth:`rest`."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest = path, b""
        try:
            self._offset = max(0, path.stat().st_size - _MOST_BYTES)
        except OSError:
            self._offset = 0

    def read(self) -> Iterator[str]:
        """The new lines since the last call."""
        while True:
            try:
                with input_files.open_regular(self._path) as file:
                    file.seek(self._offset)
                    chunk = file.read(_CHUNK_BYTES)
            except OSError:
                return
            if not chunk:
                return
            self._offset += len(chunk)
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            if len(self._rest) > LONGEST_LINE:
                lines, self._rest = [*lines, self._rest], b""
            yield from (line.decode("utf-8", "replace") for line in lines)

    def rest(self) -> str:
        """The unfinished last line."""
        text, self._rest = self._rest.decode("utf-8", "replace"), b""
        return text


class WorkerLine(Answer, tag="worker_log", kw_only=True, frozen=True):
    """A line of a run's ``worker.log``, as it was written."""

    text: str


def sentence(event: RunEvent) -> str:
    """An event as a line with its time; "" for events without text."""
    text = wording.line(event, LONGEST_TEXT)
    if not text:
        return ""
    try:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t)) if event.t else "?"
    except (ValueError, OverflowError, OSError):
        clock = "?"
    return f"{clock}  {text}"


def logs(args: argparse.Namespace) -> int:
    """``tui-lab logs``."""
    run = folder.open_run(args.name, args.runs_dir)
    watcher, worker = Watcher(run), WorkerLog(run.log_path)
    limit = args.lines or None
    events = deque(_events(watcher, args.json), maxlen=limit)
    for line in deque(worker.read(), maxlen=limit):
        _print_worker(line, args.json)
    for event in events:
        print(event)
    if args.follow:
        _follow(run, watcher, worker, args.json)
    if rest := worker.rest().strip():
        _print_worker(rest, args.json)
    return EXIT_OK


def _events(watcher: Watcher, as_json: bool) -> Iterator[str]:
    for line in watcher.iter_lines():
        if text := to_json(line_fields(line)) if as_json else sentence(line.event):
            yield text


def _print_worker(line: str, as_json: bool) -> None:
    line = line[:LONGEST_LINE]
    print(to_json(WorkerLine(text=line)) if as_json else f"worker.log  {sanitize(line)}")


def _follow(run: Run, watcher: Watcher, worker: WorkerLog, as_json: bool) -> None:
    """Prints both as they grow, until the run's process has ended. Ctrl+C ends the command, not the run."""
    try:
        while True:
            alive = is_locked(run)  # checked first, so that everything written before the end is read
            for line in worker.read():
                _print_worker(line, as_json)
            for line in _events(watcher, as_json):
                print(line)
            sys.stdout.flush()
            if not alive:
                return
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        note(f"detached; `tui-lab watch {run.id}` follows it")
