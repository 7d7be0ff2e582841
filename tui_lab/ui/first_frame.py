"""Delays slow work until the first pane has been drawn."""

from __future__ import annotations

from collections.abc import Callable

from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.terminal.textual_internals import is_batching
from tui_lab.ui.terminal.types import AnyApp

#: Seconds that the thread which writes to the terminal gets before slow work begins.
FLUSH_S = 0.01


class FirstFrame:
    """Knows whether a pane has been drawn. (``call_after_refresh`` calls back before the first drawing.)"""

    def __init__(self, app: AnyApp) -> None:
        self._app = app
        self._waiting: list[Callable[[], object]] = []
        self.drawn = False

    def call_after(self, callback: Callable[[], object]) -> None:
        """Calls back once a pane has been drawn."""
        if self.drawn:
            self._app.call_later(callback)
        else:
            self._waiting.append(callback)

    def displayed(self) -> None:
        """Something has been drawn."""
        app = self._app
        # while a batch is open, as when a pane is mounted, nothing has been written yet
        if self.drawn or is_batching(app) or not isinstance(app.screen, Pane) or not app.screen.is_laid_out:
            return
        self.drawn = True
        for callback in self._waiting:
            app.set_timer(FLUSH_S, callback)
        self._waiting.clear()
