"""Runs: a table of all runs that can be sorted, filtered, marked, tagged, named and deleted; the curves of
several runs in one plot; the differences of their recipes; the result of a sweep; and the queue. A thread
reads the folders, and a log only if it has changed."""

from __future__ import annotations

import threading
from dataclasses import replace

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from tui_lab.core.sanitize import sanitize
from tui_lab.runs import index, removal, searches
from tui_lab.runs.comparison import Compared, RunComparison
from tui_lab.runs.folder import Run
from tui_lab.runs.index import RunIndex, RunSummary
from tui_lab.runs.overlay import AXES, METRICS
from tui_lab.runs.queue.sweep import CRITERIA
from tui_lab.runs.searches import FoundSearch
from tui_lab.ui.actions.registry import bindings, filled
from tui_lab.ui.actions.search_line import SearchLine
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.run_commands import RunCommands
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.views import runs_plots, runs_table
from tui_lab.ui.views import search as search_view
from tui_lab.ui.views.empty import no_runs
from tui_lab.ui.views.run_time import run_time
from tui_lab.ui.widgets.panel import as_panel
from tui_lab.ui.widgets.plot import Plot
from tui_lab.ui.widgets.run_table import RunTable, TableHead
from tui_lab.ui.widgets.tab_bar import TabBar, part_tabs

TABS = (("list", "All runs"), ("curves", "Curves"), ("recipes", "Recipes"), ("sweep", "Sweep"))
#: The table over everything else; a wide window without the rows for that has it beside everything else.
GRID_COLUMNS, GRID_ROWS = 110, 36
WIDE_COLUMNS, WIDE_ROWS = 160, 28
#: Seconds between two looks at the folders while the pane is shown.
LOOK_S = 1.5
LEGEND_LINES = 4
#: Of what the line of keys offers.
NEED_A_RUN = {"open", "go_on", "mark", "filter", "sort(1)", "tags", "note", "delete"}
#: Of the table's part: rows at least, and those beside the runs (border, head, details, a free one).
LEAST_ROWS, OTHER_ROWS = 11, 6


