"""The table of runs. It draws only the rows on the screen, so that its cost does not grow with the number of
runs."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui_lab.runs.index import RunSummary
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.terminal.themes import role_style
from tui_lab.ui.views.runs_table import COLUMNS, MARK_CELLS, RunColumn, columns_for, fitted_columns, head, row

#: Cells of the scrollbar. They are always reserved, so that columns do not move.
SCROLLBAR = 1


class TableHead(Widget):
    """The column titles. A click sorts by a column."""

    DEFAULT_CSS = "TableHead { height: 1; width: 100%; color: $text-muted; text-style: bold; }"

    class Clicked(Message):
        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sorted_by, self.descending = "started", True
        self.columns = COLUMNS

    def show(self, sorted_by: str, descending: bool, columns: tuple[RunColumn, ...] = COLUMNS) -> None:
        """Sets the columns, and the one that the table is sorted by."""
        self.sorted_by, self.descending, self.columns = sorted_by, descending, columns
        self.refresh()

    def _fitted(self) -> tuple[tuple[RunColumn, int], ...]:
        return fitted_columns(self.size.width - SCROLLBAR, self.columns)

    def render(self) -> Content:
        return Content(head(self._fitted(), self.sorted_by, self.descending))

    def on_click(self, event: events.Click) -> None:
        x = MARK_CELLS
        for column, width in self._fitted():
            if x <= event.x < x + width:
                self.post_message(self.Clicked(column.id))
            x += width + 1


class RunTable(ScrollView, can_focus=True):
    """One line per run, with a cursor and letters on the marked runs."""

    DEFAULT_CSS = """
    RunTable {
        height: 1fr; width: 100%; background: $background; overflow-x: hidden; scrollbar-size-vertical: 1;
    }
    RunTable .run-table--cursor {
        color: $block-cursor-foreground; background: $block-cursor-background;
        text-style: $block-cursor-text-style;
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"run-table--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1000000000)", show=False),
        Binding("end", "move(1000000000)", show=False),
    ]

    class Moved(Message):
        """The cursor moved, or the run under it changed."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, RunTable.Moved)

    class Opened(Message):
        def __init__(self, run: RunSummary) -> None:
            super().__init__()
            self.run = run

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runs: Sequence[RunSummary] = ()
        self.cursor = 0
        self.letters: Mapping[str, tuple[str, str]] = {}  # by run id: (letter, role)
        self.empty = ""
        self.columns = COLUMNS

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.runs[self.cursor] if self.runs else None

    def show(self, runs: Sequence[RunSummary], letters: Mapping[str, tuple[str, str]], empty: str) -> None:
        """Shows these runs. The cursor stays on its run if that is still listed."""
        at, row_before, in_view = self.current.id if self.current else "", self.cursor, self._cursor_in_view()
        before = (self.runs, self.letters, self.empty)
        self.runs, self.letters, self.empty = runs, dict(letters), empty
        if runs != before[0]:
            self.columns = columns_for(runs)
        found = self._index(at)
        self.cursor = min(self.cursor, max(0, len(runs) - 1)) if found is None else found
        self.virtual_size = Size(1, len(runs))  # rows are drawn for the current width
        if (runs, self.letters, empty) != before:
            self.refresh()
            self.post_message(self.Moved())
        if in_view and self.cursor != row_before:
            call_after_layout(self, self._scroll_to_cursor)

    def _cursor_in_view(self) -> bool:
        return self.scroll_offset.y <= self.cursor < self.scroll_offset.y + self.size.height

    def go_to(self, run_id: str) -> None:
        """Moves the cursor to a run."""
        if (found := self._index(run_id)) is not None:
            self._move_cursor(found)

    def _index(self, run_id: str) -> int | None:
        return next((i for i, run in enumerate(self.runs) if run.id == run_id), None)

    def action_move(self, by: int) -> None:
        self._move_cursor(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._move_cursor(self.cursor + by * max(1, self.size.height - 1))

    def _move_cursor(self, cursor: int) -> None:
        cursor = max(0, min(cursor, len(self.runs) - 1))
        if cursor != self.cursor:
            self._refresh_row(self.cursor)
            self.cursor = cursor
            self._refresh_row(cursor)
            self.post_message(self.Moved())
        self.scroll_to_region(Region(0, cursor, 1, 1), animate=False, force=True)

    def _refresh_row(self, number: int) -> None:
        self.refresh(Region(0, number - self.scroll_offset.y, self.size.width, 1))

    def on_click(self, event: events.Click) -> None:
        number = event.y + self.scroll_offset.y
        if number < len(self.runs):
            if number == self.cursor and event.chain > 1:
                self.post_message(self.Opened(self.runs[number]))
            self._move_cursor(number)

    def on_resize(self) -> None:
        if self.runs:
            call_after_layout(self, self._scroll_to_cursor)

    def _scroll_to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)

    def on_focus(self) -> None:
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        self._refresh_row(self.cursor)

    # ------------------------------------------------------------------ drawing

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        number = y + self.scroll_offset.y
        if number >= len(self.runs):
            lines = textwrap.wrap(self.empty, max(20, width - 3)) if not self.runs else []
            text = lines[y - 1] if 0 < y <= len(lines) else ""
            return Strip([Segment(f"  {text}", base)]).adjust_cell_length(width, base)
        run = self.runs[number]
        ascii_only = getattr(self.app, "marker", "") == "ascii"
        letter, role = self.letters.get(run.id, (" ", ""))
        style = base
        pieces = [(f"{letter} ", role), *row(run, self._fit(width), ascii_only)]
        if number == self.cursor and self.has_focus:
            # as in every other list; state colours would not be readable on the cursor
            style = self.get_component_rich_style("run-table--cursor")
            pieces = [(text, "") for text, _ in pieces]
        elif number == self.cursor:
            style = base + Style(bold=True, underline=True)
        variables = self.app.theme_variables
        segments = [
            Segment(text, style + role_style(variables, role) if role else style) for text, role in pieces
        ]
        return Strip(segments).adjust_cell_length(width, style)

    def _fit(self, width: int) -> tuple[tuple[RunColumn, int], ...]:
        # the scrollbar's cell is reserved also without a scrollbar
        available = self.container_size.width - SCROLLBAR if self.container_size.width else width
        return fitted_columns(available, self.columns)
