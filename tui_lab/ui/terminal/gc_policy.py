"""Python's garbage collection, moved to pauses of the user. A full collection takes a tenth of a second in a
lab with several panes, and Python would start two of them within three seconds while lanes stream."""

from __future__ import annotations

import gc
import time

from tui_lab.ui.terminal.types import AnyApp

#: Thresholds of the three generations (see ``gc.set_threshold``); Python's own last one is 10.
THRESHOLDS = (700, 10, 100)
#: Collections of the second generation that make a full one worthwhile.
MIN_COLLECTIONS = 10
#: Seconds without input that count as a pause, and seconds between two checks.
PAUSE_S, CHECK_EVERY_S = 2.0, 5.0
#: Seconds after which a pane that is shown for the first time has loaded what it needs.
PANE_LOADED_S = 2.0


class Collector:
    """Schedules the garbage collection of an app. Does nothing when the app is headless, as in tests, where
    many apps share a process."""

    def __init__(self, app: AnyApp) -> None:
        self._app = app
        self._input_at = time.monotonic()

    def start(self) -> None:
        """Raises the thresholds and begins to look for pauses. The command that opens the lab has turned
        collections off: until the first frame nearly everything that is made stays."""
        if not self._app.is_headless:
            gc.enable()
            gc.set_threshold(*THRESHOLDS)
            self._app.set_interval(CHECK_EVERY_S, self._collect_in_pause)
            self.keep()

    def keep(self) -> None:
        """Exempts what the pane that is shown now loads from collections: it lives as long as the lab."""
        if not self._app.is_headless:
            self._app.set_timer(PANE_LOADED_S, gc.freeze)

    def input_arrived(self) -> None:
        """A key was pressed, or the mouse moved."""
        self._input_at = time.monotonic()

    def _collect_in_pause(self) -> None:
        if gc.get_count()[2] >= MIN_COLLECTIONS and time.monotonic() - self._input_at > PAUSE_S:
            gc.collect()
