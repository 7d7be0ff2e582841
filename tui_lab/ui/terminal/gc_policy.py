"""Python's garbage collection, moved to pauses of the user. A full collection takes a tenth of a second in a
lab with several panes, and Python would start two of them within three seconds while lanes stream."""

from __future__ import annotations

import gc
import time

from tui_lab.ui.terminal.types import AnyApp

#: After how many new objects, and how many passes over the younger ones, Python looks for garbage by itself.
#: Its own last figure is 10.
COLLECT_AFTER = (700, 10, 100)
#: Passes over the younger objects that make looking through all worth while in a pause; seconds without a key
#: that are a pause; seconds between two looks for one.
WORTH_WHILE, PAUSE_S, LOOK_EVERY_S = 10, 2.0, 5.0
#: Seconds after which a pane that was shown for the first time has what it needs.
PANE_LOADED_S = 2.0


class Collector:
    """Cares for the garbage of an app that has the process for itself: not of those in tests, where many labs
    come and go in one process."""

    def __init__(self, app: AnyApp) -> None:
        self._app = app
        self._key_at = time.monotonic()

    def start(self) -> None:
        """From now on."""
        if not self._app.is_headless:
            gc.set_threshold(*COLLECT_AFTER)
            self._app.set_interval(LOOK_EVERY_S, self._look)
            self.keep()

    def keep(self) -> None:
        """What the pane that comes now has loaded stays until the lab ends: no need to look at it again."""
        if not self._app.is_headless:
            self._app.set_timer(PANE_LOADED_S, gc.freeze)

    def input_arrived(self) -> None:
        """A key was pressed, or the mouse moved."""
        self._key_at = time.monotonic()

    def _look(self) -> None:
        if gc.get_count()[2] >= WORTH_WHILE and time.monotonic() - self._key_at > PAUSE_S:
            gc.collect()
