"""Every dialog with a list filters it: the same key, the best rows first, the row that is meant, Escape."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ui.helpers import screen_text, until
from tests.ui.sample_runs import make_run
from tests.ui.screens.test_predictions import ROWS, write
from tui_lab import ui
from tui_lab.playground.vote_rows import PreferenceRow, PreferenceVote
from tui_lab.retention.stored import JudgedPair, JudgeResult
from tui_lab.runs.folder import open_run
from tui_lab.ui.actions.help import HelpScreen
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import BY_ID, MODAL_GROUPS
from tui_lab.ui.actions.search_line import SearchLine
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.export import ExportScreen
from tui_lab.ui.screens.item_view import ItemView
from tui_lab.ui.screens.judged import JudgedPairs
from tui_lab.ui.screens.playground_options import PlaygroundOptions
from tui_lab.ui.screens.predictions import PredictionList
from tui_lab.ui.screens.settings import EditDialog, KeyMapScreen, PressKey, SettingsScreen
from tui_lab.ui.screens.theme_chooser import ThemeChooser
from tui_lab.ui.screens.votes import VoteTable
from tui_lab.ui.views.playground_settings import PlaygroundSettings
from tui_lab.ui.widgets.dialogs import AskText, Pick
from tui_lab.ui.widgets.run_list import RunList

AnyList = ListDialog[Any]
KEYS = ("enter", "tab", "down")


def vote(number: int, question: str) -> PreferenceVote:
    row = PreferenceRow(prompt=question, chosen="yes", rejected="no")
    return PreferenceVote(Path("votes.jsonl"), "s", number, False, -number, question, "yes", "no", row)


JUDGED = JudgeResult(
    pairs=2, items=[JudgedPair((turn,), ("a",), ("b",), 1.0) for turn in ("the sea", "a harbour")]
)
#: Each dialog, what is typed, and the row that then stands first.
LISTS: dict[str, tuple[Callable[[Path], AnyList], str, str]] = {
    "pick": (lambda _: Pick("Which?", [("one", "first"), ("two", ""), ("three", "")]), "tw", "1"),
    "votes": (lambda _: VoteTable([vote(0, "the sea"), vote(1, "a harbour")]), "harbour", "1"),
    "predictions": (lambda root: PredictionList(write(root / "p.jsonl", ROWS), None), "prompt 4", "2"),
    "judged": (lambda _: JudgedPairs(open_run("first"), JUDGED), "harbour", "1"),
    "themes": (lambda _: ThemeChooser(), "mono", "lab-mono"),
    "options": (lambda _: PlaygroundOptions(PlaygroundSettings(), print), "thinking", "thinking"),
    "settings": (lambda _: SettingsScreen(), "runs_dir", "runs_dir"),
    "remap": (lambda _: KeyMapScreen(), "votes.remove", "votes.remove"),
    "runs": (lambda _: RunList(""), "second", "second"),
    "help": (lambda _: HelpScreen("retention", "terms"), "mcnemar", "retention.mcnemar"),
    "export": (lambda _: ExportScreen(open_run("first")), "gguf", "gguf"),
}


async def test_the_arrows_move_no_list_that_is_not_in_view() -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        screen = HelpScreen("runs")
        await app.push_screen(screen)
        screen.show_page("terms")
        screen.show_page("keys")
        await screen.run_action("search")
        await until(lambda: screen.query_one(SearchLine).has_focus)
        await pilot.press("down", "down")
        await pilot.pause()
        assert not screen.query_one("#about").display


@pytest.fixture
def dialog(request: pytest.FixtureRequest, own_folders: Path) -> AnyList:
    for name in ("first", "second"):
        make_run(name=name)
    return LISTS[request.param][0](own_folders)


def test_every_list_dialog_has_the_key() -> None:
    modules = [
        importlib.import_module(each.name) for each in pkgutil.walk_packages(ui.__path__, "tui_lab.ui.")
    ]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    dialogs = {each for each in classes if issubclass(each, ListDialog)} - {ListDialog, EditDialog}
    assert len(dialogs) == len(LISTS)
    for each in dialogs:
        action = BY_ID["help.search" if each is HelpScreen else f"{each.GROUP}.filter"]
        assert each.GROUP in MODAL_GROUPS and action.keys == "slash"


@pytest.mark.parametrize(
    ("dialog", "typed", "row"), [(name, *LISTS[name][1:]) for name in LISTS], indirect=["dialog"]
)
async def test_the_filter_leaves_rows_and_escape_clears_it_first(
    dialog: AnyList, typed: str, row: str
) -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        await app.push_screen(dialog)
        await until(lambda: len(dialog.shown_ids) > 1)
        before = dialog.shown_ids
        if not isinstance(dialog, HelpScreen):
            assert "/ filters" in screen_text(app)
        await pilot.press("slash", *typed)
        await until(lambda: row in dialog.row_id and len(dialog.shown_ids) < len(before))
        assert app.focused is dialog.query_one(SearchLine)
        await pilot.press(*"zzz qq")
        await until(lambda: not dialog.shown_ids)
        await pilot.press("enter")  # there is nothing to take
        if app.focused is dialog.query_one(SearchLine):
            await pilot.press("tab")
        assert app.screen is dialog and app.focused is not dialog.query_one(SearchLine)
        await pilot.press("delete", "backspace", "right", "enter")
        assert app.screen is dialog
        await pilot.press("escape")
        await until(lambda: dialog.shown_ids == before)
        assert app.screen is dialog and not dialog.query_one(SearchLine).display
        await pilot.press("escape")
        await until(lambda: app.screen is not dialog)


async def test_the_choice_is_the_row_and_not_its_place() -> None:
    app, answers = LabApp(pane="runs"), list[object]()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        for keys, answer in ((("tree", "enter"), 2), (("t", "down", "enter"), 2), (("t", "tab", "enter"), 1)):
            app.push_screen(Pick("Which?", [("one", ""), ("two", ""), ("three", "")]), answers.append)
            await pilot.press("slash", *(key for each in keys for key in ([each] if each in KEYS else each)))
            await until(lambda answer=answer: answers[-1:] == [answer], what=str(keys))


async def test_letters_work_beside_the_filter_and_are_typed_in_it(own_folders: Path) -> None:
    make_run(name="first")
    app, table = (
        LabApp(pane="runs"),
        VoteTable([vote(n, text) for n, text in enumerate(("sea", "ship", "shore"))]),
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None)
        await app.push_screen(table)
        await pilot.press("slash", "s", "h", "w")
        assert table.query_one(SearchLine).value == "shw" and app.screen is table
        await pilot.press("backspace", "enter")
        await until(lambda: isinstance(app.screen, ItemView) and "1 of 2" in screen_text(app))
        await pilot.press("right")
        await until(lambda: "shore" in screen_text(app))
        await pilot.press("escape", "tab", "w")
        await until(lambda: isinstance(app.screen, AskText))
        await pilot.press("escape")
        keys = KeyMapScreen()
        await app.push_screen(keys)
        await pilot.press("slash", *"votes.remove", "tab", "a")
        await until(lambda: isinstance(app.screen, PressKey))
        await pilot.press("Z")
        await until(lambda: app.settings.keys == {"votes.remove": "delete,backspace,Z"})
        assert keys.row_id == "votes.remove" and "Z" in screen_text(app)
