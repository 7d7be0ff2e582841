"""The playground process of a lab: it starts with the first request and ends with the lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_lab.ui.lab import lab_of
from tui_lab.ui.terminal.types import AnyApp

if TYPE_CHECKING:
    from tui_lab.playground.client import PlaygroundClient
    from tui_lab.playground.messages import PlaygroundStatus


class PlaygroundProcess:
    """Owns the client of the playground process."""

    def __init__(self, app: AnyApp) -> None:
        self._app = app
        self.client: PlaygroundClient | None = None

    def get(self) -> PlaygroundClient:
        """The client, which is made for the first caller."""
        if self.client is None:
            from tui_lab.playground.client import PlaygroundClient

            self.client = PlaygroundClient(self.changed)
        return self.client

    def changed(self, status: PlaygroundStatus) -> None:
        """Shows the status of the process."""
        lab_of(self._app).playground_status = status

    def free_gpu(self) -> None:
        """Unloads the model if it is on a GPU, because a run starts; the next request loads it again."""
        if self.client is not None and self.client.status.device.startswith("cuda"):
            self._app.run_worker(self.client.unload(), group="playground", exit_on_error=False)

    async def close(self) -> None:
        """Ends the process."""
        if self.client is not None:
            await self.client.close()
