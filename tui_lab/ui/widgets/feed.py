"""A list of texts that only grows: events of a run, samples of a model. It keeps the newest few hundred,
follows the end unless one has scrolled up, wraps anew when its width changes, and shows text from models
and data as text: control characters become glyphs, markup stays what was written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text
from textual import events
from textual.widgets import RichLog

from tui_lab.safe_text import visible
from tui_lab.ui.themes import role_style

#: Text and the semantic name that colours it ("" for plain).
Part = tuple[str, str]
KEPT = 500


class Feed(RichLog):
    """Texts, the newest at the end. ``add`` takes parts: (text, role)."""

    DEFAULT_CSS = """
    Feed { background: $background; height: 1fr; scrollbar-size-vertical: 1; padding: 0 1; }
    Feed:focus { background: $surface; background-tint: $foreground 0%; }
    """

    def __init__(self, empty: str = "", kept: int = KEPT, **kwargs: Any) -> None:
        super().__init__(max_lines=kept * 8, wrap=True, markup=False, highlight=False, min_width=10, **kwargs)
        self.empty = empty
        self.entries: deque[tuple[Part, ...]] = deque(maxlen=kept)
        self._width = 0

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self.rewrite())
        self._show_empty()

    def add(self, parts: Iterable[Part]) -> None:
        """One more entry."""
        entry = tuple(parts)
        if not self.entries:
            self.clear()
        self.entries.append(entry)
        self.write(self._text(entry), scroll_end=self.is_vertical_scroll_end)

    def replace(self, entries: Sequence[Iterable[Part]]) -> None:
        """Other entries: another run is shown."""
        self.entries.clear()
        self.entries.extend(tuple(entry) for entry in entries)
        self.rewrite()

    def bring(self, entries: Sequence[tuple[Part, ...]]) -> None:
        """The entries as they are now: adds what is new; writes all anew when what was there has changed."""
        known, entries = list(self.entries), list(entries)
        for gone in range(len(known)):  # the oldest may have made room
            if entries and known[gone] == entries[0] and known[gone:] == entries[: len(known) - gone]:
                for entry in entries[len(known) - gone :]:
                    self.add(entry)
                return
        if known or entries:
            self.replace(entries)

    def rewrite(self) -> None:
        """Writes all entries again, for another width or theme."""
        self.clear()
        if not self.entries:
            self._show_empty()
        for entry in self.entries:
            self.write(self._text(entry), scroll_end=self.auto_scroll)

    @property
    def text(self) -> str:
        """What is shown, without styles."""
        return "\n".join(self._text(entry).plain for entry in self.entries) or self.empty

    def _show_empty(self) -> None:
        if self.empty:
            self.write(Text(self.empty, style="italic"))

    def _text(self, entry: Sequence[Part]) -> Text:
        variables = self.app.theme_variables
        text = Text(end="")
        for part, role in entry:
            text.append(
                visible(part, keep_newlines=True), style=role_style(variables, role) if role else None
            )
        return text

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width != self._width:
            first = self._width == 0
            self._width = event.size.width
            if not first:
                self.rewrite()
