"""What can be done with a run of the table: open it on another pane, name, tag, note or delete it; and hold
the queue. The pane that shows the table is the class below this one."""

from __future__ import annotations

from typing import Any

from textual import on, work

from tui_lab.core.errors import LabError
from tui_lab.runs import notes, removal
from tui_lab.runs.folder import Run
from tui_lab.runs.index import RunSummary
from tui_lab.runs.queue import queue
from tui_lab.ui.actions.registry import keys_of
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.views import empty as empty_text
from tui_lab.ui.views import runs_table
from tui_lab.ui.widgets.run_table import RunTable

HELD = "The queue is held: nothing more starts. The run in progress goes on."


class RunsCommands(Pane):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.every: list[RunSummary] = []
        self.marked: list[str] = []  # ids, in the order that gives them their letters

    @property
    def table(self) -> RunTable:
        return self.query_one(RunTable)

    @property
    def current(self) -> RunSummary | None:
        return self.table.current

    @property
    def run_shown(self) -> Run | None:
        """The run under the cursor, for what can be done with a run everywhere."""
        return self.current.run if self.current else None

    def _call(self, what: Any, *arguments: Any) -> None:
        """Calls back in the lab's own thread, unless it has gone meanwhile."""
        if self.is_mounted and self.app.is_running:
            self.app.call_from_thread(what, *arguments)

    def _no_runs(self) -> str:
        return empty_text.no_runs(self.keymap)

    def _keys(self, action: str) -> str:
        return keys_of(action, self.keymap)

    def look(self) -> None:
        """Reads the folders again."""
        raise NotImplementedError

    # ------------------------------------------------------------------ opening

    def _begun(self) -> RunSummary | None:
        """The run under the cursor when it has begun; says so when not."""
        run = self.current
        if run is None:
            self.notice(self._no_runs(), "warning")
        elif run.state == "queued":
            self.notice("This run waits in the queue: there is nothing to see of it yet.", "warning")
        else:
            return run
        return None

    @on(RunTable.Opened)
    def _opened(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        if run := self._begun():
            self.lab.open_run(run.id)

    def action_retention(self) -> None:
        if run := self._begun():
            self.lab.run_id = run.id
            self.lab.action_pane("retention")

    def action_playground(self) -> None:
        if run := self._begun():
            self.lab.compare_run(run.id)

    # ------------------------------------------------------------------ writing on a run

    def _ask(self, what: str, question: str, value: str) -> None:
        from tui_lab.ui.widgets.dialogs import AskText

        run = self.current
        if run is None:
            self.notice(self._no_runs(), "warning")
            return

        def take(text: str | None) -> None:
            if text is not None:
                self._write(run, what, text)

        self.app.push_screen(AskText(question, value, can_be_empty=True), take)

    def _write(self, run: RunSummary, what: str, text: str) -> None:
        try:
            notes.write(run.run, **{what: text})
        except LabError as error:
            self.notice(error, "error")
        self.look()

    def action_rename(self) -> None:
        name = self.current.name if self.current else ""
        self._ask("name", "The run's name (its folder keeps its own; nothing: the time it was made)", name)

    def action_tags(self) -> None:
        tags = " ".join(self.current.tags) if self.current else ""
        self._ask("tags", "Tags, with spaces between; the filter finds them as tag:word", tags)

    def action_note(self) -> None:
        self._ask("note", "A note on this run", self.current.note if self.current else "")

    # ------------------------------------------------------------------ deleting

    def action_delete(self) -> None:
        """Deletes the marked runs, else the one under the cursor, after a question; never a live one."""
        from tui_lab.ui.widgets.dialogs import Confirm

        wanted = [run for run in self.every if run.id in self.marked] or [r for r in [self.current] if r]
        gone = [run for run in wanted if not runs_table.is_live(run)]
        if not wanted:
            self.notice(self._no_runs(), "warning")
        elif not gone:
            question = "A run in progress cannot be deleted. Stop it now? What it has learned is saved."
            self.app.push_screen(
                Confirm(question, yes="stop it", no="let it run"),
                lambda yes: self._stop(wanted) if yes else None,
            )
        else:
            question = runs_table.delete_question(gone, len(wanted) - len(gone))
            self.app.push_screen(
                Confirm(question, yes="delete", no="keep"), lambda yes: self._delete(gone) if yes else None
            )

    def _stop(self, runs: list[RunSummary]) -> None:
        from tui_lab.runs import commands

        for run in runs:
            try:
                commands.send(run.run, "stop")
            except LabError as error:
                self.notice(error, "error")

    def _delete(self, runs: list[RunSummary]) -> None:
        self._delete_later(runs)

    @work(thread=True, group="delete", description="delete runs", exit_on_error=False)
    def _delete_later(self, runs: list[RunSummary]) -> None:
        for run in runs:
            try:
                if run.state == "queued":
                    queue.remove([run.id])
                else:
                    removal.delete(run.run)
            except LabError as error:
                self._call(self.notice, error, "error")
            else:
                self._call(self._deleted, run.id)
        self._call(self.look)

    def _deleted(self, run_id: str) -> None:
        self.marked = [each for each in self.marked if each != run_id]
        if self.lab.run_id == run_id:
            self.lab.run_id = ""

    # ------------------------------------------------------------------ the queue

    @work(thread=True, exclusive=True, group="queue", description="hold the queue", exit_on_error=False)
    def action_queue(self) -> None:
        """Holds the queue, or lets it go on."""
        try:
            goes, child = queue.toggle()
            if child is not None:
                self._call(self.lab.adopt, child)
            empty = f"The queue is empty: {self._keys('setup.queue')} on Setup puts a run into it."
            said = {True: "The queue goes on.", False: HELD, None: empty}[goes]
        except LabError as error:
            self._call(self.notice, error, "error")
        else:
            self._call(self.notice, said)
        self._call(self.look)
