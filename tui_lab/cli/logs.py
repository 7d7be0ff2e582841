"""``tui-lab logs RUN``: what a run wrote, for terminals without the lab: the words of its process
(``worker.log``) and its events as sentences, both made safe to print.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tui_lab.cli.follow import LONGEST_TEXT, json_line
from tui_lab.cli.options import EXIT_OK
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import folder, wording
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.schema import Event
from tui_lab.runs.state import Watcher

POLL_S = 0.2
#: A process that writes without an end of line is cut here.
LONGEST_LINE = 4_000
_CHUNK_BYTES = 1 << 16


class WorkerLog:
    """Reads ``worker.log`` line by line as it grows; a last line without its end is "not yet" until
    :meth:`rest` is asked."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._rest = path, 0, b""

    def read(self) -> Iterator[str]:
        """The lines that came since the last call."""
        while True:
            try:
                with self._path.open("rb") as file:
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
        """What stands after the last end of line."""
        text, self._rest = self._rest.decode("utf-8", "replace"), b""
        return text


def sentence(event: Event) -> str:
    """An event as a line with its time; "" for kinds that have no words."""
    words = wording.line(event, LONGEST_TEXT)
    if not words:
        return ""
    try:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t)) if event.t else "?"
    except (ValueError, OverflowError, OSError):
        clock = "?"
    return f"{clock}  {words}"


def logs(args: argparse.Namespace) -> int:
    """``tui-lab logs``."""
    run = folder.open_run(args.name, args.runs_dir)
    watcher, worker = Watcher(run), WorkerLog(run.log_path)
    keep = args.lines or None
    said = deque(worker.read(), maxlen=keep)
    told: deque[str] = deque(_events(watcher, args.json), maxlen=keep)
    for line in said:
        _print_worker(line, args.json)
    for one in told:
        _print_event(one)
    if args.follow:
        _follow(run, watcher, worker, args.json)
    if rest := worker.rest().strip():
        _print_worker(rest, args.json)
    return EXIT_OK


def _events(watcher: Watcher, as_json: bool) -> Iterator[str]:
    for line in watcher.iter_lines():
        if text := json_line(json.loads(line.line)) if as_json else sentence(line.event):
            yield text


def _print_worker(line: str, as_json: bool) -> None:
    line = line[:LONGEST_LINE]
    print(json_line({"kind": "worker_log", "text": line}) if as_json else f"worker.log  {sanitize(line)}")


def _print_event(line: Any) -> None:
    print(line)


def _follow(run: Run, watcher: Watcher, worker: WorkerLog, as_json: bool) -> None:
    """Both as they grow, until the run's process is gone. Ctrl+C ends the following, not the run."""
    try:
        while True:
            alive = is_locked(run)  # looked at first: what was written before the end is still read
            for line in worker.read():
                _print_worker(line, as_json)
            for line in _events(watcher, as_json):
                _print_event(line)
            sys.stdout.flush()
            if not alive:
                return
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        print(f"left alone; `tui-lab watch {run.id}` follows it", file=sys.stderr)
