"""Plays a recorded run in the lab: advances it, gives its clock, and refuses what would change the run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.timer import Timer

from tui_lab.ui.terminal.types import AnyApp

if TYPE_CHECKING:
    from tui_lab.runs.folder import Run
    from tui_lab.runs.replay import Replay

#: Seconds between two portions of a replay.
TICK_S = 0.05


class ReplayPlayer:
    """The replay of an app, if it plays one."""

    def __init__(self, app: AnyApp, replay: Replay | None) -> None:
        self._app, self.replay = app, replay
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begins to play."""
        if self.replay is not None:
            self._timer = self._app.set_interval(TICK_S, self._advance)

    def _advance(self) -> None:
        replay = self.replay
        assert replay is not None and self._timer is not None
        problem = replay.problem
        replay.advance()
        if replay.ended:
            self._timer.stop()  # an idle lab uses no CPU time
        if replay.problem and not problem:
            self._app.notify(replay.problem, severity="error", markup=False)

    def of(self, run: Run | None) -> Replay | None:
        """The replay whose folder ``run`` is; None for a real run."""
        return self.replay if self.replay and run is not None and self.replay.is_of(run) else None


def now(replay: Replay | None) -> float:
    """The current time in seconds since 1970: that of the recording in a replay."""
    return replay.now() if replay else time.time()


def refusal(replay: Replay, advice: str) -> str:
    """Why something cannot be done with a replay, and what to do instead."""
    return f"This is a replay of {replay.original.id}, which it does not change: {advice}."
