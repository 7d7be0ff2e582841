"""The line that says which part of a pane is shown, in a window that cannot show all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import events
from textual.content import Content
from textual.widget import Widget


class TabsLine(Widget):
    """One line of (id, title); a click runs the screen's action ``tab(id)``."""

    DEFAULT_CSS = "TabsLine { height: 1; width: 100%; background: $surface; }"

    def __init__(self, tabs: Sequence[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tabs = tuple(tabs)
        self.active = self.tabs[0][0]

    @property
    def _padding(self) -> str:
        """Around each title, where there is room."""
        return " " if self.size.width >= sum(len(title) + 3 for _, title in self.tabs) else ""

    def render(self) -> Content:
        pad = self._padding
        return Content(" ").join(
            Content.styled(f"{pad}{title}{pad}", "bold reverse" if name == self.active else "")
            for name, title in self.tabs
        )

    def show(self, name: str) -> None:
        """Makes ``name`` the active tab: of the screen's parts only the one of that id is shown."""
        self.active = name
        self.refresh()
        for part in self.screen.query(".part"):
            part.set_class(part.id == name, "-active")

    def turn(self, by: int) -> str:
        """The tab ``by`` places further, round and round."""
        names = [name for name, _ in self.tabs]
        return names[(names.index(self.active) + by) % len(names)]

    def jump_places(self) -> list[tuple[int, str]]:
        """Before each title, and what shows its tab."""
        found, x = [], 0
        for name, title in self.tabs:
            found.append((x if self._padding else x - 1, f"tab('{name}')"))
            x += len(title) + 2 * len(self._padding) + 1
        return found

    async def on_click(self, event: events.Click) -> None:
        x, around = 0, 2 * len(self._padding)
        for name, title in self.tabs:
            if x <= event.x < x + len(title) + around:
                await self.screen.run_action(f"tab('{name}')")
            x += len(title) + around + 1
