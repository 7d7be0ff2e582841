"""Starts the run that Setup describes, puts it into the queue, or searches around it; all ask first whether
its files can be had."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tui_lab.core.changed_inputs import ChangedInputs
from tui_lab.core.errors import LabError
from tui_lab.ui.screens.memory_fit import MemoryFit
from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    import subprocess

    from tui_lab.evaluation.search_plan import Budget
    from tui_lab.recipes.recipe import Recipe
    from tui_lab.ui.views.recipe_summary import RecipeSummary


class RunStarter:
    """``summary`` gives what is chosen now, ``memory`` the device, ``problem_of_rows`` why the rows of the
    data cannot be used, ``rows_are_read`` whether they were read at all."""

    def __init__(
        self,
        pane: Pane,
        memory: MemoryFit,
        summary: Callable[[], RecipeSummary | None],
        problem_of_rows: Callable[[], str],
        rows_are_read: Callable[[], bool],
    ) -> None:
        self._pane, self._memory, self._summary = pane, memory, summary
        self._problem_of_rows, self._rows_are_read = problem_of_rows, rows_are_read
        self._is_starting = False

    def valid_recipe(self, refusal: str) -> Recipe | None:
        """The recipe; None if it cannot be run, and then a message says why."""
        summary = self._summary()
        if summary is None or summary.recipe is None or summary.refusals:
            reasons = (
                summary.refusals if summary is not None else ("models and presets are still being read.",)
            )
            self._pane.notice(f"{refusal}:\n" + "\n".join(reasons), "error")
            return None
        if problem := self._memory.refusal() or self._problem_of_rows():
            self._pane.notice(f"{refusal}: {problem}", "error")
            return None
        return summary.recipe

    def _check(self, recipe: Recipe) -> None:
        """Checks the run that the recipe goes on from, and rows that no preview has read yet. Raises
        LabError."""
        from tui_lab.data import preflight
        from tui_lab.runs import stages

        stages.check(recipe)
        if not self._rows_are_read():
            preflight.check_rows(
                recipe.data, recipe.data_format, recipe.max_rows, recipe.columns, recipe.preference_loss
            )

    # ------------------------------------------------------------------ the queue

    def queue(self) -> None:
        """Puts what is chosen into the queue, which begins unless it is held."""
        if (recipe := self.valid_recipe("Not queued")) is not None:
            self._pane.in_thread(partial(self._queue, recipe), self._queued, "queue")

    def _queue(self, recipe: Recipe) -> tuple[str, subprocess.Popen[bytes] | None]:
        from tui_lab.data import preflight
        from tui_lab.hardware.cuda_support import GPUS_ENV
        from tui_lab.runs.queue import queue

        preflight.preflight(recipe)  # what is missing is reported now, not when its turn comes
        try:
            self._check(recipe)
        except ChangedInputs as changed:
            reason = "; ".join(changed.changes)
            raise LabError(f"{changed.what}: {reason}; start it without the queue to go on") from None
        environment = self._memory.launch_environment() or {}
        (run,) = queue.add([recipe], gpus=environment.get(GPUS_ENV))
        held = queue.read().held
        state = "The queue is held: " if held else ""
        text = f"Queued as {run.id}. {state}{self._pane.keys('app.runs')} shows it."
        return text, None if held else queue.start_runner()

    def _queued(self, result: tuple[str, subprocess.Popen[bytes] | None]) -> None:
        text, child = result
        if child is not None:
            self._pane.lab.adopt(child)
        self._pane.notice(text)

    # ------------------------------------------------------------------ a search

    def search(self) -> None:
        """Opens the card that starts a search around what is chosen."""
        from tui_lab.ui.screens import search
        from tui_lab.ui.views.search import long_pilot_seconds

        if (recipe := self.valid_recipe("Not searched")) is None:
            return
        summary, data = self._summary(), self._memory.data
        estimate = summary.estimate if summary is not None else None
        long_s = long_pilot_seconds(recipe, estimate, data.rows if data is not None else None)
        search.ask(self._pane, long_s, partial(self._search, recipe))

    def _search(self, recipe: Recipe, keep: float, budget: Budget) -> tuple[str, subprocess.Popen[bytes]]:
        from tui_lab.ui.screens.search import start_search

        self._check(recipe)
        return start_search(recipe, self._memory.launch_environment(), keep, budget)

    # ------------------------------------------------------------------ the run

    def start(self) -> None:
        """Starts the run, after a question where it does not fit or another one is in progress."""
        if self._is_starting or self.valid_recipe("Not started") is None:
            return
        if self._memory.is_too_large():
            self._memory.ask_how(start=True)
        else:
            self.start_without_question()

    def start_without_question(self) -> None:
        """Starts the run, whether it fits or not."""
        if live := self._pane.lab.live_runs():
            runs = "A run is" if live == 1 else f"{live} runs are"
            question = (
                f"{runs} in progress. Another one shares the machine and both get slower; "
                f"{self._pane.keys('setup.queue')} lets it wait its turn instead."
            )
            self._pane.confirm(question, "start", "no", self._start)
        else:
            self._start()

    def _start(self) -> None:
        self._is_starting = True
        self._pane.in_thread(self._launch, lambda started: self._pane.lab.open_run(*started), "start")

    def _launch(self) -> tuple[str, subprocess.Popen[bytes]]:
        from tui_lab.data import preflight
        from tui_lab.runs import launch

        summary = self._summary()
        assert summary is not None and summary.recipe is not None
        self._is_starting = True
        try:
            preflight.preflight(summary.recipe)
            self._check(summary.recipe)
            environment = self._memory.launch_environment()
            run, process = launch.create_and_start(summary.recipe, environment=environment)
            return run.id, process
        finally:
            self._is_starting = False
