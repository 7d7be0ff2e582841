"""A growing list of texts, such as the events of a run or samples of a model. It keeps the newest few
hundred, follows the end unless the user has scrolled up, and wraps again when its width changes. Control
characters become glyphs, and markup is not interpreted."""

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

MAX_ENTRIES = 500


class Feed(RichLog):
    """Entries of (text, role) spans, the newest at the end."""

    DEFAULT_CSS = """
    Feed { background: $background; height: 1fr; scrollbar-size-vertical: 1; padding: 0 1; }
    Feed:focus { background: $surface; background-tint: $foreground 0%; }
    """

    def __init__(self, empty: str = "", max_entries: int = MAX_ENTRIES, *, auto_scroll: bool = True) -> None:
        super().__init__(
            max_lines=max_entries * 8,
            wrap=True,
            markup=False,
            highlight=False,
            min_width=10,
            auto_scroll=auto_scroll,
        )
        self.empty = empty
        self.entries: deque[tuple[TextSpan, ...]] = deque(maxlen=max_entries)
        self._width = 0
        self._follows = True  # scrolls with the end
        self._stale = False  # an entry was written while the widget had no width
        self._begins: list[int] = []  # first line of each entry, counted from the first ever written

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self.rewrite())
        self._show_empty()

    def add(self, spans: Iterable[TextSpan]) -> None:
        """Appends an entry."""
        entry = tuple(spans)
        if not self.entries:
            self.clear()
        self.entries.append(entry)
        self.write(self._text(entry), scroll_end=self.auto_scroll and self._follows)

    def replace(self, entries: Sequence[Iterable[TextSpan]]) -> None:
        """Replaces all entries."""
        self.entries.clear()
        self.entries.extend(tuple(entry) for entry in entries)
        self.rewrite()

    def update_entries(self, entries: Sequence[tuple[TextSpan, ...]]) -> None:
        """Shows these entries. New ones are appended; everything is rewritten only when earlier ones
        differ."""
        old, entries = list(self.entries), list(entries)
        for dropped in range(len(old)):  # the oldest may have been dropped
            if entries and old[dropped] == entries[0] and old[dropped:] == entries[: len(old) - dropped]:
                for entry in entries[len(old) - dropped :]:
                    self.add(entry)
                return
        if old or entries:
            self.replace(entries)

    def rewrite(self) -> None:
        """Writes all entries again, for another width or theme, and keeps the scroll position."""
        at_end = self.auto_scroll and self._follows
        position = self._position()
        self.clear()
        if not self.entries:
            self._show_empty()
        for entry in self.entries:
            self.write(self._text(entry), scroll_end=at_end)
        if not at_end:
            self._scroll_to_position(position)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._follows = round(new_value) >= self.max_scroll_y - 1

    def write(self, content: Any, *args: Any, **more: Any) -> Self:
        if self._size_known and not self.size.width:
            self._stale = True  # hidden: there is no width to wrap for
        begins = self._start_line + len(self.lines)
        super().write(content, *args, **more)
        if self._size_known:  # else RichLog writes it later
            self._begins.append(begins)
        return self

    def clear(self) -> Self:
        self._begins.clear()
        return super().clear()

    def _span(self, entry: int) -> tuple[int, int]:
        """(first line, number of lines) of an entry."""
        begins = [*self._begins, self._start_line + len(self.lines)]
        return begins[entry] - self._start_line, max(1, begins[entry + 1] - begins[entry])

    def _position(self) -> tuple[int, float]:
        """The top of the view: (entry, share of the entry above it)."""
        top = self.scroll_offset.y
        entry = bisect_right(self._begins, top + self._start_line) - 1
        if entry < 0:
            return 0, 0.0
        first, lines = self._span(entry)
        return entry, (top - first) / lines

    def _scroll_to_position(self, position: tuple[int, float]) -> None:
        entry, share = position
        if entry < len(self._begins):
            first, lines = self._span(entry)
            self.scroll_to(y=max(0, first + round(share * lines)), animate=False, force=True, immediate=True)

    @property
    def text(self) -> str:
        """The text without styles."""
        return "\n".join(self._text(entry).plain for entry in self.entries) or self.empty

    def _show_empty(self) -> None:
        if self.empty:
            self.write(Text(self.empty, style="italic"))

    def _text(self, entry: Sequence[TextSpan]) -> Text:
        variables = self.app.theme_variables
        text = Text(end="")
        for span, role in entry:
            text.append(
                sanitize(span, keep_newlines=True), style=role_style(variables, role) if role else None
            )
        return text

    def on_resize(self, event: events.Resize) -> None:
        if event.size.width and (event.size.width != self._width or self._stale):
            first = self._width == 0
            self._width = event.size.width
            self._stale = False
            if not first:
                self.rewrite()
