"""The three ways to begin: once, and only for users without files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ui.helpers import said, screen_text, until
from tui_lab.core import settings
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import create
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.first_run import FirstRun
from tui_lab.ui.screens.setup import SetupPane
from tui_lab.ui.views import welcome


async def start(again: bool) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.screen_stack and isinstance(app.screen_stack[0], SetupPane))
        if again:
            await until(lambda: "starts the run" in screen_text(app))
            assert isinstance(app.screen, SetupPane)
        else:
            await until(lambda: isinstance(app.screen, FirstRun))
            await pilot.press("escape")
            await until(lambda: isinstance(app.screen, SetupPane))


async def test_the_three_cards_are_shown_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUI_LAB_STATE_DIR", str(tmp_path / "new"))
    await start(again=False)
    await start(again=True)


@pytest.mark.parametrize("has", ["runs", "settings"])
def test_no_welcome_for_users_with_files(
    been_here: Path, has: str, tmp_path: Path, own_folders: Path
) -> None:
    been_here.unlink()
    if has == "runs":
        create(Recipe(preset="minute"))
    else:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "settings.toml").write_text('pane = "runs"\n')
    assert not welcome.is_due() and not been_here.exists()


async def test_unreadable_folders_are_reported_and_the_lab_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # a name that no disk takes fails as a folder does that a `sudo tui-lab` has made, for root as well
    for name in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"TUI_LAB_{name}_DIR", str(tmp_path / ("x" * 300)))
    app = LabApp(problems=settings.load().problems)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(lambda: said(app, "settings.toml cannot be read: File name too long"))
        await until(lambda: app.appearance.theme_names)
        await until(lambda: "minute" in screen_text(app))
        await pilot.press("comma")
        await until(lambda: "Settings" in screen_text(app))


async def test_many_problems_are_summarized() -> None:
    app = LabApp(problems=[f"'key{number}' is no setting; {'x' * 90}" for number in range(6)])
    async with app.run_test(size=(80, 24), notifications=True):
        await until(lambda: "and 4 more" in screen_text(app))
        assert "'key0'" in screen_text(app) and "'key1'" in screen_text(app), (
            "none is pushed out of the window"
        )
