"""What the user can do with a run of the table: open it on another pane, name, tag, note or delete it; and
hold the queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tui_lab.core.errors import LabError
from tui_lab.evaluation import search_store
from tui_lab.runs import commands, notes, removal
from tui_lab.runs.folder import Run
from tui_lab.runs.index import RunSummary
from tui_lab.runs.notes import short_name
from tui_lab.runs.queue import queue
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.views import empty as empty_text
from tui_lab.ui.views import runs_table

if TYPE_CHECKING:
    import subprocess

HELD = "The queue is held: no further run starts. The run in progress continues."
RESUMED = "The queue continues."


def _restore(found: Sequence[removal.TrashedRun]) -> tuple[list[Run], list[str]]:
    """The runs that could be restored, and a sentence for each other."""
    runs, problems = [], []
    for each in found:
        try:
            runs.append(removal.restore(each))
        except LabError as error:
            problems.append(str(error))
    return runs, problems


class RunSelection(Protocol):
    """The runs of a table, as :class:`RunCommands` sees them."""

    every: list[RunSummary]
    marked: list[str]

    @property
    def current(self) -> RunSummary | None: ...
    def read_folders(self) -> None: ...


class RunCommands:
    """``selection`` holds the runs, ``pane`` runs workers and shows messages; both are the Runs pane."""

    def __init__(self, pane: Pane, selection: RunSelection) -> None:
        self._pane, self._selection = pane, selection
        self._moved: list[removal.TrashedRun] = []  # by the last deletion
        self.restored = ""  # the id of a run that the cursor is to go to as soon as it is listed

    # ------------------------------------------------------------------ opening

    def _started(self) -> RunSummary | None:
        """The run under the cursor if it has started; otherwise a message says why not."""
        run = self._current()
        if run is not None and run.state == "queued":
            self._pane.notice("This run waits in the queue: there is nothing to show yet.", "warning")
            return None
        return run

    def _current(self) -> RunSummary | None:
        """The run under the cursor; a message says if there is none."""
        if self._selection.current is None:
            self._pane.notice(empty_text.no_runs(self._pane.keymap), "warning")
        return self._selection.current

    def open_train(self) -> None:
        """Shows the run on Train."""
        if run := self._started():
            self._pane.lab.open_run(run.id)

    def open_retention(self) -> None:
        """Shows the run on Retention."""
        if run := self._started():
            self._pane.lab.run_id = run.id
            self._pane.lab.action_pane("retention")

    def open_playground(self) -> None:
        """Compares the run with its base on Playground."""
        if run := self._started():
            self._pane.lab.compare_run(run.id)

    def open_predictions(self) -> None:
        """Shows what base and run answer to the rows of a data set."""
        from tui_lab.ui.screens.predictions import open_predictions

        if run := self._started():
            open_predictions(self._pane, run.run)

    def go_on(self) -> None:
        """Shows a recipe on Setup that goes on from the run."""
        if run := self._started():
            self._pane.go_on_from(run.path)

    # ------------------------------------------------------------------ notes

    def rename(self) -> None:
        """Asks for the run's name."""
        if run := self._current():
            question = "The run's name (its folder keeps its own; empty: the time it was made)"
            self._ask(run, "name", question, run.name)

    def tag(self) -> None:
        """Asks for the run's tags."""
        if run := self._current():
            question = "Tags, separated by spaces; the filter finds them as tag:word"
            self._ask(run, "tags", question, " ".join(run.tags))

    def note(self) -> None:
        """Asks for a note on the run."""
        if run := self._current():
            self._ask(run, "note", "A note on this run", run.note)

    def _ask(self, run: RunSummary, what: str, question: str, value: str) -> None:
        self._pane.ask(question, value, partial(self._write, run, what))

    def _write(self, run: RunSummary, what: str, text: str) -> None:
        try:
            notes.write(run.run, **{what: text})
        except LabError as error:
            self._pane.notice(error, "error")
        self._selection.read_folders()

    # ------------------------------------------------------------------ deleting

    def delete(self) -> None:
        """Deletes the marked runs, else the one under the cursor, after a question; never a live one."""
        selection = self._selection
        wanted = [run for run in selection.every if run.id in selection.marked]
        if not wanted and (current := self._current()):
            wanted = [current]
        gone = [run for run in wanted if not runs_table.is_live(run)]
        if gone:
            question = runs_table.delete_question(gone, len(wanted) - len(gone), self._pane.keys("runs.undo"))
            self._pane.confirm(question, "delete", "keep", partial(self._start_deleting, gone))
        elif wanted:
            question = "A run in progress cannot be deleted. Stop it now? What it has learned is saved."
            self._pane.confirm(question, "stop it", "let it run", partial(self._stop, wanted))

    def _stop(self, runs: Sequence[RunSummary]) -> None:
        for run in runs:
            try:
                commands.send(run.run, "stop")
            except LabError as error:
                self._pane.notice(error, "error")

    def _start_deleting(self, runs: Sequence[RunSummary]) -> None:
        work = partial(self._delete, runs)
        self._pane.run_worker(
            work, thread=True, group="delete", description="delete runs", exit_on_error=False
        )

    def _delete(self, runs: Sequence[RunSummary]) -> None:
        pane = self._pane
        moved: list[removal.TrashedRun] = []
        for run in runs:
            try:
                if run.state == "queued":
                    queue.remove([run.id])
                else:
                    moved.append(removal.delete(run.run))
            except LabError as error:
                pane.call_back(pane.notice, error, "error")
            else:
                pane.call_back(self._deleted, run.id)
        if moved:
            self._moved = moved
            it = "it" if len(moved) == 1 else "them"
            text = f"{removal.moved_text(moved)}. {pane.keys('runs.undo')} restores {it}."
            pane.call_back(pane.notice, text)
            pane.call_back(pane.update_footer)
        pane.call_back(self._selection.read_folders)

    def _deleted(self, run_id: str) -> None:
        self._selection.marked = [each for each in self._selection.marked if each != run_id]
        if self._pane.lab.run_id == run_id:
            self._pane.lab.run_id = ""

    @property
    def can_undo(self) -> bool:
        """Whether runs were deleted here that can be restored."""
        return bool(self._moved)

    def undo(self) -> None:
        """Restores the runs that were deleted last, else lets the user choose one in the trash."""
        if self._moved:
            moved, self._moved = self._moved, []
            self._start_restoring(moved)
        else:
            self._pane.in_thread(removal.trashed, self._choose_trashed, "delete")

    def _choose_trashed(self, found: Sequence[removal.TrashedRun]) -> None:
        if not found:
            self._pane.notice("The trash is empty: there is nothing to restore.", "warning")
            return
        lines = [(each.id, time.strftime("deleted %m-%d %H:%M", time.localtime(each.at))) for each in found]

        self._pane.pick("Restore which run?", lines, lambda number: self._start_restoring([found[number]]))

    def _start_restoring(self, found: Sequence[removal.TrashedRun]) -> None:
        self._pane.in_thread(partial(_restore, found), self._restored, "delete")

    def _restored(self, result: tuple[list[Run], list[str]]) -> None:
        runs, problems = result
        for problem in problems:
            self._pane.notice(problem, "error")
        if runs:
            self.restored = runs[0].id
            self._pane.notice(f"Restored: {short_name(runs[0]) if len(runs) == 1 else f'{len(runs)} runs'}.")
        self._pane.update_footer()
        self._selection.read_folders()

    # ------------------------------------------------------------------ the queue

    def toggle_search(self) -> None:
        """Stops the search of the run under the cursor, or lets it go on, in a thread."""
        current = self._selection.current
        if current is None or not current.sweep:
            self._pane.notice(
                f"This run is not part of a search: {self._pane.keys('setup.search')} on Setup starts one."
            )
        else:
            self._pane.in_thread(
                partial(search_store.toggle, current.run.path.parent, current.sweep),
                self._search_toggled,
                "search",
            )

    def _search_toggled(self, result: tuple[str, subprocess.Popen[bytes] | None]) -> None:
        text, child = result
        if child is not None:
            self._pane.lab.adopt(child)
        self._pane.notice(text)
        self._selection.read_folders()

    def toggle_queue(self) -> None:
        """Holds the queue, or lets it continue, in a thread."""
        self._pane.in_thread(queue.toggle, self._toggled, "queue")

    def _toggled(self, result: tuple[bool | None, subprocess.Popen[bytes] | None]) -> None:
        continues, child = result
        if child is not None:
            self._pane.lab.adopt(child)
        empty = f"The queue is empty: {self._pane.keys('setup.queue')} on Setup adds a run to it."
        self._pane.notice({True: RESUMED, False: HELD, None: empty}[continues])
        self._selection.read_folders()
