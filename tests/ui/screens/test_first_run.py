"""The cards of an empty lab: each one key, all in view at every size."""

from __future__ import annotations

import pytest

from tests.ui.helpers import screen_text, until
from tui_lab.runs.folder import Run
from tui_lab.ui.app import LabApp
from tui_lab.ui.open_screens import PLAY_DEMO
from tui_lab.ui.screens.ask_name import AskName
from tui_lab.ui.screens.first_run import STEPS, FirstRun
from tui_lab.ui.screens.setup import SetupPane


async def opened(app: LabApp) -> None:
    await until(lambda: "starts the run" in screen_text(app))
    app.action_open("first_run")
    await until(lambda: isinstance(app.screen, FirstRun) and app.focused is not None)


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40)])
async def test_all_cards_are_in_view_with_their_keys(size: tuple[int, int]) -> None:
    app = LabApp()
    async with app.run_test(size=size) as pilot:
        await opened(app)
        await pilot.pause()
        text = screen_text(app)
        for key, step in zip("dsm", STEPS, strict=True):
            assert f"{key} {step.title}" in text
            assert step.text.split()[-1] in text, step


async def test_one_key_tunes_the_bundled_model(started: list[Run]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app)
        await pilot.press("enter")  # the card that has the focus
        await until(lambda: app.pane == "train" and len(started) == 1)
        assert started[0].recipe().model == "pocket"


async def test_one_key_asks_for_a_model_then_for_data() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app)
        await pilot.press("m")
        await until(lambda: isinstance(app.screen, AskName))
        await pilot.press(*"pythia-70m", "enter")
        await until(lambda: isinstance(app.screen, AskName) and "Data:" in screen_text(app))
        await pilot.press(*"json", "enter")
        await until(lambda: isinstance(app.screen, SetupPane))
        assert isinstance(app.screen, SetupPane)
        assert (app.screen.values["model"], app.screen.values["data"]) == ("EleutherAI/pythia-70m", "json")


async def test_one_key_leaves_for_the_demo() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app)
        await pilot.press("left", "enter")
        await until(lambda: not app.is_running)
    assert app.return_code == PLAY_DEMO
