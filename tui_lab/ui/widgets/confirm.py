"""A question before something that cannot be taken back."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.actions.screens import Over


class Confirm(Over[bool]):
    """Asks with a sentence or two; y or Enter is yes, n or Escape is no."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 64; max-width: 90%; height: auto; padding: 1 2; background: $panel; border: round $primary;
    }
    Confirm Static { width: 1fr; height: auto; }
    Confirm .keys { margin-top: 1; text-style: bold; }
    """
    GROUP = "confirm"
    BINDINGS = bindings("confirm")

    def __init__(self, question: str, yes: str = "yes", no: str = "no", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.question, self.yes, self.no = question, yes, no

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(sanitize(self.question, keep_newlines=True)))
            yes, no = (self.keys(f"confirm.{each}") for each in ("yes", "no"))
            yield Static(Content(f"[{yes}] {self.yes}    [{no}] {self.no}"), classes="keys")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)
