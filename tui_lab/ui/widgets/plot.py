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
from tui_lab.ui.views.plot_draw import Drawing, draw_plot, x_range
from tui_lab.ui.views.plot_series import PlotMark, PlotOptions, PlotSeries
from tui_lab.ui.views.plot_window import CURSOR_PARTS, PlotWindow
from tui_lab.ui.widgets.rows import RowsWidget

#: Parts of an x that does not count steps.
UNITS = 400


class Plot(RowsWidget):
    """Curves, drawn with plotext. :meth:`show` gives it data."""

    class Pointed(Message):
        """A place on a plot was clicked."""

        def __init__(self, plot: Plot, x: float) -> None:
            super().__init__()
            self.plot, self.x = plot, x

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
        self.window = PlotWindow()  # of this plot alone; where a pane has one for all, it stays at all of x
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
        if math.isfinite(self.window.width):
            self.set_options(view=self.window.view(*self._extent()))
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

    # ------------------------------------------------------------------ its window

    def _extent(self) -> tuple[float, float]:
        """The first and the last x, whatever is in view."""
        return x_range(self._series(), dataclasses.replace(self.options, view=None))

    def _look(self, window: PlotWindow) -> None:
        self.window = window
        self.set_options(view=window.view(*self._extent()))
        self.point(window.cursor)

    def _in_units(self) -> tuple[PlotWindow, float, float]:
        low, high = self._extent()
        unit = 1.0 if self.options.whole_x else (high - low) / UNITS or 1.0
        return dataclasses.replace(self.window, unit=unit), low, high

    def zoom(self, by: int) -> None:
        """Shows half of x, or twice as much."""
        window, low, high = self._in_units()
        self._look(window.zoomed(by > 0, low, high))

    def pan(self, by: int) -> None:
        """Shows smaller or larger x."""
        self._look(self.window.panned(by, *self._extent()))

    def move_cursor(self, by: int) -> None:
        """Moves the cursor: from point to point where there are few, else by a part of x."""
        window, low, high = self._in_units()
        points = sorted({x for one in self._series() if one.style != "dashed" for x in one.xs})
        if len(points) <= CURSOR_PARTS:
            self._look(window.on_points(by, points, low, high))
        else:
            self._look(window.pointed(by, low, high))

    def point_at(self, x: float) -> None:
        """Sets the cursor, on the nearest point where there are few."""
        points = sorted({each for one in self._series() if one.style != "dashed" for each in one.xs})
        near = min(points, key=lambda each: abs(each - x), default=x) if len(points) <= CURSOR_PARTS else x
        self._look(self.window.at(round(near) if self.options.whole_x else near, *self._extent()))

    def show_all(self) -> bool:
        """Shows all of x without a cursor; whether that is a change."""
        if math.isinf(self.window.width) and math.isnan(self.window.cursor):
            return False
        self._look(PlotWindow())
        return True

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
            self.post_message(self.Pointed(self, x))
