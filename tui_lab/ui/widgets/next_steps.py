"""What to do after a run has ended, as a line of buttons with their keys."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button

#: Key, label and action of the screen.
Step = tuple[str, str, str]


class NextSteps(Horizontal):
    """See the module's docstring. :meth:`show` sets the steps; without any the line takes no row."""

    DEFAULT_CSS = """
    NextSteps { height: 1; padding: 0 1; background: $surface; display: none; }
    NextSteps Button { width: auto; min-width: 0; height: 1; margin-right: 1; }
    """

    _shown: tuple[Step, ...] = ()

    def compose(self) -> ComposeResult:
        for key, label, action in self._shown:
            button = Button(f"{key} {label}", action=f"screen.{action}", compact=True)
            button.can_focus = False  # their keys work everywhere on the pane
            yield button

    def show(self, steps: Sequence[Step]) -> None:
        """Shows these steps; does nothing while they are the same."""
        if tuple(steps) == self._shown:
            return
        self._shown = tuple(steps)
        self.display = bool(steps)
        self.refresh(recompose=True)
