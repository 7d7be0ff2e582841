"""The memory part of Train: the plot, and below it a few lines about GPU memory by owner, activity and
throttling. The lines need no row before the first telemetry record, leave the plot its rows, and are
redrawn only when they change."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui_lab.runs.state import RunState
from tui_lab.ui.views.spans import TextSpan
from tui_lab.ui.views.telemetry import machine_lines
from tui_lab.ui.widgets.run_plots import RunPlot

#: Rows that are reserved for the plot.
PLOT_ROWS = 6
MOST_LINES = 4


class MemoryView(Vertical):
    """See the module's docstring. :meth:`show_run` sets the run."""

    DEFAULT_CSS = """
    MemoryView Static { height: auto; width: 1fr; display: none; }
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._run: tuple[RunState, str] | None = None
        self._drawn: list[TextSpan] = []

    def compose(self) -> ComposeResult:
        yield RunPlot("memory")
        yield Static()

    def show_run(self, state: RunState, status: str) -> None:
        """Shows the telemetry of a run. The plot gets its data like every other plot."""
        self._run = (state, status)
        self._draw_text()

    def on_resize(self) -> None:
        self._draw_text()  # also when its tab is shown for the first time

    def _draw_text(self) -> None:
        width, height = self.content_size
        if self._run is None or not self.size.area:
            return
        most = max(1, min(MOST_LINES, height - PLOT_ROWS))
        lines = machine_lines(*self._run, width, most)
        if lines == self._drawn:
            return
        rows_before, self._drawn = len(self._drawn), lines
        text = self.query_one(Static)
        text.display = bool(lines)
        styles = {"": "", "axis": "dim"}
        rows = [Content.styled(line, styles.get(role, f"bold ${role}")) for line, role in lines]
        text.update(Content("\n").join(rows), layout=len(rows) != rows_before)
