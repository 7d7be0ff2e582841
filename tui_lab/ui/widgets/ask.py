"""Asks for one line of text: a folder, a file, a hub name."""

from __future__ import annotations

from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.actions.screens import Over


class AskText(Over[str | None]):
    """One line; Enter gives it, Escape gives nothing: "", or None where no text is an answer, too."""

    DEFAULT_CSS = """
    AskText { align: center middle; }
    AskText > Vertical {
        width: 76; max-width: 95%; height: auto; padding: 1 2; background: $panel; border: round $primary;
    }
    AskText Static { width: 1fr; height: auto; }
    AskText Input { margin-top: 1; }
    """
    GROUP = "ask"
    BINDINGS = bindings("ask")

    def __init__(
        self, question: str, value: str = "", placeholder: str = "", can_be_empty: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.question, self.value, self.placeholder = question, value, placeholder
        self.can_be_empty = can_be_empty

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self.question))
            yield Input(self.value, placeholder=self.placeholder)
            yield Static(Content(f"Enter takes it, {self.keys('ask.leave')} leaves it"), classes="keys")

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss(None if self.can_be_empty else "")
