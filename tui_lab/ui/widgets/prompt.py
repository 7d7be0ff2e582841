"""The prompt: Enter sends it, Ctrl+J inserts a line feed, Escape goes to the lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textual import events
from textual.message import Message
from textual.widgets import TextArea

from tui_lab.ui.actions.registry import bindings, first_key, keys_now
from tui_lab.ui.terminal.textual_internals import keymap_of


class Prompt(TextArea):
    """See the module's docstring."""

    DEFAULT_CSS = """
    Prompt {
        height: 5; border: round $border-blurred; padding: 0 1; background: $background;
    }
    Prompt:focus { border: round $primary; }
    """

    BINDINGS = bindings("prompt")

    @dataclass
    class Sent(Message):
        """Enter was pressed."""

        text: str

    @dataclass
    class Left(Message):
        """Escape was pressed."""

    def __init__(self, text: str = "", **kwargs: Any) -> None:
        super().__init__(text, soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False, **kwargs)

    def on_mount(self) -> None:
        send, line = (first_key(each, keymap_of(self)) for each in ("prompt.send", "prompt.line"))
        self.placeholder = f"Type a prompt; {send} runs every lane on it, {line} makes a new line."

    async def _on_key(self, event: events.Key) -> None:
        actions = ("prompt.send", "prompt.line", "prompt.leave")
        own = {key for each in actions for key in keys_now(each, keymap_of(self))}
        if event.key in own and not event.is_printable:
            event.prevent_default()  # a binding, not text
        else:
            await super()._on_key(event)

    def action_new_line(self) -> None:
        self.insert("\n")

    def action_send(self) -> None:
        self.post_message(self.Sent(self.text))

    def action_leave(self) -> None:
        self.post_message(self.Left())
