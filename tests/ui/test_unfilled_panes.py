"""Keys that are pressed before a pane has its parts do nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.ui.helpers import screen_text, until
from tui_lab.ui.actions.registry import ACTIONS, keys_now
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.setup import SetupPane

Callback = Callable[[], object]


@pytest.fixture
def after_first_frame(monkeypatch: pytest.MonkeyPatch) -> list[Callback]:
    """What panes do after the first frame, which the test calls itself."""
    callbacks: list[Callback] = []
    monkeypatch.setattr(LabApp, "after_first_frame", lambda _, callback: callbacks.append(callback))
    return callbacks


async def test_no_action_of_a_pane_runs_before_it_is_mounted(after_first_frame: list[Callback]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)):
        first = app.screen
        for name, make in LabApp.MODES.items():
            assert callable(make)
            pane = make()
            actions = [each.action for each in ACTIONS if each.group == name]
            assert isinstance(pane, Pane) and not pane.is_filled and actions
            for action in actions:
                assert await app.run_action(action, pane), action  # would fail: nothing can be found in it
        assert app.screen is first and not first.workers and not app._notifications


async def test_keys_of_setup_wait_for_its_parts(after_first_frame: list[Callback]) -> None:
    app = LabApp(pane="setup")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = app.screen
        assert isinstance(pane, SetupPane) and pane.is_mounted and not pane.is_filled
        await pilot.press(*(key for each in ACTIONS if each.group == "setup" for key in keys_now(each.id)))
        assert app.screen is pane and not pane.workers and not app._notifications
        for callback in after_first_frame:
            app.call_later(callback)
        await until(lambda: pane.is_filled and "starts the run" in screen_text(app))
        await pilot.press("h")
        await until(lambda: pane.focused is not None and pane.focused.id == "rows")
