"""A plot on the screen. It draws only when its data, size or options changed, at most a few times a second
and never while hidden, and redraws only the rows that differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from textual import events
from textual.message import Message
from textual.widget import Widget

from tui_lab.ui.terminal.output import PLOT, Paced
from tui_lab.ui.views.plot_draw import Drawing, draw_plot
from tui_lab.ui.views.plot_series import PlotMark, PlotOptions, PlotSeries
from tui_lab.ui.widgets.rows import RowsWidget


class Plot(RowsWidget):
    """Curves, drawn with plotext. :meth:`show` gives it data."""

    class Pointed(Message):
        """A place on the plot was clicked."""

        def __init__(self, x: float) -> None:
            super().__init__()
            self.x = x

    DEFAULT_CSS = """
    Plot { width: 1fr; height: 1fr; min-height: 5; }
    """

    def __init__(
        self, options: PlotOptions | None = None, *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.options = options or PlotOptions()
        self._series: Callable[[], Sequence[PlotSeries]] = tuple
        self._marks: Callable[[], Sequence[PlotMark]] = tuple
        self._drawing = Drawing([])
        self._noted = ""  # what the border of the panel says
        self.builds = 0  # drawings so far, for tests and benchmarks
        self._version: object = None
        self._dirty = True
        self._paced = Paced(self, PLOT, self._draw_if_dirty)

    # ------------------------------------------------------------------ data

    def show(
        self,
        series: Callable[[], Sequence[PlotSeries]],
        version: object,
        marks: Callable[[], Sequence[PlotMark]] = tuple,
    ) -> None:
        """Sets the curves, and the marks above the x axis. ``version`` identifies their state (such as the
        number of points): nothing happens while it is equal. ``series`` is called at the next drawing, so
        that nothing is computed for a hidden plot."""
        if version == self._version:
            return
        self._version = version
        self._series, self._marks = series, marks
        self._request_draw()

    def set_options(self, **changes: Any) -> None:
        """Changes options of the plot."""
        options = dataclasses.replace(self.options, **changes)
        if repr(options) != repr(self.options):  # NaN is not equal to itself
            self.options = options
            self._request_draw()

    def point(self, cursor: float) -> None:
        """Shows the values at ``cursor``; NaN for the newest. A key that moves it is answered at once."""
        if cursor == self.options.cursor or (math.isnan(cursor) and math.isnan(self.options.cursor)):
            return
        self.options = dataclasses.replace(self.options, cursor=cursor)
        if self._drawing.pointed is not None and not self._dirty and self._drawable:
            self.set_rows(self._drawing.pointed(cursor))
        else:
            self._request_draw()

    # ------------------------------------------------------------------ when to draw

    def _request_draw(self) -> None:
        self._dirty = True
        if self._drawable:
            self._paced.want()

    def _draw_if_dirty(self) -> None:
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

    def catch_up(self) -> None:
        """Draws what changed while the plot was hidden. Panes call it when they are shown again."""
        if self._dirty:
            self._request_draw()

    def on_resize(self) -> None:
        # draw at once: the old rows do not fit
        self._dirty = True
        if self._drawable:
            self._paced.now()

    def _draw(self) -> None:
        panel = next((each for each in self.ancestors_with_self if each.has_class("panel")), None)
        framed = isinstance(panel, Widget) and panel.styles.border_top[0] not in ("", "none", "hidden")
        options = dataclasses.replace(self.options, note_inside=not framed)
        self._drawing = draw_plot(self._series(), *self.size, options, self._marks())
        self.builds += 1
        self._dirty = False
        self.set_rows(self._drawing.rows)
        if isinstance(panel, Widget) and self._noted != self._drawing.note:
            self._noted = panel.border_subtitle = self._drawing.note

    # ------------------------------------------------------------------ mouse

    def on_mouse_down(self, event: events.MouseDown) -> None:
        at = event.get_content_offset(self)
        x = self._drawing.x_at(at.x) if at is not None else math.nan
        if math.isfinite(x):
            self.post_message(self.Pointed(x))
