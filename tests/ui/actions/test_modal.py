"""Every dialog lies inside the smallest window, takes the focus, and gives it back when Escape closes it."""

from __future__ import annotations

from collections.abc import Callable

from tests.ui.helpers import until
from tui_lab.ui.actions.cheat_sheet import CheatSheet
from tui_lab.ui.actions.help import HelpScreen
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.pick_model import PickModel
from tui_lab.ui.screens.settings import KeyMapScreen, PressKey, SettingsScreen
from tui_lab.ui.screens.theme_chooser import ThemeChooser
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
