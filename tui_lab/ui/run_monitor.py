"""Runs in progress: how many there are, the child processes of this lab, and the header line about them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from textual.timer import Timer

from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.lab import lab_of
from tui_lab.ui.terminal.textual_internals import keymap_of, write_sequences
from tui_lab.ui.terminal.types import AnyApp

if TYPE_CHECKING:
    from tui_lab.runs.folder import Run

#: The newest runs that may be in progress: older ones have ended.
RUNS_CHECKED = 30
#: Seconds between two updates of the header line.
ANNOUNCE_EVERY_S = 5.0
#: Seconds between two looks for runs that have ended.
NOTIFY_EVERY_S = 3.0


class RunMonitor:
    """The runs in progress, as an app sees them."""

    def __init__(self, app: AnyApp) -> None:
        self._app = app
        self._announced = ("", "")  # text of the header line while no pane shows a run
        self._timer: Timer | None = None
        self.children: list[subprocess.Popen[bytes]] = []
        self._in_progress: dict[Path, Run] = {}

    def live(self) -> int:
        """The number of runs in progress: those whose lock a process holds, whoever started them."""
        return len(self._runs_in_progress())

    def _runs_in_progress(self) -> list[Run]:
        from tui_lab.runs.events import has_ended
        from tui_lab.runs.folder import is_locked, list_runs

        self.children = [child for child in self.children if child.poll() is None]  # reaps those that ended
        newest = list_runs()[:RUNS_CHECKED]
        return [run for run in newest if is_locked(run) and not has_ended(run.events_path)]

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for a child process, so that it does not become a zombie."""
        self.children.append(process)

    def has_children(self) -> bool:
        """Whether a run that this lab started is in progress."""
        return any(child.poll() is None for child in self.children)

    def start_announcing(self) -> None:
        """Shows in the header line that runs are in progress, until a pane shows one or all have ended."""
        self._announce()
        if self._announced[0]:
            self._timer = self._app.set_interval(ANNOUNCE_EVERY_S, self._announce)

    def start_notifying(self) -> None:
        """Notifies the terminal when a run ends, if the settings ask for it."""
        from tui_lab.runs import notify

        if notify.terminal_wanted():
            self._notify_ended()
            self._app.set_interval(NOTIFY_EVERY_S, self._notify_ended)

    def _notify_ended(self) -> None:
        from tui_lab.runs import notify
        from tui_lab.runs.state import Watcher

        now = {run.path: run for run in self._runs_in_progress()}
        ended = [run for path, run in self._in_progress.items() if path not in now]
        self._in_progress = now
        for run in ended:
            watcher = Watcher(run)
            watcher.read_all()
            write_sequences(self._app, notify.terminal_sequences(notify.ended(watcher).text))

    def _announce(self) -> None:
        lab, live = lab_of(self._app), 0
        if lab.run_line == self._announced:  # otherwise a pane shows a run
            live = self.live()
            self._announced = (self._line(live), "running") if live else ("", "")
            lab.run_line = self._announced
        if not live and self._timer is not None:
            self._timer.stop()

    def _line(self, live: int) -> str:
        runs = "a run is" if live == 1 else f"{live} runs are"
        return f"{runs} in progress: {first_key('app.train', keymap_of(self._app))}"
