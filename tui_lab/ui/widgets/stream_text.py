"""Text that grows while it is shown: wrapped as it comes, only the last line again, and only the rows that
changed are drawn. Text of a model is shown as text: control characters as glyphs, markup as written, wide
characters by their width, words without end broken at the edge."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.terminal.output import PORTIONS, Paced, is_slow

_PARTS = re.compile(r"\s+|\S+")
_HINT = Style(italic=True, dim=True)


def wrap(text: str, width: int) -> list[str]:
    """``text`` (without line feeds) in lines of at most ``width`` cells, broken between words where that is
    possible. Joined again, the lines are the text; blanks at a break hang over the edge, unseen."""
    width = max(2, width)
    lines: list[str] = []
    line, used = "", 0
    for part in _PARTS.findall(text):
        size = cell_len(part)
        if part.isspace() or used + size <= width:
            line, used = line + part, used + size
            continue
        if line:
            lines.append(line)
        pieces = chop_cells(part, width) or [part]  # a part may have no width at all
        lines += pieces[:-1]
        line, used = pieces[-1], cell_len(pieces[-1])
    lines.append(line)
    return lines


class StreamText(ScrollView):
    """See the module's docstring. ``append`` takes more text, ``replace`` other text."""

    DEFAULT_CSS = """
    StreamText { background: $background; height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    """
    can_focus = False

    def __init__(self, hint: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hint = hint  # shown while there is no text
        self.raw = ""
        self._lines: list[str] = []
        self._wrapped = 0  # width that the lines are wrapped to; 0: they must be made anew
        self._grows = False
        self._hints = False  # the lines are the hint's
        self._pending: list[str] = []  # not drawn yet
        self._paced = Paced(self, PORTIONS, self.catch_up)
        self._follows = True  # the end, until somebody scrolls back
        self._following = False  # it is moving by itself
        self._drawn_with = Style()

    # ------------------------------------------------------------------ text

    def append(self, text: str) -> None:
        """More text at the end. While the widget is hidden it is only kept."""
        if not text:
            return
        self.raw += text
        if not self._wrapped:
            return
        self._pending.append(text)
        if self.is_on_screen:
            self._paced.want()

    def replace(self, text: str, hint: str | None = None) -> None:
        """Other text."""
        self.raw, self._follows = text, self._follows or not text
        if hint is not None:
            self.hint = hint
        self._anew()

    @property
    def grows(self) -> bool:
        """Whether more is to come. Meanwhile a slow link scrolls half a page at a time: every row that
        scrolls is sent again."""
        return self._grows

    @grows.setter
    def grows(self, grows: bool) -> None:
        self._grows = grows
        if not grows and self._wrapped:
            self.catch_up()
            self._resized(len(self._lines))

    @property
    def is_on_screen(self) -> bool:
        """Whether somebody can see it: laid out, displayed, on the screen that is shown."""
        return self.size.width > 0 and self.display and self.screen.is_current

    def catch_up(self) -> None:
        """Wraps what came since it was drawn."""
        if not self._pending or not self.is_on_screen:
            return
        text, self._pending = "".join(self._pending), []
        if self._hints:
            self._lines, self._hints = [""], False
        changed_from = max(0, len(self._lines) - 1)
        last = self._lines.pop() if self._lines else ""
        for number, paragraph in enumerate(sanitize(text, keep_newlines=True).split("\n")):
            self._lines += wrap(last + paragraph if number == 0 else paragraph, self._wrapped)
        self._resized(changed_from)

    def _anew(self) -> None:
        """Wraps everything for the width that there is now."""
        self._pending = []
        if self.size.width <= 0:
            self._wrapped = 0
            return
        read = sum(map(len, self._lines[: self.scroll_offset.y]))  # characters before the first row
        self._wrapped = self.size.width
        shown = sanitize(self.raw, keep_newlines=True) if self.raw else self.hint
        self._lines = [line for part in shown.split("\n") for line in wrap(part, self._wrapped)]
        self._hints = not self.raw
        self._resized(0)
        if not self._follows:  # somebody reads: the same words stay in the first row
            ends = list(accumulate(map(len, self._lines)))
            self._move_to(bisect_right(ends, read))
        self.refresh()

    def _resized(self, changed_from: int) -> None:
        height, page = len(self._lines), self.size.height
        if self._grows and height > page and is_slow(self.app):
            half = max(1, page // 2)
            height = page + -(-(height - page) // half) * half
        if height != self.virtual_size.height:
            self._set_height(height)
            if self._follows and self.raw:
                self.call_after_refresh(self._to_end)
        first = max(0, changed_from - self.scroll_offset.y)
        rows = self.size.height - first
        if rows > 0:
            self.refresh(Region(0, first, self.size.width, rows))

    def _set_height(self, height: int) -> None:
        size = Size(self._wrapped, height)
        if self.show_vertical_scrollbar == (height > self.size.height):
            # no bar comes or goes: as a reactive it would lay out the whole screen for each new line
            self.set_reactive(StreamText.virtual_size, size)
            self._scroll_update(size)
        else:
            self.virtual_size = size

    def _to_end(self) -> None:
        self._move_to(self.max_scroll_y)

    def _move_to(self, line: int) -> None:
        self._following = True
        self.scroll_to(y=line, animate=False, force=True, immediate=True)
        self._following = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._following:
            self._follows = round(new_value) >= self.max_scroll_y - 1

    # ------------------------------------------------------------------ drawing

    def on_resize(self, event: events.Resize) -> None:
        # a scroll bar that comes or goes changes the width too
        if self.size.width != self._wrapped:
            self._anew()

    def on_show(self) -> None:
        self.catch_up()

    def render_lines(self, crop: Region) -> list[Strip]:
        self._drawn_with = self.rich_style  # from all that it lies in: once, not for each line
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        plain = self._drawn_with
        style = plain if self.raw else plain + _HINT
        at = y + self.scroll_offset.y
        text = self._lines[at].rstrip() if at < len(self._lines) else ""
        return Strip([Segment(text, style)]).adjust_cell_length(self.size.width, plain)
