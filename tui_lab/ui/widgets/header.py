"""The line at the top: the panes with their keys, and what is going on: model, preset, state of the run."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui_lab.safe_text import visible

#: Panes in the order of their keys: id, name, function key.
PANES = (
    ("choose", "Choose", "F2"),
    ("tune", "Tune", "F3"),
    ("compare", "Compare", "F4"),
    ("keep", "Keep", "F5"),
    ("runs", "Runs", "F6"),
)
#: Narrower windows do without the lab's name.
TITLE_COLUMNS = 84
#: A glyph for every state of a run: state is never told by colour alone.
STATE_GLYPHS = {
    "queued": "…",
    "created": "·",
    "starting": "◌",
    "running": "▶",
    "paused": "‖",
    "finished": "✓",
    "stopped": "■",
    "failed": "✗",
    "crashed": "✗",
}
STATE_ROLES = {
    "queued": "undecided",
    "starting": "state-running",
    "running": "state-running",
    "paused": "state-paused",
    "finished": "state-finished",
    "stopped": "state-finished",
    "failed": "state-failed",
    "crashed": "state-failed",
}


def state_text(state: str) -> str:
    """A run's state with its glyph."""
    return f"{STATE_GLYPHS.get(state, '·')} {state}"


class HeaderLine(Widget):
    """One line: panes on the left, the run on the right. Click a pane to go there."""

    DEFAULT_CSS = """
    HeaderLine { dock: top; height: 1; width: 100%; background: $panel; color: $foreground; }
    """
    status: reactive[tuple[str, str]] = reactive(("", ""))  # text, state

    def __init__(self, pane: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pane = pane

    def on_mount(self) -> None:
        self.watch(self.app, "run_line", self._take_status)

    def _take_status(self, status: tuple[str, str]) -> None:
        self.status = status

    def _left(self) -> list[tuple[str, str, str]]:
        """(text, style, pane) pieces of the left part."""
        # in a narrow window the state of the run says more than the lab's name
        pieces = [(" tui-lab ", "bold $primary", "")] if self.size.width >= TITLE_COLUMNS else []
        for pane, name, key in PANES:
            style = "bold reverse" if pane == self.pane else ""
            pieces += [(f" {key} {name} ", style, pane), (" ", "", "")]
        return pieces

    def render(self) -> Content:
        left = self._left()
        used = sum(len(text) for text, _, _ in left)
        text, state = self.status
        right = f"{visible(text)}  {state_text(state)}" if state else visible(text)
        room = self.size.width - used - 1
        if len(right) > room:
            right = right[: max(0, room - 1)] + "…" if room > 1 else ""
        gap = max(0, self.size.width - used - len(right) - 1)
        colour = f"${STATE_ROLES[state]}" if state in STATE_ROLES else ""
        return Content.assemble(
            *((text, style) for text, style, _ in left), " " * gap, (right, colour) if colour else right
        )

    async def on_click(self, event: events.Click) -> None:
        x = 0
        for text, _, pane in self._left():
            if x <= event.x < x + len(text) and pane:
                await self.app.run_action(f"pane('{pane}')")
            x += len(text)
