"""The playground process of a lab: it starts with the first request and ends with the lab."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui_lab.core.time_left import SILENT_S, TICK_S, so_far
from tui_lab.ui.lab import lab_of
from tui_lab.ui.terminal.types import AnyApp

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui_lab.playground.client import PlaygroundClient
    from tui_lab.playground.messages import PlaygroundStatus


class PlaygroundProcess:
    """Owns the client of the playground process."""

    def __init__(self, app: AnyApp) -> None:
        self._app = app
        self.client: PlaygroundClient | None = None
        self._text, self._since = "", 0.0  # the newest progress, and from when on
        self._timer: Timer | None = None  # while the process starts or loads

    def get(self) -> PlaygroundClient:
        """The client, which is made for the first caller."""
        if self.client is None:
            from tui_lab.playground.client import PlaygroundClient

            self.client = PlaygroundClient(self.changed)
        return self.client

    def changed(self, status: PlaygroundStatus) -> None:
        """Shows the status of the process, and how long a stage of its start has taken."""
        waits = status.state in ("starting", "loading")
        if status.text != self._text or not waits:
            self._text, self._since = status.text, time.monotonic()
        if waits and self._timer is None:
            self._timer = self._app.set_interval(TICK_S, self._show_time)
        elif not waits and self._timer is not None:
            self._timer.stop()
            self._timer = None
        lab_of(self._app).playground_status = status

    def _show_time(self) -> None:
        from msgspec.structs import replace  # not needed by the first frame

        spent = time.monotonic() - self._since
        if self.client is not None and self._text and spent >= SILENT_S:
            lab_of(self._app).playground_status = replace(self.client.status, text=so_far(self._text, spent))

    def free_gpu(self) -> None:
        """Unloads the model if it is on a GPU, because a run starts; the next request loads it again."""
        if self.client is not None and self.client.status.device.startswith("cuda"):
            self._app.run_worker(self.client.unload(), group="playground", exit_on_error=False)

    async def close(self) -> None:
        """Ends the process."""
        if self.client is not None:
            await self.client.close()
