"""What every pane that follows a run does, whatever it draws of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.ui.helpers import until
from tui_lab.core.settings import Settings
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens import run_pane


async def test_what_lies_over_a_pane_without_a_run_leaves_one_timer_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(run_pane, "IDLE_POLL_S", 0.3)
    monkeypatch.setattr(run_pane, "list_runs", lambda: looks.append(1) or [])
    app = LabApp(settings=Settings(pane="train"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: looks)
        for _ in range(4):
            await pilot.press("question_mark", "question_mark")
        looks.clear()
        await asyncio.sleep(1.0)
        assert 1 <= len(looks) <= 4
