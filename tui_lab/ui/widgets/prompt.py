"""The prompt: Enter sends it, Ctrl+J makes a new line, Escape leaves it for the lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea


class Prompt(TextArea):
    """See the module's docstring."""

    DEFAULT_CSS = """
    Prompt { height: 5; border: round $panel-lighten-2; padding: 0 1; background: $background; }
    Prompt:focus { border: round $primary; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Run"),
        Binding("escape", "leave", "Lanes"),
    ]

    @dataclass
    class Sent(Message):
        """Enter was pressed."""

        text: str

    @dataclass
    class Left(Message):
        """Escape was pressed."""

    def __init__(self, text: str = "", **kwargs: Any) -> None:
        super().__init__(text, soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False, **kwargs)
        self.placeholder = "Type a prompt; Enter runs every lane on it, Ctrl+J makes a new line."

    async def _on_key(self, event: events.Key) -> None:
        if event.key in ("enter", "escape"):
            event.prevent_default()  # these are bindings, not text
        elif event.key in ("ctrl+j", "shift+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
        else:
            await super()._on_key(event)

    def action_send(self) -> None:
        self.post_message(self.Sent(self.text))

    def action_leave(self) -> None:
        self.post_message(self.Left())
