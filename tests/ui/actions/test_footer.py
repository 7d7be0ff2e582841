"""The line of keys: it offers what is of use now, in the words for it, and holds no memory of keys that it
showed before."""

from __future__ import annotations

import gc
import tomllib
from pathlib import Path

from textual.widgets._footer import FooterKey

from tests.ui.helpers import screen_text, until
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import create
from tui_lab.ui.actions import footer
from tui_lab.ui.actions.registry import BY_ID, GROUPS, PANE_GROUPS, first_key
from tui_lab.ui.app import LabApp


def gone() -> list[FooterKey]:
    """Keys that stand on no screen any more and are still in memory."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, FooterKey) and not each.is_attached]


async def test_keys_of_screens_that_have_gone_are_forgotten() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        before = len(gone())
        for _ in range(4):
            await pilot.press("f1")
            await until(lambda: len(app.screen_stack) == 2)
            await pilot.press("escape")
            await until(lambda: len(app.screen_stack) == 1)
            await pilot.pause()
        assert len(gone()) - before < 20, "one round of keys may be on its way out"


def last_line(app: LabApp) -> str:
    return screen_text(app).rstrip().splitlines()[-1]


async def test_nothing_is_offered_that_has_no_use_now() -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "No runs yet" in screen_text(app) and "t Next part" in last_line(app))
        assert "Delete" not in last_line(app), "there is no run"
        await pilot.resize_terminal(80, 24)
        await until(lambda: "t Tab" in last_line(app))
        create(Recipe(preset="minute"))
        await until(lambda: "Delete" in last_line(app))
        assert "Queue" not in last_line(app), "it is empty"


async def test_a_key_that_leads_back_says_so() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("f1")
        await until(lambda: "w Tune at all?" in screen_text(app))
        await pilot.press("w")
        await until(lambda: "w All keys" in screen_text(app))
        await pilot.press("slash")
        await until(lambda: "w All keys" not in screen_text(app))


async def test_where_all_parts_are_in_view_the_key_of_tabs_goes_to_those_that_take_keys() -> None:
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "F2 Setup" in last_line(app))
        seen = []
        for _ in range(4):
            await pilot.press("t")
            assert app.focused is not None
            seen.append(next(each.id for each in app.focused.ancestors_with_self if each.has_class("part")))
        assert seen == ["next", "flips", "suites", "next"]


def test_every_situation_names_actions() -> None:
    table = tomllib.loads(Path(footer.__file__).with_name("footer.toml").read_text())
    assert table.keys() <= GROUPS.keys() and set(PANE_GROUPS) <= table.keys()
    for group, situations in table.items():
        for situation in situations:
            unknown = [each for each in footer.offered(group, situation) if each not in BY_ID]
            assert unknown == [], (group, situation)


def widest(group: str, situation: str) -> int:
    """Cells of the five first keys with their labels, and of the cheat sheet's."""
    first = footer.offered(group, situation)[: footer.MOST]
    return sum(len(f"{first_key(each)} {BY_ID[each].label} ") for each in (*first, "app.keys"))


def test_no_key_and_label_is_there_twice() -> None:
    table = tomllib.loads(Path(footer.__file__).with_name("footer.toml").read_text())
    for group, situations in table.items():
        for situation in situations:
            actions = [BY_ID[each] for each in (*footer.offered(group, situation), "app.keys")]
            labels = [each.label for each in actions]
            words = {word for each in actions if each.keys for word in (first_key(each.id), each.label)}
            assert len(set(labels)) == len(labels), (group, situation)
            assert len(words) == 2 * len([each for each in actions if each.keys]), (group, situation)


def test_what_matters_fits_a_small_window() -> None:
    table = tomllib.loads(Path(footer.__file__).with_name("footer.toml").read_text())
    wide = {(g, s): w for g, each in table.items() for s in each if (w := widest(g, s)) > 80}
    assert wide == {}


async def test_at_most_five_keys_and_none_is_cut() -> None:
    app = LabApp(pane="runs")
    create(Recipe(preset="minute"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "Enter Train" in last_line(app))
        assert " ".join(last_line(app).split()) == "Enter Train Space Mark / Filter > Sort Del Delete ? Keys"
        await pilot.press("space")
        await until(lambda: "Esc Clear" in last_line(app))
        await pilot.press("f4")
        await until(lambda: "Esc Lanes" in last_line(app))
        assert last_line(app).rstrip().endswith("F1 Help"), "? is text in the prompt"
