"""The line over Choose's lists: which is shown, what is chosen in each, and the key that leads there."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.content import Content
from textual.widget import Widget

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import first_key

#: Choose's lists, each with its title and an action ``choose.<id>`` that shows it.
SECTIONS = (("models", "Model"), ("presets", "Preset"), ("data", "Data"), ("fields", "Fields"))


class ChooseTabs(Widget):
    """One line that says which list is shown and what is chosen in each."""

    DEFAULT_CSS = "ChooseTabs { height: 1; width: 100%; background: $surface; }"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.active = "models"
        self.chosen: dict[str, str] = {}

    def _pieces(self) -> list[tuple[str, str, str]]:
        short = self.size.width < 72
        room = max(4, (self.size.width - (24 if short else 48)) // 3)
        pieces = []
        for name, title in SECTIONS:
            chosen = sanitize(self.chosen.get(name, ""))
            if len(chosen) > room:
                chosen = chosen[: room - 1] + "…"
            words = chosen or title if short else f"{title}: {chosen}" if chosen else title
            key = first_key(f"choose.{name}", self.app._keymap)
            text = f" {key} {words} "
            pieces.append((text, "bold reverse" if name == self.active else "", name))
        return pieces

    def render(self) -> Content:
        return Content(" ").join(Content.styled(text, style) for text, style, _ in self._pieces())

    def jump_places(self) -> list[tuple[int, str]]:
        """Where each list's tab begins, and what shows it."""
        found, x = [], 0
        for text, _, name in self._pieces():
            found.append((x, f"show('{name}')"))
            x += len(text) + 1
        return found

    async def on_click(self, event: events.Click) -> None:
        x = 0
        for text, _, name in self._pieces():
            if x <= event.x < x + len(text):
                await self.screen.run_action(f"show('{name}')")
            x += len(text) + 1
