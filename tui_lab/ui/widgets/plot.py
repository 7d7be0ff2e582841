"""A plot on the screen. It draws only when its data, size or options changed, at most a few times a second
and never while hidden, and redraws only the rows that differ."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from tui_lab.ui.terminal.output import PLOT
from tui_lab.ui.views.plot_draw import PlotOptions, PlotRow, PlotSeries, draw, plain


class Plot(Widget):
    """Curves, drawn with plotext. :meth:`show` gives it data."""

    DEFAULT_CSS = """
    Plot { width: 1fr; height: 1fr; min-height: 5; }
    """

    def __init__(
        self, options: PlotOptions | None = None, *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.options = options or PlotOptions()
        self._series: Callable[[], Sequence[PlotSeries]] = tuple
        self.builds = 0  # drawings so far, for tests and benchmarks
        self.rows_sent = 0  # rows redrawn so far
        self._rows: list[PlotRow] = []
        self._strips: dict[int, Strip] = {}
        self._version: object = None
        self._dirty = True
        self._drawn_at = -math.inf
        self._timer: Timer | None = None

    # ------------------------------------------------------------------ data

    def show(self, series: Callable[[], Sequence[PlotSeries]], version: object) -> None:
        """Sets the curves. ``version`` identifies their state (such as the number of points): nothing happens
        while it is equal. ``series`` is called at the next drawing, so that nothing is computed for a hidden
        plot."""
        if version == self._version:
            return
        self._version = version
        self._series = series
        self._request_draw()

    def set_options(self, **changes: Any) -> None:
        """Changes options of the plot."""
        options = dataclasses.replace(self.options, **changes)
        if options != self.options:
            self.options = options
            self._request_draw()

    @property
    def text(self) -> str:
        """The drawn text without colours."""
        return plain(self._rows)

    # ------------------------------------------------------------------ when to draw

    def _request_draw(self) -> None:
        self._dirty = True
        if not self._drawable or self._timer is not None:
            return  # hidden, or a drawing is scheduled
        wait = PLOT.of(self.app) - (time.monotonic() - self._drawn_at)
        if wait <= 0:
            self._draw()
        else:
            self._timer = self.set_timer(wait, self._draw_if_due)

    def _draw_if_due(self) -> None:
        self._timer = None
        if self._dirty and self._drawable:
            self._draw()

    @property
    def _drawable(self) -> bool:
        return self.is_mounted and self.size.area > 0 and self.is_on_screen and self.screen.is_current

    def on_show(self) -> None:
        self.catch_up()

    def on_mount(self) -> None:
        drawn = {"marker": getattr(self.app, "marker", ""), "weight": getattr(self.app, "plot_weight", "")}
        self.set_options(**{name: value for name, value in drawn.items() if value})
        self.app.theme_changed_signal.subscribe(self, lambda _: self._recolour())

    def catch_up(self) -> None:
        """Draws what changed while the plot was hidden. Panes call it when they are shown again."""
        if self._dirty:
            self._request_draw()

    def _recolour(self) -> None:
        self._strips.clear()
        self.refresh()

    def on_resize(self) -> None:
        # draw at once: the old rows do not fit
        self._dirty = True
        if self._drawable:
            self._draw()

    def _draw(self) -> None:
        width, height = self.size
        rows = draw(self._series(), width, height, self.options)
        self.builds += 1
        self._drawn_at = time.monotonic()
        self._dirty = False
        old, self._rows = self._rows, rows
        changed = [y for y, row in enumerate(rows) if y >= len(old) or old[y] != row]
        for y in changed:
            self._strips.pop(y, None)
        self.rows_sent += len(changed)
        if len(old) != len(rows):
            self._strips.clear()
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    # ------------------------------------------------------------------ drawing of one row

    def render_line(self, y: int) -> Strip:
        strip = self._strips.get(y)
        if strip is None:
            if y < len(self._rows):
                base = self.rich_style
                strip = Strip([Segment(text, base + self._style(role)) for text, role in self._rows[y]])
            else:
                strip = Strip.blank(self.size.width, self.rich_style)
            self._strips[y] = strip
        return strip

    def _style(self, role: str) -> Style:
        from tui_lab.ui.terminal.themes import role_style

        return role_style(self.app.theme_variables, role)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()
