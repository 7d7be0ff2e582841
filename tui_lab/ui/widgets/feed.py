"""A list of texts that only grows: events of a run, samples of a model. It keeps the newest few hundred,
follows the end unless one has scrolled up, wraps anew when its width changes, and shows text from models
and data as text: control characters become glyphs, markup stays what was written."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Self

from rich.text import Text
from textual import events
from textual.widgets import RichLog

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.terminal.themes import role_style
from tui_lab.ui.views.spans import TextSpan

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
        self.entries: deque[tuple[TextSpan, ...]] = deque(maxlen=kept)
        self._width = 0
        self._follows = True  # the end, until somebody scrolls back
        self._stale = False  # something was written while there was no width
        self._begins: list[int] = []  # of each entry the first line, counted from the first ever written

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self.rewrite())
        self._show_empty()

    def add(self, parts: Iterable[TextSpan]) -> None:
        """One more entry."""
        entry = tuple(parts)
        if not self.entries:
            self.clear()
        self.entries.append(entry)
        self.write(self._text(entry), scroll_end=self.auto_scroll and self._follows)

    def replace(self, entries: Sequence[Iterable[TextSpan]]) -> None:
        """Other entries: another run is shown."""
        self.entries.clear()
        self.entries.extend(tuple(entry) for entry in entries)
        self.rewrite()

    def bring(self, entries: Sequence[tuple[TextSpan, ...]]) -> None:
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
        """Writes all entries again, for another width or theme, and stays where one reads."""
        at_end = self.auto_scroll and self._follows
        place = self._place()
        self.clear()
        if not self.entries:
            self._show_empty()
        for entry in self.entries:
            self.write(self._text(entry), scroll_end=at_end)
        if not at_end:
            self._go_to(place)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._follows = round(new_value) >= self.max_scroll_y - 1

    def write(self, content: Any, *args: Any, **more: Any) -> Self:
        if self._size_known and not self.size.width:
            self._stale = True  # it is hidden: there is no width to wrap for
        begins = self._start_line + len(self.lines)
        super().write(content, *args, **more)
        if self._size_known:  # else it is kept, and comes again
            self._begins.append(begins)
        return self

    def clear(self) -> Self:
        self._begins.clear()
        return super().clear()

    def _span(self, entry: int) -> tuple[int, int]:
        """The first line of an entry, and how many it has."""
        begins = [*self._begins, self._start_line + len(self.lines)]
        return begins[entry] - self._start_line, max(1, begins[entry + 1] - begins[entry])

    def _place(self) -> tuple[int, float]:
        """What the first row shows: which entry, and how far into it."""
        top = self.scroll_offset.y
        entry = bisect_right(self._begins, top + self._start_line) - 1
        if entry < 0:
            return 0, 0.0
        first, lines = self._span(entry)
        return entry, (top - first) / lines

    def _go_to(self, place: tuple[int, float]) -> None:
        entry, share = place
        if entry < len(self._begins):
            first, lines = self._span(entry)
            self.scroll_to(y=max(0, first + round(share * lines)), animate=False, force=True, immediate=True)

    @property
    def text(self) -> str:
        """What is shown, without styles."""
        return "\n".join(self._text(entry).plain for entry in self.entries) or self.empty

    def _show_empty(self) -> None:
        if self.empty:
            self.write(Text(self.empty, style="italic"))

    def _text(self, entry: Sequence[TextSpan]) -> Text:
        variables = self.app.theme_variables
        text = Text(end="")
        for part, role in entry:
            text.append(
                sanitize(part, keep_newlines=True), style=role_style(variables, role) if role else None
            )
        return text

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width and (event.size.width != self._width or self._stale):
            first = self._width == 0
            self._width = event.size.width
            self._stale = False
            if not first:
                self.rewrite()
