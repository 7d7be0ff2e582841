"""The forecast on Setup: a bar of memory components against the free memory, with as much detail as fits."""

from __future__ import annotations

from typing import Any

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from tui_lab.ui.views.forecast import ForecastView, Mode, lines

#: Sizes of the screen from which the legend, and one line for each component, are shown.
COLUMNS, ROWS = 100, 32


class ForecastBar(Widget):
    """Shows a :class:`tui_lab.ui.views.forecast.ForecastView`; hidden without one."""

    DEFAULT_CSS = "ForecastBar { width: 1fr; height: auto; display: none; }"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shown: ForecastView | None = None

    def show(self, shown: ForecastView | None) -> None:
        """Redraws when the forecast differs."""
        if shown == self.shown:
            return
        self.shown = shown
        self.display = shown is not None
        self.refresh(layout=True)

    @property
    def mode(self) -> Mode:
        size = self.app.size
        if size.width >= COLUMNS and size.height >= ROWS:
            return "full"
        return "legend" if size.width >= COLUMNS or size.height >= ROWS else "brief"

    def content(self, width: int) -> Content:
        """The text for a width in cells."""
        return Content("\n").join(lines(self.shown, width, self.mode)) if self.shown else Content("")

    def render(self) -> Content:
        return self.content(self.content_size.width)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        del container, viewport  # the height depends on the width alone
        return self.content(width).get_height({}, width)
