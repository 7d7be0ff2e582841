"""The card of Setup that starts a search under a promise: what share of retention to keep, the budget, and
how many pilots that allows by the forecast. The search is a process of its own, which outlives the lab."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation import search_start, search_store
from tui_lab.evaluation.search_plan import Budget
from tui_lab.forecast import cost
from tui_lab.report.content import repeat
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views.search import expected

if TYPE_CHECKING:
    from tui_lab.recipes.recipe import Recipe
    from tui_lab.ui.screens.pane import Pane


#: The name of a search and its process.
StartedSearch: TypeAlias = tuple[str, subprocess.Popen[bytes]]


class SearchCard(Dialog[tuple[float, Budget] | None]):
    """Gives keep and budget, or None. Enter goes from the first line to the second and then starts."""

    DEFAULT_CSS = """
    SearchCard > .dialog { width: 90; max-width: 96%; }
    SearchCard #error { color: $text-error; }
    """
    GROUP = "ask"
    BINDINGS = bindings("ask")
    heading = "Search a recipe under a promise"

    def __init__(self, long_s: float | None, watts: float) -> None:
        super().__init__()
        self._long_s, self._watts = long_s, watts

    def hint(self) -> str:
        return f"Enter starts, Tab changes lines, {self.keys('ask.leave')} cancels"

    def compose_body(self) -> ComposeResult:
        yield Static("The recipe with the most gain whose retention stays above (a share)")
        yield Input(f"{search_start.DEFAULT_KEEP:g}", id="keep")
        yield Static("Budget: a time (40min, 2h), money, or energy (0.3kWh)")
        yield Input(search_start.DEFAULT_BUDGET, id="budget")
        yield Static(id="takes")
        yield Static(id="error")

    def on_mount(self) -> None:
        self.frame()
        self.query_one("#keep", Input).focus()
        self._look()

    @property
    def unsaved(self) -> str:
        values = [line.value for line in self.query(Input)]
        if values == [f"{search_start.DEFAULT_KEEP:g}", search_start.DEFAULT_BUDGET]:
            return ""
        return f"What you typed is not saved: Enter starts the search, {self.keys('ask.leave')} drops it."

    def _read(self) -> tuple[float, Budget]:
        """What the lines say. Raises LabError."""
        text = self.query_one("#keep", Input).value.strip().removesuffix("%")
        try:
            keep = float(text)
        except ValueError:
            raise LabError(
                f"the share to keep is a number such as 0.9, not {sanitize(text)[:40]!r}"
            ) from None
        keep = plan.check_keep(keep / 100 if keep > 1 else keep)
        return keep, plan.parse_budget(self.query_one("#budget", Input).value, cost.prices(), self._watts)

    @on(Input.Changed)
    def _look(self) -> None:
        takes, problem = "", ""
        try:
            takes = expected(self._read()[1], self._long_s)
        except LabError as error:
            problem = str(error)
        self.query_one("#takes", Static).update(Content(takes))
        self.query_one("#error", Static).update(Content(problem))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "keep":
            self.query_one("#budget", Input).focus()
            return
        try:
            answer = self._read()
        except LabError:
            return  # the line below says why
        self.dismiss(answer)


def ask(pane: Pane, long_s: float | None, start: Callable[[float, Budget], StartedSearch]) -> None:
    """Opens the card, and starts the search that it gives in a thread."""

    def open_card(watts: float) -> None:
        pane.app.push_screen(SearchCard(long_s, watts), answered)

    def answered(answer: tuple[float, Budget] | None) -> None:
        if answer is not None:
            pane.in_thread(partial(start, *answer), started, "search")

    def started(child: StartedSearch) -> None:
        search, process = child
        pane.lab.started(process)
        pane.notice(
            f"{search} has started. {pane.keys('app.runs')} shows it, and a search goes on without the lab."
        )

    pane.in_thread(search_start.watts, open_card, "search")


def start_search(
    recipe: Recipe, environment: Mapping[str, str] | None, keep: float, budget: Budget
) -> StartedSearch:
    """Starts a search around ``recipe``. Raises LabError."""
    preset, changed, _ = repeat(recipe)
    named = {"model": recipe.model, "data": recipe.data, "allow_large": recipe.allow_large}
    settings = search_start.settings(preset, {**named, **changed}, keep, budget)
    return settings.search, search_store.start(settings, environment=environment)
