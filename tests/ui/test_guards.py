"""Lists that have options and no rows, which Textual alone fails over."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.widgets import OptionList

from tui_lab.ui import guards


class Unseen(App[None]):
    CSS = "OptionList { display: none; }"

    def compose(self) -> ComposeResult:
        yield OptionList("one", "two")


async def test_a_list_without_rows_takes_page_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Unseen()
    async with app.run_test() as pilot:
        options = app.query_one(OptionList)
        options.highlighted = 1
        options.action_page_down()
        options.action_page_up()
        assert options.highlighted == 1
        # the guard can go when this does not fail any more
        with monkeypatch.context() as without:
            without.setattr(OptionList, "_move_page", guards._move_page)
            with pytest.raises(KeyError):
                options.action_page_up()
        options.styles.display = "block"
        await pilot.pause()
        options.action_page_up()
        assert options.highlighted == 0
