"""Every dialog lies inside the smallest window, takes the focus, and gives it back when Escape closes it.
The key of a pane closes it, unless something unsaved would be lost."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable

import pytest
from textual.widgets import Input

import tui_lab.ui
from tests.ui.helpers import said, until
from tui_lab.ui.actions.cheat_sheet import CheatSheet
from tui_lab.ui.actions.help import HelpScreen
from tui_lab.ui.actions.modal import Dialog, Modal
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.doctor import DoctorScreen
from tui_lab.ui.screens.pick_model import PickModel
from tui_lab.ui.screens.playground_options import PlaygroundOptions
from tui_lab.ui.screens.settings import KeyMapScreen, PressKey, SettingsScreen
from tui_lab.ui.screens.theme_chooser import ThemeChooser
from tui_lab.ui.views.playground_settings import PlaygroundSettings
from tui_lab.ui.widgets.dialogs import AskText, Confirm, Pick, RemedyDialog
from tui_lab.ui.widgets.run_list import RunList

LONG = "a sentence without end " * 60
DIALOGS: tuple[Callable[[], Dialog[object]], ...] = (
    lambda: Confirm(LONG),
    lambda: AskText(LONG, LONG),
    lambda: Pick(LONG, [(f"{number} {LONG}", LONG) for number in range(90)], 80),
    lambda: RemedyDialog(LONG, None, start=True),
    lambda: RunList(""),
    lambda: PickModel("pocket"),
    SettingsScreen,
    KeyMapScreen,
    lambda: PressKey(LONG),
    ThemeChooser,
    lambda: HelpScreen("runs"),
    lambda: HelpScreen("runs", "terms"),
    lambda: HelpScreen("runs", "whether"),
    lambda: CheatSheet("runs"),
)


async def test_dialogs_fit_the_window_and_give_the_focus_back() -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(60, 18)) as pilot:
        await until(lambda: app.focused is not None)
        pane, focused = app.screen, app.focused
        for make in DIALOGS:
            dialog = make()
            await app.push_screen(dialog)
            await until(lambda dialog=dialog: dialog.query_one(".dialog").size)
            box = dialog.query_one(".dialog")
            await pilot.pause()
            assert app.screen.region.contains_region(box.region), dialog
            assert app.focused is None or app.focused in dialog.walk_children()
            await pilot.press("escape")
            await until(lambda: app.screen is pane, what=str(dialog))
            assert app.focused is focused, dialog


async def test_the_key_of_a_pane_closes_every_dialog_without_an_answer() -> None:
    app = LabApp(pane="runs")
    answers: list[object] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        for number, make in enumerate(DIALOGS):
            dialog = make()
            if isinstance(dialog, PressKey):
                continue  # the key itself is wanted
            key, pane = ("f3", "train") if number % 2 else ("f6", "runs")
            await app.push_screen(dialog, answers.append)
            await pilot.press(key)
            await until(lambda pane=pane: app.pane == pane and len(app.screen_stack) == 1, what=str(dialog))
        await until(lambda: len(answers) == len(DIALOGS) - 1)
        assert [each for each in answers if each not in (None, False, "", -1, -2)] == []


@pytest.mark.parametrize(
    "make", [lambda: CheatSheet("runs"), lambda: HelpScreen("runs"), SettingsScreen, DoctorScreen]
)
async def test_digits_and_other_screens_work_from_what_only_shows_something(
    make: Callable[[], Dialog[None]],
) -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        await app.push_screen(make())
        await app.push_screen(CheatSheet("runs"))
        await pilot.press("5")
        await until(lambda: app.pane == "retention" and len(app.screen_stack) == 1)
        await app.push_screen(make())
        await pilot.press("f9")
        await until(lambda: isinstance(app.screen, ThemeChooser))


async def test_what_was_typed_is_not_lost_to_the_key_of_a_pane() -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        await app.push_screen(AskText("A name", "old"))
        app.screen.query_one(Input).value = "new"
        await pilot.press("f3")
        await until(lambda: said(app, "What you typed is not saved: Enter accepts it, Esc drops it."))
        assert app.pane == "runs" and isinstance(app.screen, AskText)
        await pilot.press("f9")
        await until(lambda: app.pane == "runs" and isinstance(app.screen, AskText))
        await pilot.press("escape", "f3")
        await until(lambda: app.pane == "train")


async def test_digits_are_typed_into_the_search_of_the_help() -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        await pilot.press("f1", "slash", "3")
        await until(lambda: app.screen.query_one(Input).value == "3")
        assert app.pane == "runs" and isinstance(app.screen, HelpScreen)


def test_every_dialog_with_a_line_of_text_says_when_it_is_not_saved() -> None:
    for module in pkgutil.walk_packages(tui_lab.ui.__path__, "tui_lab.ui."):
        for name, each in vars(importlib.import_module(module.name)).items():
            if isinstance(each, type) and issubclass(each, Modal) and each.__module__ == module.name:
                has_text = re.search(r"\bInput\(", inspect.getsource(each))
                assert not has_text or "unsaved" in vars(each), name


async def test_a_value_that_is_edited_in_the_options_of_the_playground_is_not_lost() -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        await app.push_screen(PlaygroundOptions(PlaygroundSettings(), lambda _settings: None, at="system"))
        await until(lambda: isinstance(app.focused, Input))
        await pilot.press("x", "f3")
        await until(lambda: said(app, "What you typed is not saved"))
        assert app.pane == "runs"
        await pilot.press("enter", "f3")
        await until(lambda: app.pane == "train")
