"""The base of all modal screens."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding
from textual.screen import ModalScreen, ScreenResultType

from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.lab import Lab, lab_of
from tui_lab.ui.terminal.remappable_screen import DismissedOnce, RemappableScreen


class Modal(DismissedOnce, RemappableScreen, ModalScreen[ScreenResultType]):
    """A screen above a pane. ``GROUP`` is its group in the registry of actions; subclasses set
    ``BINDINGS = bindings(GROUP)``. The cheat sheet and the app's function keys work on all of them."""

    GROUP: ClassVar[str] = ""
    BINDINGS = [  # noqa: RUF012
        Binding("question_mark", "app.open('cheat_sheet')", "Keys", show=False, id="app.keys")
    ]

    @property
    def lab(self) -> Lab:
        return lab_of(self)

    def keys(self, action_id: str) -> str:
        """The first key of an action."""
        return first_key(action_id, self.keymap)
