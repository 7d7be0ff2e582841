"""Train: one run, live or ended, drawn from its folder alone: all curves, samples, events, and facts about
the run. A large window shows all parts at once, a small one a tab each."""

from __future__ import annotations

import math
from dataclasses import replace

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widgets import Static

from tui_lab.runs.state import ENDED, RunState
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.run_pane import RunPane
from tui_lab.ui.views import cost, probe, run
from tui_lab.ui.views.plot_window import PlotWindow
from tui_lab.ui.views.run_plots import last_step
from tui_lab.ui.views.spans import TextSpan
from tui_lab.ui.views.telemetry import about_machine
from tui_lab.ui.widgets.feed import Feed
from tui_lab.ui.widgets.machine_view import MemoryView
from tui_lab.ui.widgets.next_steps import NextSteps
from tui_lab.ui.widgets.panel import as_panel
from tui_lab.ui.widgets.plot import Plot
from tui_lab.ui.widgets.run_plots import RunPlot
from tui_lab.ui.widgets.tab_bar import TabBar, part_tabs

TABS = (
    ("loss", "Loss"),
    ("margin", "Margin"),
    ("accuracy", "Accuracy"),
    ("sides", "Log-prob"),
    ("sigma", "Task σ"),
    ("retention", "Retention"),
    ("kl", "KL"),
    ("memory", "Memory"),
    ("speed", "Speed"),
    ("rate", "LR"),
    ("samples", "Samples"),
    ("events", "Events"),
    ("about", "About"),
)
#: The panels: (id, title), and of those of text what an empty one says.
PLOTS = (
    ("loss", "Loss"),
    ("margin", "Reward margin"),
    ("accuracy", "Reward accuracy"),
    ("sides", "Log-probability"),
    ("sigma", "Task σ"),
    ("retention", "Retention"),
    ("kl", "KL"),
    ("memory", "Memory"),
    ("speed", "Speed"),
    ("rate", "Learning rate"),
)
FEEDS = (
    ("events", "Events", "What happens in the run appears here."),
    ("samples", "Samples", "What the model answers appears here, now and then during the run."),
    ("about", "About this run", "Details of the run appear here."),
)
#: Parts that runs with a preference loss have, and the parts whose place they take.
PREFERENCE_PARTS, OTHER_PARTS = ("margin", "accuracy", "sides"), ("speed", "rate")
#: The part of runs that learn weights of tasks, and the part whose place it takes.
TASK_PARTS, BESIDE_TASKS = ("sigma",), ("rate",)
GRID_COLUMNS, GRID_ROWS = 100, 32


