"""One item of several, whole: of a suite, of the votes, of predictions."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings


class ItemView(Dialog[None]):
    """Left and right go to the item before and after; Escape closes."""

    DEFAULT_CSS = "ItemView > .dialog { width: 96; padding: 0 2; }"
    GROUP = "item"
    SCROLLS = True
    BINDINGS = bindings("item")

    def __init__(self, draw: Callable[[int, int], Content], count: int, at: int, name: str = "Item") -> None:
        """``draw``: an item by its index and the cells of a line."""
        super().__init__()
        self._draw, self._count, self.at, self._name_of_one = draw, count, at, name

    def hint(self) -> str:
        before, after, close = (self.keys(f"item.{each}") for each in ("before", "next", "close"))
        return f"{before} {after} others, {close} closes"

    def compose_body(self) -> ComposeResult:
        yield Static()

    def on_mount(self) -> None:
        self.action_turn(0)

    def action_turn(self, by: int) -> None:
        self.at = (self.at + by) % self._count
        self.heading = f"{self._name_of_one} {self.at + 1} of {self._count}"
        self.frame()
        self.query_one(".dialog").scroll_home(animate=False)
        self.query_one(Static).update(self._draw(self.at, min(96, self.app.size.width) - 8))
