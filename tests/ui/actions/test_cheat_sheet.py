"""The cheat sheet: the keys of what is in view and of the whole lab, whole at 80x24, and it closes."""

from __future__ import annotations

import pytest

from tests.ui.helpers import screen_text, until
from tui_lab.core.settings import Settings
from tui_lab.ui.actions.cheat_sheet import CheatSheet, columns, keys, sheet
from tui_lab.ui.actions.registry import ACTIONS, GROUPS, PANE_GROUPS
from tui_lab.ui.app import LabApp


@pytest.mark.parametrize("group", PANE_GROUPS)
@pytest.mark.parametrize("width", [56, 75, 115, 150])
def test_it_has_every_key_in_view_and_no_line_is_too_long(group: str, width: int) -> None:
    lines = sheet(group, {}, width).plain.split("\n")
    for action in ACTIONS:
        if action.group in (group, "app") and action.keys:
            assert any(keys(action.id, {}) in line and action.label in line for line in lines), action.id
    assert max(map(len, lines)) <= width
    others = set(GROUPS.values()) - {GROUPS[group], "Everywhere", GROUPS["form"]}
    assert not others & set(lines)


def test_at_80_columns_a_pane_fits_24_rows() -> None:
    heights = {pane: sheet(pane, {}, 75).plain.count("\n") + 1 for pane in PANE_GROUPS}
    assert max(heights.values()) <= 22, heights


def test_columns_run_downwards() -> None:
    cells = [(letter, "x" * 8) for letter in "abcdef"]
    assert [line.plain.split()[::2] for line in columns(cells, 24)] == [["a", "d"], ["b", "e"], ["c", "f"]]
    assert columns([], 25) == []


async def test_it_opens_closes_and_shows_the_users_keys() -> None:
    app = LabApp(settings=Settings(keys={"setup.start": "F13", "setup.ways": ""}))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("question_mark")
        await until(lambda: isinstance(app.screen, CheatSheet))
        await pilot.pause()
        text = screen_text(app)
        assert "F13" in text and "Ctrl+S" not in text
        assert "–" in text, "an action without a key is there, without one"
        await pilot.press("question_mark")
        await until(lambda: app.pane == "setup" and not isinstance(app.screen, CheatSheet))
