"""Jump mode: a letter for every place in view, none over another, and typing one goes there."""

from __future__ import annotations

from tests.ui.helpers import screen_text, until
from tui_lab.core.settings import Settings
from tui_lab.ui.actions.jump import LABEL_ROOM, LETTERS, Jump, labels, places
from tui_lab.ui.actions.registry import PANE_GROUPS
from tui_lab.ui.app import LabApp
from tui_lab.ui.widgets.tab_bar import TabBar


def test_labels_are_short_different_and_no_beginning_of_another() -> None:
    for count in (0, 1, 26, 27, 200):
        made = labels(count)
        assert len(made) == len(set(made)) == count
        assert not any(a != b and b.startswith(a) for a in made for b in made)
    assert labels(26) == list(LETTERS)


async def test_every_place_is_in_view_and_has_cells_of_its_own() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        for pane in PANE_GROUPS:
            await app.run_action(f"pane('{pane}')")
            await until(lambda pane=pane: app.pane == pane and app.screen.is_current)
            await pilot.pause()
            found = places(app.screen)
            assert len(found) >= 6, "the panes at least"
            cells = [(place.y, place.x + by) for place in found for by in range(LABEL_ROOM)]
            assert len(cells) == len(set(cells)), pane
            assert all(0 <= x < 80 and 0 <= y < 24 for y, x in cells), pane


async def test_it_goes_to_a_tab_and_to_a_pane_also_from_a_text() -> None:
    app = LabApp(settings=Settings(pane="playground"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.focused is not None and app.focused.id == "prompt")
        before = app.focused.text  # type: ignore[union-attr]
        await pilot.press("ctrl+o")
        await until(lambda: isinstance(app.screen, Jump))
        letter = next(name for name, place in app.screen.found.items() if place.y == 0 and place.x > 5)  # type: ignore[attr-defined]
        place = app.screen.found[letter]  # type: ignore[attr-defined]
        await until(lambda: screen_text(app).splitlines()[0][place.x] == letter)
        await pilot.press(letter)
        await until(lambda: app.pane == "train")
        assert before == app._screen_stacks["playground"][0].query_one("#prompt").text  # type: ignore[attr-defined]
        await pilot.press("ctrl+o")
        await until(lambda: isinstance(app.screen, Jump))
        tabs = app._screen_stacks["train"][0].query_one(TabBar)
        last = [name for name, place in app.screen.found.items() if place.y == tabs.region.y][-1]  # type: ignore[attr-defined]
        await pilot.press(last)
        await until(lambda: tabs.active == "about")


async def test_escape_leaves_and_a_wrong_letter_does_nothing() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await until(lambda: app.focused is not None)
        focused = app.focused
        await pilot.press("ctrl+o", "1")
        await until(lambda: isinstance(app.screen, Jump))
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Jump))
        assert app.focused is focused and app.pane == "setup"
