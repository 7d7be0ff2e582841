"""The run that the recipe on Setup goes on from: what comes from it, what that refuses, and its line in the
card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tui_lab.core.errors import LabError
from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    from tui_lab.runs.stages import EarlierRun


class GoingOn:
    """``overrides`` gives what is chosen now. ``take`` is called with a run that was read."""

    def __init__(
        self,
        pane: Pane,
        overrides: Callable[[], Mapping[str, object]],
        take: Callable[[EarlierRun | None], None],
    ) -> None:
        self._pane, self._overrides, self._take = pane, overrides, take
        self._known: dict[str, EarlierRun | str] = {}  # by the value of from_run; a text: why it cannot be

    @property
    def _found(self) -> EarlierRun | str | None:
        return self._known.get(str(self._overrides().get("from_run") or ""))

    @property
    def earlier(self) -> EarlierRun | None:
        """The run that the recipe goes on from, as far as it was read."""
        return None if isinstance(self._found, str) else self._found

    @property
    def taken(self) -> dict[str, object]:
        """The values that come from it."""
        return self.earlier.taken_by(self._overrides()) if self.earlier else {}

    def add(self, earlier: EarlierRun) -> None:
        """Remembers a run that was read."""
        self._known[str(earlier.run.path)] = earlier

    def read(self) -> None:
        """Reads a run that was named in the form or in an earlier recipe, in a thread."""
        name = str(self._overrides().get("from_run") or "")
        if name and name not in self._known:
            self._pane.in_thread(partial(_read, name), partial(self._was_read, name), "earlier")

    def _was_read(self, name: str, found: EarlierRun | str) -> None:
        self._known[name] = found
        if not isinstance(found, str):
            self.add(found)
        if self._overrides().get("from_run") == name:
            self._take(self.earlier)

    def refusals(self, values: Mapping[str, object]) -> tuple[str, ...]:
        """Why a run with these values cannot go on from the run that it names; none if it can."""
        if not values.get("from_run"):
            return ()
        found = self._found
        if found is None:
            return ("from_run: the run is being read",)
        problem = found if isinstance(found, str) else found.contradiction(values)
        return (problem,) if problem else ()

    def refuses(self, key: str, value: object) -> bool:
        """Whether a value cannot be chosen; a message says why."""
        if self.earlier is None or not (problem := self.earlier.contradiction({**self.taken, key: value})):
            return False
        self._pane.notice(f"{problem}. {self._how_to_remove}", "error")
        return True

    def explain_new_adapter(self, values: Mapping[str, object]) -> None:
        """Says why no new adapter can be trained beside the run's, where that was chosen."""
        if self.earlier and values.get("frozen_rank") and isinstance(self.earlier.taken_beside, str):
            self._pane.notice(self.earlier.taken_beside, "error")

    def refuse_field(self, key: str) -> None:
        """Says that a field of the form cannot be changed."""
        if self.earlier is not None:
            from tui_lab.recipes.recipe import FIELDS

            value = FIELDS[key].shown(self.taken[key])
            text = f"{key} = {value} comes from run {self.earlier.run.id} and cannot be changed."
            self._pane.notice(f"{text} {self._how_to_remove}", "warning")

    @property
    def _how_to_remove(self) -> str:
        keys = self._pane.keys("setup.fields"), self._pane.keys("form.reset")
        return f"{keys[0]}, then {keys[1]} on `go on from` removes it"

    def line(self, undo_removes: bool) -> str:
        """What the card says; "" for a recipe that starts from the base."""
        if self.earlier is None:
            return ""
        how = f"{self._pane.keys('setup.undo')} removes it" if undo_removes else self._how_to_remove
        rank = self._overrides().get("frozen_rank")
        beside = f" with a new adapter beside its rank {rank}" if rank else ""
        return f"goes on from {self.earlier.run.id}{beside} (stage {self.earlier.stage}) · {how}"


def _read(name: str) -> EarlierRun | str:
    from tui_lab.runs import stages

    try:
        return stages.earlier_run(name)
    except LabError as error:
        return str(error)
