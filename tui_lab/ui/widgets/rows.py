"""A widget that shows rows of text, and redraws only those that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui_lab.ui.terminal.themes import role_style
from tui_lab.ui.views.spans import InspectorSpan, TextSpan

_REVERSE = Style(reverse=True)

#: Spans of one row: text and role, and whether it is highlighted.
StyledRow = Sequence[TextSpan | InspectorSpan]


class RowsWidget(Widget):
    """Rows of spans. :meth:`set_rows` replaces them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows_sent = 0  # rows redrawn so far, for tests and benchmarks
        self._rows: Sequence[StyledRow] = ()
        self._strips: dict[int, Strip] = {}

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._recolour())

    @property
    def text(self) -> str:
        """The rows without colours."""
        return "\n".join("".join(span[0] for span in row) for row in self._rows)

    def set_rows(self, rows: Sequence[StyledRow]) -> None:
        """Shows these rows."""
        old, self._rows = self._rows, rows
        changed = [y for y, row in enumerate(rows) if y >= len(old) or old[y] != row]
        self.rows_sent += len(changed)
        for y in changed:
            self._strips.pop(y, None)
        if len(old) != len(rows):
            self._recolour()
        elif changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _recolour(self) -> None:
        self._strips.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def render_line(self, y: int) -> Strip:
        if (strip := self._strips.get(y)) is not None:
            return strip
        base, width, variables = self.rich_style, self.size.width, self.app.theme_variables
        if y >= len(self._rows):
            return Strip.blank(width, base)
        segments = []
        for text, role, *highlighted in self._rows[y]:
            style = base + role_style(variables, role) if role else base
            segments.append(Segment(text, style + _REVERSE if any(highlighted) else style))
        self._strips[y] = strip = Strip(segments).adjust_cell_length(width, base)
        return strip
