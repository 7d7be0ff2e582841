"""The settings screen: what it shows, what it writes, what goes before the file; other keys for actions."""

from __future__ import annotations

import os
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.ui.helpers import said, screen_text, until
from tui_lab.core import settings
from tui_lab.core.settings import Settings, load
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.change_setting import EFFECT, label
from tui_lab.ui.screens.settings import KeyMapScreen, PressKey, SettingsScreen


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUI_LAB_CURRENCY", "TUI_LAB_PRICE_PER_HOUR"):
        monkeypatch.setenv(name, "")  # changed in the lab: given back after the test


async def opened(pilot: Pilot[None], name: str = "theme") -> SettingsScreen:
    """The screen with its cursor on a setting."""
    app = pilot.app
    await until(lambda: app.pane)
    await pilot.pause()
    await pilot.press("comma")
    await until(lambda: isinstance(app.screen, SettingsScreen))
    screen = app.screen
    assert isinstance(screen, SettingsScreen)
    await pilot.press(*["down"] * list(settings.FIELDS).index(name))
    await until(lambda: screen.row_id == name)
    return screen


def written() -> Settings:
    return load({}, {}, settings.path()).settings


def line_of(app: Any, name: str) -> str:
    shown = label(name) if name in settings.FIELDS else name
    return next(line for line in screen_text(app).splitlines() if f" {shown} " in line)


async def test_every_setting_with_its_value_and_where_it_came_from() -> None:
    app = LabApp(
        settings=Settings(plots="block", currency="€"), sources={"plots": "file", "currency": "environment"}
    )
    async with app.run_test(size=(80, 30)) as pilot:
        await opened(pilot, "currency")
        text = screen_text(app)
        assert all(label(name) in text for name in settings.FIELDS) and "in the file: currency" in text
        assert "block" in line_of(app, "plots") and "file" in line_of(app, "plots")
        assert "€" in line_of(app, "currency") and "environment" in line_of(app, "currency")
        assert "default" in line_of(app, "mouse")
        assert settings.FIELDS["currency"].metadata["help"] in text
        assert "! TUI_LAB_CURRENCY goes before the file" in text
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)


async def test_a_choice_is_turned_written_and_in_force_at_once() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "plots")
        await pilot.press("right", "right")
        await until(lambda: app.marker == "block")
        assert written() == app.settings == Settings(plots="block")
        assert "file" in line_of(app, "plots") and said(app, "takes effect at once")
        await pilot.press("backspace")
        await until(lambda: app.marker == "braille")
        assert written() == Settings() and "default" in line_of(app, "plots")
        await pilot.press("down", "down", "down", "down", "enter")  # mouse is a switch
        await until(lambda: written() == Settings(mouse=False))
        assert said(app, "at the next start")


async def test_a_number_is_asked_for_until_it_fits() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "price_per_hour")
        await pilot.press("enter")
        await pilot.press(*"-2", "enter")
        await until(lambda: said(app, "must be a number of 0 or more"))
        assert not settings.path().exists()
        await pilot.press("backspace", "backspace", *"1.5", "enter")
        await until(lambda: settings.path().exists() and written().price_per_hour == 1.5)
        assert app.settings.price_per_hour == 1.5 and os.environ["TUI_LAB_PRICE_PER_HOUR"] == "1.5"


async def test_what_goes_before_the_file_is_said_when_it_is_changed() -> None:
    app = LabApp(settings=Settings(plots="block"), sources={"plots": "environment"})
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "plots")
        await pilot.press("right")
        await until(lambda: app.marker == "ascii")
        assert written() == Settings(plots="ascii")
        assert said(app, "TUI_LAB_PLOTS overrides the file")
        assert app.sources["plots"] == "environment"


async def test_a_file_that_cannot_be_read_changes_nothing() -> None:
    settings.path().parent.mkdir(parents=True)
    settings.path().write_text("theme = ")
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "plots")
        await pilot.press("right")
        await until(lambda: said(app, "is left as it is"))
        assert app.marker == "braille" and app.settings == Settings()
        assert settings.path().read_text() == "theme = "


async def keys_screen(pilot: Pilot[None], action_id: str) -> KeyMapScreen:
    await opened(pilot, "keys")
    await pilot.press("enter")
    await until(lambda: isinstance(pilot.app.screen, KeyMapScreen))
    screen = pilot.app.screen
    assert isinstance(screen, KeyMapScreen)
    screen.options.highlighted = screen.options.get_option_index(action_id)
    await pilot.pause()
    return screen


async def press_new_key(pilot: Pilot[None], how: str, key: str) -> None:
    await pilot.press(how)
    await until(lambda: isinstance(pilot.app.screen, PressKey))
    await pilot.press(key)
    await until(lambda: isinstance(pilot.app.screen, KeyMapScreen))


async def test_an_action_gets_another_key_which_works_at_once() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await keys_screen(pilot, "app.train")
        await press_new_key(pilot, "enter", "f18")
        await until(lambda: written().keys == {"app.train": "f18"})
        await press_new_key(pilot, "a", "comma")  # the settings' own key
        await until(lambda: said(app, "app.settings"))
        await press_new_key(pilot, "a", "f3")  # no longer this action's, and nobody else's
        await until(lambda: written().keys == {"app.train": "f18,f3"})
        await press_new_key(pilot, "a", "escape")
        assert written().keys == {"app.train": "f18,f3"}
        assert "F18 or F3" in line_of(app, "app.train")
        await pilot.press("escape", "escape")
        await until(lambda: len(app.screen_stack) == 1)
        await until(lambda: "F18 Train" in screen_text(app).splitlines()[0])
        await pilot.press("f18")
        await until(lambda: app.pane == "train")


async def test_keys_that_are_taken_are_refused_and_reset_gives_them_back() -> None:
    app = LabApp(settings=Settings(keys={"train.stop": "f18"}), sources={"keys": "file"})
    async with app.run_test(size=(80, 24)) as pilot:
        await keys_screen(pilot, "train.stop")
        await press_new_key(pilot, "enter", "space")
        await until(lambda: said(app, "train.pause"))
        await press_new_key(pilot, "enter", "tab")
        await until(lambda: said(app, "keeps its meaning"))
        assert app.settings.keys == {"train.stop": "f18"} and not settings.path().exists()
        await pilot.press("backspace")
        await until(lambda: not app.settings.keys and settings.path().exists())
        assert written() == Settings()


def test_each_setting_says_when_it_takes_effect() -> None:
    assert set(EFFECT) == set(settings.FIELDS)