class RunsPane(Pane):
    """The pane."""

    GROUP = "runs"
    AUTO_FOCUS = "RunTable"
    BINDINGS = bindings("runs")
    DEFAULT_CSS = """
    RunsPane #top {
        height: 1; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis;
    }
    RunsPane #detail { height: 3; padding: 0 1; background: $surface; }
    RunsPane #legend { height: auto; max-height: 4; }
    RunsPane #recipes Static, RunsPane #sweep Static { height: auto; padding: 0 1; }
    RunsPane.-grid #parts {
        layout: grid; grid-size: 2 3; grid-rows: 5fr 4fr 3fr; grid-columns: 1fr 1fr;
    }
    RunsPane.-grid .part { display: block; height: 100%; }
    RunsPane.-grid #list { column-span: 2; }
    RunsPane.-grid #curves { row-span: 2; }
    RunsPane.-beside #parts { grid-size: 2 3; grid-rows: 5fr 3fr 3fr; grid-columns: 98 1fr; }
    RunsPane.-beside #list { column-span: 1; row-span: 3; }
    RunsPane.-beside #curves { row-span: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.every: list[RunSummary] = []
        self.marked: list[str] = []  # ids, in the order that gives them their letters
        self.commands = RunCommands(self, self)
        self.index: RunIndex | None = None
        self.query_text = ""
        self.sorted_by, self.descending = "started", True
        self.metric, self.axis, self.criterion = METRICS[0], AXES[0], next(iter(CRITERIA))
        self.grid = False
        self._reading = threading.Lock()
        self._again = False
        self._drawn: object = None  # what the list was drawn from
        self._drawn_compared: object = None
        self._comparison = RunComparison()
        self.compared = Compared()
        self.search: FoundSearch | None = None  # of the run under the cursor

    @property
    def table(self) -> RunTable:
        return self.query_one(RunTable)

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.table.current

    @property
    def run_shown(self) -> Run | None:
        """The run under the cursor, for actions of the whole lab."""
        return self.current.run if self.current else None

    @property
    def is_ready(self) -> bool:
        return self._drawn is not None and (bool(self.every) or (self.index is not None and self.index.done))

    @property
    def situation(self) -> str:
        if self.commands.can_undo and not self.marked:
            return "deleted"
        if not self.every:
            return "none"
        return "marked" if self.marked else ""

    @property
    def idle_actions(self) -> frozenset[str]:
        """What has no use now: the line of keys does without it, and the key says why."""
        idle = set() if self.index and self.index.queue_text else {"queue"}
        return frozenset(idle if self.every else idle | NEED_A_RUN)

    def compose_body(self) -> ComposeResult:
        yield Static(id="top")
        yield SearchLine("words; state:failed  model:qwen  tag:good  data:pirate")
        yield TabBar(part_tabs(TABS))
        with Container(id="parts"):
            with Vertical(id="list", classes="part -active") as part:
                as_panel(part, "All runs")
                yield TableHead()
                yield RunTable()
                yield Static(id="detail")
            with Vertical(id="curves", classes="part") as part:
                as_panel(part, "Curves")
                yield Plot(replace(runs_plots.FIRST, empty=""))
                yield Static(id="legend")
            with VerticalScroll(id="recipes", classes="part") as part:
                as_panel(part, "What the recipes differ in")
                yield Static()
            with VerticalScroll(id="sweep", classes="part") as part:
                as_panel(part, "Sweep")
                yield Static()

    def on_mount(self) -> None:
        self.table.show([], {}, "reading the runs …")
        self.set_interval(LOOK_S, self._read_if_shown)
        self._draw()
        self.read_folders()

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        high = width >= GRID_COLUMNS and height >= GRID_ROWS
        beside = not high and width >= WIDE_COLUMNS and height >= WIDE_ROWS
        self.grid = high or beside
        self.set_class(self.grid, "-grid")
        self.set_class(beside, "-beside")
        call_after_layout(self, self._draw)

    def _share_rows(self, runs: int) -> None:
        """Under a table of few runs the rest gets the rows that they do not need."""
        parts = self.query_one("#parts")
        if self.has_class("-grid") and not self.has_class("-beside"):
            rows = max(LEAST_ROWS, min(parts.size.height // 2, runs + OTHER_ROWS))
            parts.styles.grid_rows = f"{rows} 4fr 3fr"
        else:
            parts.styles.clear_rule("grid_rows")

    def on_screen_resume(self) -> None:
        self.read_folders()

    # ------------------------------------------------------------------ reading

    def _read_if_shown(self) -> None:
        if self.is_current:
            self.read_folders()

    def read_folders(self) -> None:
        """Looks at the folders, in a thread; one at a time, and once more where one was asked meanwhile."""
        if self._reading.acquire(blocking=False):
            self._read()
        else:
            self._again = True

    @work(thread=True, group="runs", description="read the runs", exit_on_error=False)
    def _read(self) -> None:
        try:
            self._again = False
            if self.index is None:
                self.index = RunIndex()
                removal.empty_trash(self.index.directory)  # of runs that were deleted a month ago
            every = self.index.refresh(lambda some: self._take_later(some))
            self._take_later(every)
            name = self.current.sweep if self.current else ""
            self.call_back(self._take_search, searches.look(self.index.directory, name))
            compared = self._comparison.read(self._wanted(every))
            self.call_back(self._take_compared, compared)
            more = not (self.index.done and compared.complete)
        finally:
            self._reading.release()
        if more or self._again:  # two variables: the app's thread sets _again meanwhile
            self.call_back(self.read_folders)

    def _take_later(self, every: list[RunSummary]) -> None:
        self.call_back(self._take, list(every))

    def _take(self, every: list[RunSummary]) -> None:
        about = self.index and (self.index.done, self.index.problem, self.index.queue_text)
        drawn = (every, about)
        if self.commands.restored and any(run.id == self.commands.restored for run in every):
            self.call_after_refresh(self.table.go_to, self.commands.restored)
            self.commands.restored = ""
        if drawn != self._drawn:
            self.every, self._drawn = every, drawn
            known = {run.id for run in every}
            self.marked = [each for each in self.marked if each in known]
            self._draw()

    def _take_search(self, found: FoundSearch | None) -> None:
        if repr(found) != repr(self.search):  # what is not measured is NaN, which differs from itself
            self.search = found
            self._draw_sweep()

    def _take_compared(self, compared: Compared) -> None:
        # curves grow in place: their lengths show what was drawn
        points = [list(curves.points.values()) for curves in compared.curves]
        lengths = [[(id(each), len(each.steps), each.steps[-1:]) for each in one] for one in points]
        stamp = (compared.runs, compared.differences, lengths)
        self.compared = compared
        if stamp != self._drawn_compared:
            self._drawn_compared = stamp
            self._draw_compared()

    def _wanted(self, every: list[RunSummary]) -> list[RunSummary]:
        """The marked runs, else the one under the cursor."""
        by_id = {run.id: run for run in every}
        found = [by_id[each] for each in self.marked if each in by_id]
        if found:
            return found
        at = self.current.id if self.current else ""
        return [by_id[at]] if at in by_id else []

    # ------------------------------------------------------------------ drawing

    @property
    def letters(self) -> dict[str, tuple[str, str]]:
        return {
            run_id: (runs_plots.letter(number), runs_plots.role(number))
            for number, run_id in enumerate(self.marked)
        }

    def shown(self) -> list[RunSummary]:
        """The runs that the filter leaves, sorted."""
        found = [run for run in self.every if index.matches(run, self.query_text)]
        return index.ordered(found, self.sorted_by, self.descending)

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        self.update_footer()
        shown = self.shown()
        empty = "reading the runs …" if self.index is None or not self.index.done else no_runs(self.keymap)
        if self.every and not shown:
            empty = filled(runs_table.NOTHING_FOUND, self.keymap)
        self.table.show(shown, self.letters, empty)
        self._share_rows(len(shown))
        self.query_one(TableHead).show(self.sorted_by, self.descending, self.table.columns)
        queue_text = (self.index.problem or self.index.queue_text) if self.index else ""
        title = index.COLUMNS[self.sorted_by][0]
        top = runs_table.top_line(
            len(shown),
            len(self.every),
            self.query_text,
            len(self.marked),
            title,
            self.descending,
            queue_text,
        )
        self.query_one("#top", Static).update(Content(top), layout=False)
        self._draw_detail()
        self._draw_sweep()

    @on(RunTable.Moved)
    def _moved(self) -> None:
        self._draw_detail()
        self._draw_sweep()
        if not self.marked:
            self.read_folders()

    def _draw_detail(self) -> None:
        width = max(20, (self.query_one("#detail").size.width or self.size.width) - 2)
        stage = index.stage_of(self.current, self.every) if self.current else 1
        lines = [
            Content(line).truncate(width, ellipsis=True)
            for line in runs_table.detail(self.current, width, stage)
        ]
        self.query_one("#detail", Static).update(Content("\n").join(lines), layout=False)

    def _draw_compared(self) -> None:
        """Curves, legend and differences of the compared runs."""
        if not self.is_mounted:
            return
        compared, curves = self.compared.runs, self.compared.curves
        letters = [runs_plots.letter(number) for number in range(len(compared))]
        series, title = runs_plots.overlay(curves, self.metric, self.axis)
        plot = self.query_one(Plot)
        options = runs_plots.options_for(self.metric, self.axis, title if series else "")
        plot.set_options(
            **(options if compared else {"title": "", "empty": filled(runs_plots.FIRST.empty, self.keymap)})
        )
        stamp = [
            (run.id, each.points[self.metric].steps[-1:]) for run, each in zip(compared, curves, strict=True)
        ]
        plot.show(lambda: series, (self.metric, self.axis, stamp))
        names = runs_table.names(compared, letters)
        legend = [
            Content("   ").join(Content.styled(names[i], f"${runs_plots.role(i)}") for i in line)
            for line in runs_table.in_lines(names, self._part_width("curves"), LEGEND_LINES)
        ]
        self.query_one("#legend", Static).update(Content("\n").join(legend))
        heads = [f"{letter} {run_time(run.id)}" for letter, run in zip(letters, compared, strict=True)]
        mark_key = self.keys("runs.mark")
        width = self._part_width("recipes")
        lines = runs_table.differences(self.compared.differences, heads, width, mark_key)
        self.query_one("#recipes Static", Static).update(Content("\n".join(lines)))

    def _draw_sweep(self) -> None:
        name = self.current.sweep if self.current else ""
        width, head = self._part_width("sweep"), ""
        if self.search is not None and self.search.result.search == name:
            head = search_view.head(self.search, self.keys("runs.search"))
            lines = search_view.search_lines(self.search.result, self.search.state, width)
        else:
            runs = index.sweep_runs(self.every, name) if name else []
            best = index.best_of(runs, self.criterion)
            lines = runs_table.sweep_lines(runs, best, self.criterion, width)
            if runs:
                text, key = index.criterion_text(runs, self.criterion), self.keys("runs.criterion")
                head = f"{sanitize(name)}: {text}   ({key} changes it)"
        heads = [Content.styled(head, "$text-muted")] if head else []
        styled = [Content.styled(line, "bold $success" if marked else "") for line, marked in lines]
        self.query_one("#sweep Static", Static).update(Content("\n").join([*heads, *styled]))

    def _part_width(self, part: str) -> int:
        """Cells that a line of a part has. One that is hidden is as wide as it will be."""
        width = self.query_one(f"#{part}").size.width or self.size.width
        return max(20, width - 4)

    # ------------------------------------------------------------------ moving, sorting, filtering

    def action_tab(self, name: str) -> None:
        super().action_tab(name)
        part = self.query_one(f"#{name}")  # one that scrolls takes keys itself
        self.set_focus(self.table if name == "list" else part if part.can_focus else None)
        self._draw_sweep()
        self._draw_compared()

    def action_sort(self, by: int) -> None:
        """By the next or the previous column; figures begin with what is usually looked for."""
        names = list(index.COLUMNS)
        self._sort(names[(names.index(self.sorted_by) + by) % len(names)])

    def _sort(self, column: str) -> None:
        if column == self.sorted_by:
            self.descending = not self.descending
        else:
            self.sorted_by = column
            self.descending = column in ("started", "acquisition", "retention", "peak")
        self._draw()

    def action_reverse(self) -> None:
        self._sort(self.sorted_by)

    @on(TableHead.Clicked)
    def _head_clicked(self, event: TableHead.Clicked) -> None:
        if event.column in index.COLUMNS:
            self._sort(event.column)

    def action_filter(self) -> None:
        self.query_one(SearchLine).open_search()

    @on(Input.Changed, "SearchLine")
    def _filter_changed(self, event: Input.Changed) -> None:
        self.query_text = event.value
        self._draw()

    @on(Input.Submitted, "SearchLine")
    def _filter_taken(self) -> None:
        self.query_one(SearchLine).set_class(bool(self.query_text.strip()), "-open")
        self.action_tab("list")

    def action_clear(self) -> None:
        """Escape: leaves the filter, then clears it, then the window of the plot, then the marks."""
        line = self.query_one(SearchLine)
        if self.query_text or line.has_focus:
            line.close_search()
            self.action_tab("list")
        elif not self.query_one(Plot).show_all() and self.marked:
            self.action_unmark()

    # ------------------------------------------------------------------ a run, and the queue

    @on(RunTable.Opened)
    def action_open(self) -> None:
        self.commands.open_train()

    def action_retention(self) -> None:
        self.commands.open_retention()

    def action_playground(self) -> None:
        self.commands.open_playground()

    def action_predictions(self) -> None:
        self.commands.open_predictions()

    def action_go_on(self) -> None:
        self.commands.go_on()

    def action_rename(self) -> None:
        self.commands.rename()

    def action_tags(self) -> None:
        self.commands.tag()

    def action_note(self) -> None:
        self.commands.note()

    def action_delete(self) -> None:
        self.commands.delete()

    def action_undo(self) -> None:
        self.commands.undo()

    def action_search(self) -> None:
        self.commands.toggle_search()

    def action_queue(self) -> None:
        self.commands.toggle_queue()

    # ------------------------------------------------------------------ marking and comparing

    def action_mark(self) -> None:
        if self.current is None:
            return
        run_id = self.current.id
        if run_id in self.marked:
            self.marked.remove(run_id)
        else:
            self.marked.append(run_id)
        self.table.action_move(1)
        self._marked()

    def action_mark_shown(self) -> None:
        """All that the filter leaves, or those of the run's sweep when there is no filter."""
        found = self.shown()
        if not self.query_text and self.current and self.current.sweep:
            found = index.sweep_runs(self.every, self.current.sweep)
        elif not self.query_text:
            self.notice(
                f"Filter with {self.keys('runs.filter')} first, or select a run of a sweep: this marks "
                "the runs that the filter shows, or all runs of that sweep."
            )
            return
        self.marked = [run.id for run in found]
        self._marked()

    def action_unmark(self) -> None:
        self.marked = []
        self._marked()

    def _marked(self) -> None:
        self._draw()
        self.read_folders()

    def action_metric(self) -> None:
        self.metric = METRICS[(METRICS.index(self.metric) + 1) % len(METRICS)]
        self._show_curves()

    def action_axis(self) -> None:
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self.action_clear_window()  # x is something else
        self._show_curves()

    def _show_curves(self) -> None:
        if not self.grid and self.query_one(TabBar).active != "curves":
            self.action_tab("curves")
        self._draw_compared()

    def on_plot_pointed(self, message: Plot.Pointed) -> None:
        message.plot.point_at(message.x)

    def action_criterion(self) -> None:
        names = list(CRITERIA)
        self.criterion = names[(names.index(self.criterion) + 1) % len(names)]
        if not self.grid and self.query_one(TabBar).active != "sweep":
            self.action_tab("sweep")
        self._draw_sweep()
