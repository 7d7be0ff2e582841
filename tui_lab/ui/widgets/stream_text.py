"""Text that grows while it is shown. New text is wrapped as it arrives, and only the rows that changed are
drawn. Control characters become glyphs, markup is not interpreted, and long words are broken at the edge."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.terminal.output import PORTIONS, Paced, is_slow
from tui_lab.ui.terminal.textual_internals import call_after_layout

_WORDS = re.compile(r"\s+|\S+")
_HINT = Style(italic=True, dim=True)
_PROMINENT = Style(bold=True)
_MARKED = Style(bold=True, reverse=True)


class HeadPart(NamedTuple):
    """A part of the head of a text."""

    text: str
    prominent: bool = False


def wrap(text: str, width: int) -> list[str]:
    """``text`` (without line feeds) in lines of at most ``width`` cells, broken between words where possible.
    The joined lines are the text; blanks at a break stay at the end of a line, beyond the edge."""
    width = max(2, width)
    lines: list[str] = []
    line, used = "", 0
    for part in _WORDS.findall(text):
        size = cell_len(part)
        if part.isspace() or used + size <= width:
            line, used = line + part, used + size
            continue
        if line:
            lines.append(line)
        pieces = chop_cells(part, width) or [part]  # a word may have no width at all
        lines += pieces[:-1]
        line, used = pieces[-1], cell_len(pieces[-1])
    lines.append(line)
    return lines


class StreamText(ScrollView):
    """See the module's docstring. ``hint`` is shown while there is no text."""

    DEFAULT_CSS = """
    StreamText {
        background: $background; height: 1fr; overflow-x: hidden;
        scrollbar-size-vertical: 1; scrollbar-gutter: stable;
    }
    """
    can_focus = False

    def __init__(self, hint: str = "") -> None:
        super().__init__()
        self.hint = hint
        self.raw = ""
        self._lines: list[str] = []
        self._starts: list[int] = []  # of the lines of a text that has a mark: their first characters
        self._wrapped = 0  # width of the lines in cells; 0: not wrapped yet
        self._head: tuple[HeadPart, ...] = ()
        self._head_lines: list[bool] = []  # the lines of the head; whether each is prominent
        self._mark: tuple[int, int] | None = None
        self._grows = False
        self._shows_hint = False
        self._pending: list[str] = []  # text that is not drawn yet
        self._paced = Paced(self, PORTIONS, self.catch_up)
        self._follows = True  # scrolls with the end
        self._is_following = False  # the widget itself is scrolling
        self._drawn_with = Style()

    # ------------------------------------------------------------------ text

    def append(self, text: str) -> None:
        """Appends text. A hidden widget draws it later."""
        if not text:
            return
        self.raw += text
        if not self._wrapped:
            return
        self._pending.append(text)
        if self.is_on_screen:
            self._paced.want()

    def replace(self, text: str, hint: str | None = None, head: Sequence[HeadPart] | None = None) -> None:
        """Replaces the text, and the hint and the head if they are given. The head stands before the text and
        is no part of it."""
        self.raw, self._follows, self._mark = text, self._follows or not text, None
        if hint is not None:
            self.hint = hint
        if head is not None:
            self._head = tuple(head)
        self._wrap_all()

    def mark(self, place: tuple[int, int] | None) -> None:
        """Highlights the characters of the text from the first number up to the second; None for none."""
        if place is not None:
            place = tuple(len(sanitize(self.raw[:at], keep_newlines=True)) for at in place)  # type: ignore[assignment]
        if place != self._mark:
            self._mark = place
            self._wrap_all()

    @property
    def grows(self) -> bool:
        """Whether more text will follow. Meanwhile a slow link scrolls half a page at a time, because every
        row that scrolls is sent again."""
        return self._grows

    @grows.setter
    def grows(self, grows: bool) -> None:
        self._grows = grows
        if not grows and self._wrapped:
            self.catch_up()
            self._resized(len(self._lines))

    @property
    def is_on_screen(self) -> bool:
        """Whether the widget is laid out, displayed and on the current screen."""
        return self.size.width > 0 and self.display and self.screen.is_current

    def catch_up(self) -> None:
        """Wraps the pending text."""
        if not self._pending or not self.is_on_screen:
            return
        text, self._pending = "".join(self._pending), []
        if self._shows_hint:
            self._lines, self._shows_hint = [*self._lines[: len(self._head_lines)], ""], False
        changed_from = max(0, len(self._lines) - 1)
        last = self._lines.pop() if self._lines else ""
        for number, paragraph in enumerate(sanitize(text, keep_newlines=True).split("\n")):
            self._lines += wrap(last + paragraph if number == 0 else paragraph, self._wrapped)
        self._resized(changed_from)

    def _wrap_all(self) -> None:
        """Wraps all text to the current width."""
        self._pending = []
        width = self._text_width
        if width <= 0:
            self._wrapped = 0
            return
        above = sum(map(len, self._lines[: self.scroll_offset.y]))  # characters above the view
        self._wrapped = width
        self._lines, self._head_lines, self._starts = [], [], []
        for paragraph in self._head:
            for part in sanitize(paragraph.text, keep_newlines=True).split("\n"):
                lines = wrap(part, self._wrapped)
                self._lines += lines
                self._head_lines += [paragraph.prominent] * len(lines)
        start = 0
        for part in (sanitize(self.raw, keep_newlines=True) if self.raw else self.hint).split("\n"):
            for line in wrap(part, self._wrapped):
                self._lines.append(line)
                self._starts.append(start)
                start += len(line)
            start += 1
        self._shows_hint = not self.raw
        self._resized(0)
        if not self._follows:  # keep the same text in the first row
            ends = list(accumulate(map(len, self._lines)))
            self._move_to(bisect_right(ends, above))
        self.refresh()

    def _resized(self, changed_from: int) -> None:
        height, page = len(self._lines), self.size.height
        if self._grows and height > page and is_slow(self.app):
            half = max(1, page // 2)
            height = page + -(-(height - page) // half) * half
        if height != self.virtual_size.height:
            self._set_height(height)
            if self._follows and (self.raw or self._head):
                call_after_layout(self, self._to_end)
        first = max(0, changed_from - self.scroll_offset.y)
        rows = self.size.height - first
        if rows > 0:
            self.refresh(Region(0, first, self.size.width, rows))

    def _set_height(self, height: int) -> None:
        size = Size(self._wrapped, height)
        if self.show_vertical_scrollbar == (height > self.size.height):
            # the scrollbar stays as it is: setting the reactive would lay out the screen for each new line
            self.set_reactive(StreamText.virtual_size, size)
            self._scroll_update(size)
        else:
            self.virtual_size = size

    def _to_end(self) -> None:
        self._move_to(self.max_scroll_y)

    def _move_to(self, line: int) -> None:
        self._is_following = True
        self.scroll_to(y=line, animate=False, force=True, immediate=True)
        self._is_following = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._is_following:
            self._follows = round(new_value) >= self.max_scroll_y - 1

    # ------------------------------------------------------------------ drawing

    @property
    def _text_width(self) -> int:
        """The cells of a line: the column of the scrollbar is always free of text."""
        return self.scrollable_content_region.width if self.size.width > 0 else 0

    def on_resize(self) -> None:
        if self._text_width != self._wrapped:
            self._wrap_all()

    def on_show(self) -> None:
        self.catch_up()

    def render_lines(self, crop: Region) -> list[Strip]:
        self._drawn_with = self.rich_style  # computed from all ancestors: once, not for each line
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        plain = self._drawn_with
        at = y + self.scroll_offset.y
        text = self._lines[at].rstrip() if at < len(self._lines) else ""
        if at < len(self._head_lines):
            segments = [Segment(text, plain + _PROMINENT if self._head_lines[at] else plain)]
        elif self._mark is not None and self.raw:
            segments = self._marked(text, at - len(self._head_lines), plain)
        else:
            segments = [Segment(text, plain if self.raw else plain + _HINT)]
        return Strip(segments).adjust_cell_length(self.size.width, plain)

    def _marked(self, text: str, line: int, plain: Style) -> list[Segment]:
        """A line of the text with what of it is marked."""
        assert self._mark is not None
        start = self._starts[line] if line < len(self._starts) else 0
        first, last = (min(len(text), max(0, each - start)) for each in self._mark)
        parts = ((text[:first], plain), (text[first:last], plain + _MARKED), (text[last:], plain))
        return [Segment(part, style) for part, style in parts if part]
