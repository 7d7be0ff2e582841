"""The line that opens over a text or a list to search in it."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.widgets import Input, OptionList


class SearchLine(Input):
    """Hidden until :meth:`open_search`."""

    DEFAULT_CSS = """
    SearchLine, SearchLine:focus {
        display: none; height: 1; border: none; padding: 0 1; background: $boost;
    }
    SearchLine.-open, SearchLine.-open:focus { display: block; }
    """

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder)

    def open_search(self) -> None:
        """Shows the line and gives it the focus."""
        self.add_class("-open").focus()

    def close_search(self) -> bool:
        """Empties and hides the line; returns False if it was not open."""
        was_open = self.has_class("-open")
        self.value = ""
        self.remove_class("-open")
        return was_open

    def take_key(self, event: events.Key, rows: OptionList, show_all: Callable[[], object]) -> None:
        """While a filter is typed, the arrows move the cursor of its list; Escape shows all rows again, from
        the list too."""
        if event.key == "escape" and self.has_class("-open"):
            show_all()
        elif self.has_focus and rows.display and event.key in ("down", "up"):
            rows.action_cursor_down() if event.key == "down" else rows.action_cursor_up()
        else:
            return
        event.stop()
        event.prevent_default()
