"""A dialog that lists the runs on this machine, newest first, and filters them."""

from __future__ import annotations

from collections.abc import Sequence

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from tui_lab.runs.index import RunIndex, RunSummary, matches
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import bindings, filled
from tui_lab.ui.actions.search_line import SearchLine
from tui_lab.ui.views import empty
from tui_lab.ui.views.runs_table import (
    COLUMNS,
    NOTHING_FOUND,
    RunColumn,
    columns_for,
    fitted_columns,
    head,
    row,
)

#: Runs that are listed at most; the filter finds the others.
MAX_RUNS = 200
#: Columns of the list; the Runs pane has them all.
LIST_COLUMNS = tuple(column for column in COLUMNS if column.id not in ("loss", "peak", "time", "note"))
#: Cells of a line beside its columns: padding and scrollbar.
PADDING = 3


class RunList(ListDialog[str]):
    """Gives the id of the selected run, or "" after Escape. ``current``: the run that is shown."""

    DEFAULT_CSS = """
    RunList > .dialog { width: 110; height: 70%; }
    RunList .head { height: 1; padding: 0; color: $text-muted; text-style: bold; }
    """
    GROUP = "list"
    BINDINGS = bindings("list")
    FILTER_HINT = "words; state:failed  model:qwen  tag:good  data:pirate"
    heading = "Runs, newest first"

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current
        self.runs: list[RunSummary] = []

    def hint(self) -> str:
        return f"Enter opens, {self.keys('list.leave')} closes"

    def compose_body(self) -> ComposeResult:
        line, *others = super().compose_body()
        yield from (line, Static(classes="head"), *others)

    def on_mount(self) -> None:
        super().on_mount()
        self.fill([], "", "reading the runs …")
        self._read()

    @work(thread=True, group="runs", description="list the runs", exit_on_error=False)
    def _read(self) -> None:
        index = RunIndex()
        while self.is_mounted and not index.done:
            self._show_later(index.refresh(self._show_later))

    def _show_later(self, runs: Sequence[RunSummary]) -> None:
        if self.is_mounted:
            self.app.call_from_thread(self._take, [run for run in runs if not run.queued])

    def _take(self, runs: list[RunSummary]) -> None:
        self.runs = runs
        self.filter_rows()

    def filter_rows(self, at: str = "") -> None:
        query = self.query_one(SearchLine).value
        runs = [run for run in self.runs if matches(run, query)][:MAX_RUNS]
        columns = fitted_columns(self.options.size.width - PADDING, columns_for(runs, LIST_COLUMNS))
        self.query_one(".head", Static).update(Content(head(columns, "", descending=False)))
        rows = [Option(self._line(run, columns), id=run.id) for run in runs]
        nothing = empty.no_runs(self.keymap) if not self.runs else filled(NOTHING_FOUND, self.keymap)
        self.fill(rows, at or self.row_id or self.current, nothing)

    def _line(self, run: RunSummary, columns: tuple[tuple[RunColumn, int], ...]) -> Content:
        mark = ("● " if run.id == self.current else "  ", "$changed")
        return Content.assemble(
            mark, *((text, f"${role}" if role else "") for text, role in row(run, columns))
        )

    def action_take(self) -> None:
        self.dismiss(self.row_id)

    def close_unanswered(self) -> None:
        self.action_leave()

    def action_leave(self) -> None:
        self.dismiss("")
