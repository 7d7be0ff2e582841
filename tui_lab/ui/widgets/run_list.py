"""A dialog that lists the runs on this machine, newest first."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.runs.index import RunIndex, RunSummary
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views import empty
from tui_lab.ui.views.runs_table import COLUMNS, RunColumn, fitted_columns, head, row
from tui_lab.ui.widgets.dialogs import DialogBox

#: The newest runs, which are listed.
MAX_RUNS = 500
#: Columns of the list; the Runs pane has them all.
LIST_COLUMNS = tuple(column for column in COLUMNS if column.id not in ("loss", "peak", "time", "note"))
#: Cells of a line beside its columns: padding and scrollbar.
PADDING = 3


class RunList(Modal[str]):
    """Gives the id of the selected run, or "" after Escape. ``current``: the run that is shown."""

    DEFAULT_CSS = """
    RunList { align: center middle; }
    RunList DialogBox { width: 110; max-width: 100%; height: 70%; }
    RunList .head { height: 1; padding: 0 2; color: $text-muted; text-style: bold; }
    RunList OptionList, RunList OptionList:focus { height: 1fr; }
    """
    GROUP = "list"
    BINDINGS = bindings("list")

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current

    def compose(self) -> ComposeResult:
        with DialogBox("Runs, newest first", f"Enter opens, {self.keys('list.leave')} closes"):
            yield Static(classes="head")
            yield OptionList(Option("reading the runs…", disabled=True))

    def on_mount(self) -> None:
        self._read()

    @work(thread=True, group="runs", description="list the runs", exit_on_error=False)
    def _read(self) -> None:
        index = RunIndex()
        while self.is_mounted and not index.done:
            self._show_later(index.refresh(self._show_later))

    def _show_later(self, runs: Sequence[RunSummary]) -> None:
        if self.is_mounted:
            self.app.call_from_thread(self._show, [run for run in runs if not run.queued][:MAX_RUNS])

    def _show(self, runs: Sequence[RunSummary]) -> None:
        options = self.query_one(OptionList)
        columns = fitted_columns(options.size.width - PADDING, LIST_COLUMNS)
        self.query_one(Static).update(Content(head(columns, "", descending=False)))
        at = options.highlighted_option.id if options.highlighted_option else self.current
        lines = [Option(self._line(run, columns), id=run.id) for run in runs]
        options.set_options(lines or [Option(empty.no_runs(self.keymap), disabled=True)])
        ids = [run.id for run in runs]
        options.highlighted = ids.index(at) if at in ids else 0
        options.focus()

    def _line(self, run: RunSummary, columns: tuple[tuple[RunColumn, int], ...]) -> Content:
        mark = ("● " if run.id == self.current else "  ", "$changed")
        return Content.assemble(
            mark, *((text, f"${role}" if role else "") for text, role in row(run, columns))
        )

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id or "")

    def action_leave(self) -> None:
        self.dismiss("")
