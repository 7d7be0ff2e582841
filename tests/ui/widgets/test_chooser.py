"""The columns of a list at several widths."""

from __future__ import annotations

from textual.app import App, ComposeResult

from tests.ui.helpers import screen_text
from tui_lab.ui.terminal.themes import fallbacks
from tui_lab.ui.widgets.chooser import Chooser, ChooserItem, Column, fitted

COLUMNS = (
    Column("name", 30, least=16),
    Column("size", 8, right=True),
    Column("age", 9, optional=True),
    Column("rest"),
)


def test_columns_shrink_then_are_left_out() -> None:
    assert fitted(COLUMNS, 80) == [30, 8, 9, 0]
    assert fitted(COLUMNS, 45) == [26, 8, 9, 0]  # 2 + 30 + 8 + 9 is four too many
    assert fitted(COLUMNS, 30) == [16, 8, -1, 0]


class Host(App[None]):
    def compose(self) -> ComposeResult:
        yield Chooser(COLUMNS, "nothing", "other…")

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return fallbacks(self.current_theme)


async def test_a_long_name_keeps_its_end_and_numbers_stay_aligned() -> None:
    app = Host()
    items = [
        ChooserItem(
            "a", ("HuggingFaceTB/SmolLM2-135M-Inst", "135 M", "2 days", "x"), keys=("a", 135.0, 2.0, "x")
        ),
        ChooserItem("b", ("pocket", "4.2 M", "1 day", "y"), keys=("b", 4.2, 1.0, "y")),
    ]
    async with app.run_test(size=(32, 12)) as pilot:
        chooser = app.query_one(Chooser)
        chooser.set_items(items)
        await pilot.pause()
        text = screen_text(app)
        assert (
            "…lLM2-135M-Inst   135 M x" in text and "pocket            4.2 M y" in text and "days" not in text
        )
        chooser.sort(1)
        chooser.sort(1)
        await pilot.pause()
        assert [item.id for item in chooser.shown] == ["b", "a"]
        chooser.reverse()
        assert [item.id for item in chooser.shown] == ["a", "b"]
        await pilot.resize_terminal(80, 12)
        await pilot.pause()
        assert "HuggingFaceTB/SmolLM2-135M-I…" in screen_text(app) and "2 days" in screen_text(app)
