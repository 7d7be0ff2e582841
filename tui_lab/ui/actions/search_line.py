"""The line that opens over a text or a list to search in it."""

from __future__ import annotations

from textual.widgets import Input


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
