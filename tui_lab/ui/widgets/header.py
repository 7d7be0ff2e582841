"""The header line: the panes with their keys, and the model, preset and state of the run."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.keys import key_name
from tui_lab.ui.actions.registry import keys_now
from tui_lab.ui.lab import lab_of
from tui_lab.ui.terminal.output import is_slow
from tui_lab.ui.terminal.textual_internals import keymap_of
from tui_lab.ui.views.states import run_state, state_text

#: Panes in the order of their keys: id, name.
PANES = (
    ("setup", "Setup"),
    ("train", "Train"),
    ("playground", "Playground"),
    ("retention", "Retention"),
    ("runs", "Runs"),
)
#: Narrower windows do without the lab's name, and without the blanks around the panes' names.
TITLE_COLUMNS, ROOMY_COLUMNS = 110, 100


def fitted(text: str, state: str, width: int) -> str:
    """The run's name and state in at most ``width`` cells. Words are dropped from the left: the state is the
    most important, then the step."""
    parts = text.split()
    tail = state_text(state) if state else ""
    for dropped in range(len(parts) + 1):
        rest = " ".join(parts[dropped:]).removeprefix("· ")
        shown = f"{rest}  {tail}" if rest and tail else rest or tail
        if len(shown) <= width and rest != "·":
            return shown
    return tail[:1] if width >= 1 else ""


class HeaderLine(Widget):
    """Panes on the left, the run on the right. A click on a pane goes there."""

    DEFAULT_CSS = """
    HeaderLine { dock: top; height: 1; width: 100%; background: $panel; color: $foreground; }
    """
    status: reactive[tuple[str, str]] = reactive(("", ""))  # text, state

    def __init__(self, pane: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pane = pane

    def on_mount(self) -> None:
        self.watch(self.app, "run_line", self._show_status)
        if hasattr(self.app, "slow_link"):
            self.watch(self.app, "slow_link", self._draw_again, init=False)

    def _draw_again(self) -> None:
        self.refresh()

    def _show_status(self, status: tuple[str, str]) -> None:
        self.status = status

    def _left(self) -> list[tuple[str, str, str]]:
        """(text, style, pane) pieces of the left part."""
        width = self.size.width
        # in a narrow window the state of the run is more important than the lab's name
        pieces = [(" tui-lab ", "bold $primary", "")] if width >= TITLE_COLUMNS else []
        pad = " " if width >= ROOMY_COLUMNS else ""
        for pane, name in PANES:
            style = "bold reverse" if pane == self.pane else ""
            keys = [key_name(each) for each in keys_now(f"app.{pane}", keymap_of(self))]
            key = next((each for each in keys if len(each) == 1), "".join(keys[:1]))  # the digit first
            pieces += [(f"{pad}{key} {name}{pad}" if key else f"{pad}{name}{pad}", style, pane)]
            pieces += [(" ", "", "")]
        return pieces

    def render(self) -> Content:
        left = self._left()
        used = sum(len(text) for text, _, _ in left)
        text, state = self.status
        free = self.size.width - used - 1
        mark = ("slow link  " if free > 20 else "slow ")[: max(0, free)] if is_slow(self.app) else ""
        right = mark + fitted(sanitize(text), state, free - len(mark))
        gap = max(0, self.size.width - used - len(right) - 1)
        role = run_state(state).role
        colour = f"${role}" if role else ""
        return Content.assemble(
            *((text, style) for text, style, _ in left), " " * gap, (right, colour) if colour else right
        )

    def jump_places(self) -> list[tuple[int, str]]:
        """(cell, action) of every pane, for jump mode."""
        found, x = [], 0
        for text, _, pane in self._left():
            if pane:
                found.append((x if text.startswith(" ") else x - 1, f"app.pane('{pane}')"))
            x += len(text)
        return found

    async def on_click(self, event: events.Click) -> None:
        x = 0
        for text, _, pane in self._left():
            if x <= event.x < x + len(text) and pane:
                lab_of(self).show_pane(pane, event.time)
            x += len(text)
