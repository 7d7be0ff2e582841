"""The table of runs: the cursor stays on its run, and only visible rows are drawn."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult

from tests.ui.helpers import screen_text, until
from tui_lab.runs.index import RunSummary
from tui_lab.ui.views import runs_table
from tui_lab.ui.widgets import run_table
from tui_lab.ui.widgets.run_table import RunTable, TableHead


def runs(count: int) -> list[RunSummary]:
    return [
        RunSummary(id=f"20260101-{n // 60:02}{n % 60:02}00-a-{n:04}", path="/nowhere", model=f"model{n}")
        for n in range(count)
    ]


class TableApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.sorted_by: list[str] = []

    def compose(self) -> ComposeResult:
        yield TableHead()
        yield RunTable()

    def on_run_table_opened(self, event: RunTable.Opened) -> None:
        self.opened.append(event.run.id)

    def on_table_head_clicked(self, event: TableHead.Clicked) -> None:
        self.sorted_by.append(event.column)


async def test_moving_and_scrolling_draw_only_visible_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    row = runs_table.row

    def counted(run: RunSummary, columns: Any, ascii_only: bool) -> Any:
        drawn.append(run.id)
        return row(run, columns, ascii_only)

    monkeypatch.setattr(run_table, "row", counted)
    app = TableApp()
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one(RunTable)
        table.focus()
        every = runs(1_000)
        table.show(every, {every[3].id: ("A", "run-1")}, "")
        await until(lambda: "model0" in screen_text(app))
        assert "A " in screen_text(app).splitlines()[4]
        assert len(set(drawn)) <= 24, "a thousand runs cost what a screenful does"
        await pilot.press("end")
        await until(lambda: "model999" in screen_text(app))
        assert table.current == every[-1]
        await pilot.press("pageup", "up")
        assert table.cursor < 980
        await pilot.press("home")
        await until(lambda: table.cursor == 0 and "model0" in screen_text(app))
        assert len(set(drawn)) < 150


async def test_the_cursor_stays_on_its_run() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one(RunTable)
        table.focus()
        every = runs(5)
        table.show(every, {}, "")
        await pilot.press("down", "down")
        table.show(every[::-1], {}, "")
        assert table.current == every[2]
        table.show([run for run in every if run != every[2]], {}, "")
        assert table.current is not None and table.cursor == 2
        table.show([], {}, "nothing here")
        assert table.current is None
        await pilot.press("down", "pagedown", "home")
        await until(lambda: "nothing here" in screen_text(app))


async def test_the_mouse() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one(RunTable)
        every = runs(5)
        table.show(every, {}, "")
        await pilot.click(RunTable, offset=(10, 3))
        assert table.current == every[3]
        await pilot.click(RunTable, offset=(10, 3), times=2)
        await until(lambda: app.opened == [every[3].id])
        await pilot.click(TableHead, offset=(20, 0))
        await until(lambda: app.sorted_by == ["model"])


def in_view(table: RunTable) -> bool:
    return table.scroll_offset.y <= table.cursor < table.scroll_offset.y + table.size.height


async def test_the_cursor_stays_in_view_where_its_run_moves() -> None:
    app = TableApp()
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.query_one(RunTable)
        every = runs(100)
        table.show(every, {}, "")
        await pilot.pause()
        table.show(list(reversed(every)), {}, "")  # sorted the other way
        assert table.cursor == 99
        await until(lambda: in_view(table))
        table.scroll_to(y=0, animate=False)  # with the wheel: the reader looks elsewhere
        table.show(every[1:], {}, "")
        await pilot.pause(0.1)
        assert table.scroll_offset.y == 0