class TrainPane(RunPane):
    """The pane."""

    GROUP = "train"
    AUTO_FOCUS = ""
    BINDINGS = bindings("train")
    DEFAULT_CSS = """
    TrainPane.-grid #parts {
        layout: grid; grid-size: 24 3; grid-rows: 5fr 4fr 3fr; grid-columns: 1fr; grid-gutter: 0;
    }
    TrainPane.-grid .part { display: block; height: 100%; }
    TrainPane.-grid .part { column-span: 5; }
    TrainPane.-grid #loss, TrainPane.-grid #retention { column-span: 12; }
    TrainPane.-grid #memory { column-span: 9; }
    TrainPane.-grid .text { column-span: 8; }
    TrainPane.-grid.-preferences .part, TrainPane.-grid.-preferences #loss { column-span: 6; }
    TrainPane.-grid.-preferences #retention { column-span: 8; }
    TrainPane.-grid.-preferences #kl { column-span: 7; }
    TrainPane.-grid.-preferences #memory { column-span: 9; }
    TrainPane.-grid.-preferences .text { column-span: 8; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._about: list[TextSpan] = []
        self._window = PlotWindow()
        self.grid = False

    def compose_body(self) -> ComposeResult:
        yield Static(id="state")
        yield NextSteps()
        yield TabBar(part_tabs([part for part in TABS if part[0] not in (*PREFERENCE_PARTS, *TASK_PARTS)]))
        with Container(id="parts"):
            for kind, title in PLOTS:
                plot = Vertical(RunPlot(kind), id=kind) if kind != "memory" else MemoryView(id=kind)
                part = as_panel(plot, title).add_class("part").set_class(kind == "loss", "-active")
                yield part.set_class(kind in (*PREFERENCE_PARTS, *TASK_PARTS), "-absent")
            for kind, title, empty in FEEDS:
                feed = Feed(empty, auto_scroll=kind != "about")
                yield as_panel(Vertical(feed, id=kind, classes="part text"), title)

    def on_resize(self, event: events.Resize) -> None:
        self.grid = event.size.width >= GRID_COLUMNS and event.size.height >= GRID_ROWS
        self.set_class(self.grid, "-grid")

    # ------------------------------------------------------------------ drawing

    def forget_run(self) -> None:
        self._about = []
        self._window = PlotWindow()
        self.query_one(MemoryView).show_run(RunState(), "")
        for feed in self.query(Feed):
            feed.replace([])

    def draw_run(self, key: str, state: RunState) -> None:
        preferences = state.trains_preferences
        self.set_class(preferences, "-preferences")
        absent = OTHER_PARTS if preferences else PREFERENCE_PARTS
        has_tasks = bool(state.task_sigmas)
        self.show_parts(TABS, (*absent, *(BESIDE_TASKS if has_tasks else TASK_PARTS)))
        super().draw_run(key, state)
        self._show_window()
        assert self.watcher is not None
        self.query_one(MemoryView).show_run(state, self.status)
        self.query_one("#events Feed", Feed).update_entries([run.event_parts(event) for event in state.feed])
        self.query_one("#samples Feed", Feed).update_entries(
            [run.sample_parts(each) for each in state.samples]
        )
        about = probe.about_flags(self._flags) + probe.about_probes(state)
        about += run.about_run(
            state,
            self.status,
            self.watcher.recipe,
            str(self.watcher.run.path),
            self._log_tail(),
            self._resume_key(),
            self.keys("app.setup"),
        )
        about += cost.about(state, self.status, self.lab.now(self.watcher.run))
        about += about_machine(state)
        if about != self._about:
            self._about = about
            self.query_one("#about Feed", Feed).replace([about])

    # ------------------------------------------------------------------ actions

    def action_tab(self, name: str) -> None:
        super().action_tab(name)
        feeds = self.query(f"#{name} Feed")
        if feeds:
            feeds.first().focus()
        else:
            self.set_focus(None)

    # ------------------------------------------------------------------ plots

    def _steps(self) -> tuple[float, float]:
        """The first and the last step of the x axis of all plots."""
        if self.watcher is None:
            return 0.0, 1.0
        return 0.0, last_step(self.watcher.state, self.status in ENDED)

    def _show_window(self) -> None:
        view = self._window.view(*self._steps())
        for plot in self.query(RunPlot):
            plot.set_options(view=view)
            plot.point(self._window.cursor)

    def action_zoom(self, by: int) -> None:
        """Shows half of the steps, or twice as many."""
        self._window = self._window.zoomed(by > 0, *self._steps())
        self._show_window()

    def action_pan(self, by: int) -> None:
        """Shows earlier or later steps."""
        if self._window.view(*self._steps()) is None:
            self.notice(f"All steps are in view; {self.keys('train.zoom_in')} zooms in.")
        self._window = self._window.panned(by, *self._steps())
        self._show_window()

    def action_cursor(self, by: int) -> None:
        """Moves the cursor that reads all plots."""
        newest = float(self.watcher.state.step) if self.watcher is not None else math.inf
        self._window = self._window.pointed(by, *self._steps(), newest)
        self._show_window()

    def action_clear_window(self) -> None:
        """Shows all steps and the newest values again."""
        self._window = PlotWindow()
        self._show_window()

    def on_plot_pointed(self, message: Plot.Pointed) -> None:
        self._window = replace(self._window, cursor=float(round(message.x)))
        self._show_window()

    def action_log_scale(self) -> None:
        plot = self.query_one("#loss RunPlot", RunPlot)
        plot.set_options(log=not plot.options.log)

    def action_flags(self) -> None:
        """Shows what is known of the run from its beginning: the flags come first."""
        if not self._flags:
            self.notice("No red flags in this run.")
        self.action_tab("about")
        self.query_one("#about Feed", Feed).scroll_home(animate=False)
