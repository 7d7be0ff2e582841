"""Whether the files of the chosen recipe can be had, asked in a thread a moment after the choice: what
Setup shows before the start, and the start and the queue ask again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tui_lab.core.errors import LabError
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.views.access import Access

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui_lab.models.catalog import Entry
    from tui_lab.recipes.recipe import Recipe

#: Seconds after a choice until it is asked about.
AFTER_S = 0.4


class AccessCheck:
    """``found`` is the present state; ``show`` is called when it changes."""

    def __init__(self, pane: Pane, show: Callable[[], object]) -> None:
        self._pane, self._show = pane, show
        self.found = Access()
        self._of: tuple[object, ...] = ()
        self._timer: Timer | None = None

    def update(self, recipe: Recipe | None, entry: Entry | None) -> None:
        """Takes what is chosen now; asks about it if model or data are other ones."""
        if recipe is None or entry is None:
            return
        general = recipe.replay_data if recipe.replay_fraction or recipe.ewc_lambda else ""
        chosen = (entry.id, entry.on_disk, recipe.revision, recipe.data, general)
        if chosen == self._of:
            return
        self._of = chosen
        if self._timer is not None:
            self._timer.stop()
        if is_bundled(recipe, entry):
            self.found = Access()
            return
        what = sanitized_name(entry.label if not entry.on_disk or recipe.revision else recipe.data)
        self.found = Access(asking=f"checking {what} …")
        self._timer = self._pane.set_timer(AFTER_S, partial(self._ask, recipe, chosen))

    def ask_again(self, recipe: Recipe | None, entry: Entry | None) -> None:
        """Asks once more where something was missing: a licence may have been accepted meanwhile."""
        if self.found.problem:
            self._of = ()
            self.update(recipe, entry)
            self._show()

    def _ask(self, recipe: Recipe, chosen: tuple[object, ...]) -> None:
        self._pane.in_thread(partial(ask, recipe), partial(self._take, chosen), "access")

    def _take(self, chosen: tuple[object, ...], found: Access) -> None:
        if chosen == self._of:
            self.found = found
            self._show()


def sanitized_name(name: str) -> str:
    """The last part of a name, for a short sentence."""
    from tui_lab.core.sanitize import sanitize

    return sanitize(name.rstrip("/").rpartition("/")[2])


def is_bundled(recipe: Recipe, entry: Entry) -> bool:
    """Whether everything that the run reads is in this package or checked already."""
    from tui_lab.data.bundled import NAMES

    has_general = bool(recipe.replay_fraction or recipe.ewc_lambda) and recipe.replay_data != "auto"
    return entry.where == "bundled" and recipe.data in NAMES and not has_general


def ask(recipe: Recipe) -> Access:
    """Asks the disk and the hub; at most some seconds."""
    from tui_lab.data import preflight
    from tui_lab.models import catalog, download

    try:
        preflight.check_data(preflight.data_of(recipe))
    except LabError as error:
        return Access(problem=str(error), of="data")
    try:
        plan = download.preflight(catalog.find(recipe.model, recipe.allow_large).loadable, recipe.revision)
    except LabError as error:
        return Access(problem=str(error))
    return Access(missing_bytes=plan.missing_bytes if plan is not None else None)
