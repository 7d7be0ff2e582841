"""The status of the playground process, as the lab shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from tests.ui.helpers import until
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import PlaygroundStatus
from tui_lab.ui import playground_process
from tui_lab.ui.app import LabApp


async def test_a_stage_of_the_start_says_how_long_it_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground_process, "SILENT_S", 0.0)
    monkeypatch.setattr(playground_process, "TICK_S", 0.01)
    app = LabApp()
    async with app.run_test():
        process, shown = app.playground, lambda: cast("PlaygroundStatus", app.playground_status)
        loading = PlaygroundStatus("loading", "loading gemma …")
        process.client = cast("PlaygroundClient", SimpleNamespace(status=loading))
        process.changed(loading)
        await until(lambda: shown().text == "loading gemma, 0:00 so far")
        ready = PlaygroundStatus("ready", names=("base",))
        process.client.status = ready
        process.changed(ready)
        await app.workers.wait_for_complete()
        assert shown() == ready and process._timer is None
        process.client = None
