"""Runs in progress: how many there are, the child processes of this lab, and the header line about them."""

from __future__ import annotations

import subprocess

from textual.timer import Timer

from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.lab import lab_of
from tui_lab.ui.terminal.textual_internals import keymap_of
from tui_lab.ui.terminal.types import AnyApp

#: The newest runs that may be in progress: older ones have ended.
RUNS_CHECKED = 30
#: Seconds between two updates of the header line.
ANNOUNCE_EVERY_S = 5.0


class RunMonitor:
    """The runs in progress, as an app sees them."""

    def __init__(self, app: AnyApp) -> None:
        self._app = app
        self._announced = ("", "")  # text of the header line while no pane shows a run
        self._timer: Timer | None = None
        self.children: list[subprocess.Popen[bytes]] = []

    def live(self) -> int:
        """The number of runs in progress: those whose lock a process holds, whoever started them."""
        from tui_lab.runs.events import has_ended
        from tui_lab.runs.folder import is_locked, list_runs

        self.children = [child for child in self.children if child.poll() is None]  # reaps those that ended
        return sum(is_locked(run) and not has_ended(run.events_path) for run in list_runs()[:RUNS_CHECKED])

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
