"""A dialog that lists the runs on this machine, newest first."""

from __future__ import annotations

import time
from dataclasses import dataclass

from textual import work
from textual.content import Content
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.runs import notes
from tui_lab.runs.folder import Run, list_runs
from tui_lab.runs.state import Watcher
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views.plot_data import quantity
from tui_lab.ui.views.run import score_line
from tui_lab.ui.views.run_state import STATE_ROLES, run_time, state_text

#: Runs listed at most; reading a log of one costs milliseconds.
LISTED = 60
#: Seconds given to reading one log: a run of a week is listed without its newest figures.
READ_LIMIT_S = 0.3
#: Cells of the recipe's column, and of the other columns together.
MIN_CELLS, MAX_CELLS, OTHER_CELLS = 22, 48, 49


@dataclass(frozen=True)
class RunLine:
    """One line of the list."""

    run_id: str
    state: str
    recipe: str
    result: str


def describe(run: Run) -> RunLine:
    """Reads a run for one line of the list."""
    watcher = Watcher(run)
    deadline = time.monotonic() + READ_LIMIT_S
    while watcher.poll(max_records=10_000, max_s=READ_LIMIT_S) and time.monotonic() < deadline:
        pass
    recipe, state = watcher.recipe, watcher.state
    description = (
        f"{recipe.model.rpartition('/')[2]} · {recipe.preset or '–'} · {recipe.data.rpartition('/')[2]}"
        if recipe
        else watcher.problem
    )
    if name := notes.read(run).name:
        description = f"{name}: {description}"
    result = score_line(state).rpartition(": ")[2].replace("(at the end)", "–").replace(" ", "")
    if state.validation.values:
        result = f"loss {quantity(state.validation.last, 'number')}  {result}"
    return RunLine(run.id, watcher.status, description, result)


class RunList(ListDialog[str]):
    """Gives the id of the selected run, or "" after Escape."""

    DEFAULT_CSS = "RunList > .dialog { width: 110; height: 70%; }"
    GROUP = "list"
    BINDINGS = bindings("list")
    heading = "Runs, newest first"

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current

    def hint(self) -> str:
        return f"Enter opens, {self.keys('list.leave')} closes"

    def on_mount(self) -> None:
        self.show_rows([], empty="reading the runs…")
        self._read()

    @work(thread=True, group="runs", description="list the runs", exit_on_error=False)
    def _read(self) -> None:
        lines = [describe(run) for run in list_runs()[:LISTED]]
        if self.is_mounted:
            self.app.call_from_thread(self._show, lines)

    def _show(self, lines: list[RunLine]) -> None:
        empty = f"No runs yet: press {self.keys('app.setup')}, choose, and start one."
        self.show_rows([Option(self._prompt(line), id=line.run_id) for line in lines], self.current, empty)

    def _prompt(self, line: RunLine) -> Content:
        width = max(MIN_CELLS, min(MAX_CELLS, self.options.size.width - OTHER_CELLS))
        return Content.assemble(
            ("● " if line.run_id == self.current else "  ", "$changed"),
            (
                f"{state_text(line.state):<11}",
                f"${STATE_ROLES[line.state]}" if line.state in STATE_ROLES else "",
            ),
            f"{run_time(line.run_id)} ",
            f"{sanitize(line.recipe)[:width]:<{width}} ",
            (sanitize(line.result), "$text-muted"),
        )

    def action_take(self) -> None:
        if self.row_id:
            self.dismiss(self.row_id)

    def action_leave(self) -> None:
        self.dismiss("")
