"""A dialog that lists the runs on this machine, newest first."""

from __future__ import annotations

import time
from dataclasses import dataclass

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.runs import notes
from tui_lab.runs.folder import Run, list_runs
from tui_lab.runs.state import Watcher
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views.plot_data import quantity
from tui_lab.ui.views.run import score_line
from tui_lab.ui.views.run_state import STATE_ROLES, run_time, state_text

#: Runs listed at most; reading a log of one costs milliseconds.
LISTED = 60
#: Seconds given to reading one log: a run of a week is listed without its newest figures.
READ_FOR_S = 0.3
#: Cells of what a run is: those that its state, its time and its result leave.
LEAST_CELLS, MOST_CELLS, BESIDE_CELLS = 22, 48, 49


@dataclass(frozen=True)
class RunLine:
    """One line of the list."""

    run_id: str
    state: str
    what: str
    result: str


def describe(run: Run) -> RunLine:
    """Reads a run for one line of the list."""
    watcher = Watcher(run)
    deadline = time.monotonic() + READ_FOR_S
    while watcher.poll(max_records=10_000, max_s=READ_FOR_S) and time.monotonic() < deadline:
        pass
    recipe, state = watcher.recipe, watcher.state
    what = (
        f"{recipe.model.rpartition('/')[2]} · {recipe.preset or '–'} · {recipe.data.rpartition('/')[2]}"
        if recipe
        else watcher.problem
    )
    if name := notes.read(run).name:
        what = f"{name}: {what}"
    result = score_line(state).rpartition(": ")[2].replace("(at the end)", "–").replace(" ", "")
    if state.validation.values:
        result = f"loss {quantity(state.validation.last, 'number')}  {result}"
    return RunLine(run.id, watcher.status, what, result)


class RunList(Modal[str]):
    """Gives the id of the selected run, or "" after Escape."""

    DEFAULT_CSS = """
    RunList { align: center middle; }
    RunList > Vertical {
        width: 110; max-width: 100%; height: 70%; background: $panel; border: round $primary; padding: 0 1;
    }
    RunList OptionList, RunList OptionList:focus {
        height: 1fr; border: none; background: $panel; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """
    GROUP = "list"
    BINDINGS = bindings("list")

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Runs, newest first"
            box.border_subtitle = f"Enter opens, {self.keys('list.leave')} closes"
            yield OptionList(Option("reading the runs…", disabled=True))

    def on_mount(self) -> None:
        self._read()

    @work(thread=True, group="runs", description="list the runs", exit_on_error=False)
    def _read(self) -> None:
        lines = [describe(run) for run in list_runs()[:LISTED]]
        if self.is_mounted:
            self.app.call_from_thread(self._show, lines)

    def _show(self, lines: list[RunLine]) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        if not lines:
            options.add_option(
                Option(f"No runs yet: press {self.keys('app.setup')}, choose, and start one.", disabled=True)
            )
        room = max(LEAST_CELLS, min(MOST_CELLS, options.size.width - BESIDE_CELLS))
        for line in lines:
            colour = f"${STATE_ROLES[line.state]}" if line.state in STATE_ROLES else ""
            prompt = Content.assemble(
                ("● " if line.run_id == self.current else "  ", "$changed"),
                (f"{state_text(line.state):<11}", colour),
                f"{run_time(line.run_id)} ",
                f"{sanitize(line.what)[:room]:<{room}} ",
                (sanitize(line.result), "$text-muted"),
            )
            options.add_option(Option(prompt, id=line.run_id))
        ids = [line.run_id for line in lines]
        options.highlighted = ids.index(self.current) if self.current in ids else 0
        options.focus()

    @on(OptionList.OptionSelected)
    def _taken(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id or "")

    def action_leave(self) -> None:
        self.dismiss("")
