"""One item of a suite: its choices, and the probability of each before and after the fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.widgets import Static

from tui_lab.retention.results import SuiteResult
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views import retention


class ItemView(Dialog[None]):
    """Left and right go to the item before and after; Escape closes."""

    DEFAULT_CSS = "ItemView > .dialog { width: 96; padding: 0 2; }"
    GROUP = "item"
    SCROLLS = True
    BINDINGS = bindings("item")

    def __init__(self, result: SuiteResult, indices: Sequence[int], at: int) -> None:
        super().__init__()
        self.result, self.indices, self.at = result, list(indices), at

    def hint(self) -> str:
        before, after, close = (self.keys(f"item.{each}") for each in ("before", "next", "close"))
        return f"{before} {after} other items, {close} closes"

    def compose_body(self) -> ComposeResult:
        yield Static()

    def on_mount(self) -> None:
        self.action_turn(0)

    def action_turn(self, by: int) -> None:
        self.at = (self.at + by) % len(self.indices)
        self.heading = f"Item {self.at + 1} of {len(self.indices)}"
        self.frame()
        width = min(96, self.app.size.width) - 8
        self.query_one(Static).update(retention.item(self.result, self.indices[self.at], width))
