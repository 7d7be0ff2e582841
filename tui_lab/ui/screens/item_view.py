"""One item of a suite: its choices, and the probability of each before and after the fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui_lab.retention.results import SuiteResult
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views import retention


class ItemView(Modal[None]):
    """Left and right go to the item before and after; Escape closes."""

    DEFAULT_CSS = """
    ItemView { align: center middle; }
    ItemView > VerticalScroll {
        width: 96; max-width: 100%; height: auto; max-height: 90%; padding: 0 2; background: $panel;
        border: round $primary;
    }
    ItemView Static { width: 1fr; height: auto; }
    """
    GROUP = "item"
    BINDINGS = bindings("item")

    def __init__(self, result: SuiteResult, indices: Sequence[int], at: int) -> None:
        super().__init__()
        self.result, self.indices, self.at = result, list(indices), at

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_subtitle = (
                f"{self.keys('item.before')} {self.keys('item.next')} other items, "
                f"{self.keys('item.close')} closes"
            )
            yield Static()

    def on_mount(self) -> None:
        self._draw()

    def _draw(self) -> None:
        width = min(96, self.app.size.width) - 8
        self.query_one(Static).update(retention.item(self.result, self.indices[self.at], width))
        self.query_one(VerticalScroll).border_title = f"Item {self.at + 1} of {len(self.indices)}"

    def action_turn(self, by: int) -> None:
        self.at = (self.at + by) % len(self.indices)
        self._draw()
