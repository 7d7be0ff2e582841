"""Keys that are pressed before a pane has what they act on wait for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.ui.helpers import keys_at_once, said, until
from tui_lab.ui import type_ahead
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


@pytest.mark.parametrize("name", LabApp.MODES)
async def test_keys_wait_for_what_they_act_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = LabApp(pane=name)
    acted: list[str] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.pane == name and isinstance(app.screen, Pane) and app.screen.is_ready)
        pane = app.screen
        pane.set_focus(None)
        ready, actions = False, [each for each in ACTIONS if each.group == name and keys_now(each.id)]
        monkeypatch.setattr(type(pane), "is_ready", property(lambda _: ready))
        monkeypatch.setattr(pane, "check_action", lambda *_: True)

        async def noted(action: object, node: object = None, *_: object) -> bool:
            acted.append(str(getattr(node, "GROUP", "")) + " " + str(action))
            return True

        monkeypatch.setattr(app, "run_action", noted)
        keys_at_once(app, *(keys_now(each.id)[0] for each in actions))
        await pilot.pause(0.05)
        assert acted == []
        ready = True
        await until(lambda: len(acted) == len(actions))
        assert acted == [f"{name} {each.action}" for each in actions], "each one, in order"


async def test_keys_of_the_whole_lab_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SetupPane, "is_ready", property(lambda _: False))
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        assert isinstance(app.screen, SetupPane)
        await pilot.press("6")
        await until(lambda: app.pane == "runs")


@pytest.mark.usefixtures("after_first_frame")
async def test_keys_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type_ahead, "LONGEST_READING_S", 0.05)
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        await until(lambda: said(app, "still being read"))


async def test_start_is_kept_until_setup_can_start(
    after_first_frame: list[Callback], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = LabApp()
    started: list[object] = []
    async with app.run_test(size=(80, 24)) as pilot:
        pane = app.screen
        assert isinstance(pane, SetupPane) and pane.is_mounted and not pane.is_filled
        monkeypatch.setattr(pane.starter, "start_without_question", lambda: started.append(pane.summary))
        await pilot.press("s")
        assert app.screen is pane and not pane.workers and not app._notifications
        for callback in after_first_frame:
            app.call_later(callback)
        await until(lambda: started)
        assert pane.summary is not None and pane.summary.recipe is not None and not app._notifications


@pytest.mark.parametrize("name", LabApp.MODES)
async def test_a_pane_that_opens_while_the_lab_ends_is_no_error(name: str) -> None:
    app = LabApp(pane="train" if name != "train" else "runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.switch_mode(name)
        app.exit()
