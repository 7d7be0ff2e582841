"""Retention: how much a run forgot, with intervals; which items flipped; retention over the steps;
acquisition and retention over the strength; all runs; and what to try next. It reads run folders; jobs in
child processes measure."""

from __future__ import annotations

import threading
from functools import partial

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.advice import Advice, advise
from tui_lab.retention.results import SuiteComparison, SuiteResult
from tui_lab.retention.stored import StrengthPoint
from tui_lab.runs.folder import Run, is_locked, list_runs, open_run
from tui_lab.runs.state import Watcher
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.measurement import Measurement
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.pick_suite import SuiteChoice, ask_suite
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.views import empty, retention, retention_data, retention_forest
from tui_lab.ui.views.retention_forest import ForestRow
from tui_lab.ui.widgets.panel import as_panel, panel_title
from tui_lab.ui.widgets.plot import Plot
from tui_lab.ui.widgets.retention_plots import RetentionPlot, SuiteList
from tui_lab.ui.widgets.tab_bar import TabBar, part_tabs

TABS = (
    ("suites", "Suites"),
    ("next", "What next"),
    ("flips", "Flips"),
    ("curve", "Over steps"),
    ("strength", "Strength"),
    ("stages", "Stages"),
    ("runs", "All runs"),
)
#: The jobs that measure.
EVALUATE, STRENGTH = "tui_lab.evaluation.evaluate", "tui_lab.evaluation.strength_sweep"
#: Three rows of two parts, the table the widest; a wide window has two rows of three.
GRID_COLUMNS, GRID_ROWS = 110, 38
WIDE_COLUMNS, WIDE_ROWS = 160, 28
FIRST_SUITE = "everyday"
SUITES_TITLE = "Retention"
FLIPS_TITLE = "Items that flipped"
#: The panels of plots.
PLOTS = (
    ("curve", "Retention over steps"),
    ("strength", "Over strength"),
    ("runs", "Retention against acquisition"),
)
#: Seconds between two looks at whether the run has changed, while the pane is shown.
LOOK_S = 1.5
#: Most runs in the plot of all runs.
RUNS_DRAWN = 60


class RetentionPane(Pane):
    """The pane."""

    GROUP = "retention"
    AUTO_FOCUS = "#suites OptionList"
    BINDINGS = bindings("retention")
    DEFAULT_CSS = """
    RetentionPane #verdict { height: auto; min-height: 3; max-height: 6; padding: 0 1; background: $surface; }
    RetentionPane.-grid #parts { layout: grid; grid-size: 24 3; grid-rows: 16 1fr 1fr; }
    RetentionPane.-grid .part { display: block; height: 100%; column-span: 12; }
    RetentionPane.-grid #suites { column-span: 17; }
    RetentionPane.-grid #next { column-span: 7; }
    RetentionPane.-grid.-wide #parts {
        grid-size: 3 2; grid-columns: 86 1fr 1fr; grid-rows: 1fr 1fr;
    }
    RetentionPane.-grid.-wide .part, RetentionPane.-grid.-wide #suites, RetentionPane.-grid.-wide #next {
        column-span: 1;
    }
    RetentionPane OptionList, RetentionPane OptionList:focus {
        height: 1fr; border: none; padding: 0; background: $background;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    RetentionPane .head { height: 1; color: $text-muted; text-wrap: nowrap; text-overflow: clip; }
    RetentionPane .detail { height: 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    RetentionPane #next Static, RetentionPane #stages Static { height: auto; padding: 0 1; }
    RetentionPane #flips OptionList { padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: retention_data.RetentionReport | None = None
        self.suite, self.category = FIRST_SUITE, ""
        self.points: list[retention_data.RunPoint] = []
        self._known_points: dict[tuple[str, str], retention_data.KnownPoint] = {}
        self.measurement = Measurement(self, self._show_progress, self._read)
        self._rows: list[ForestRow] = []  # of the table's lines
        self._flips: list[int] = []
        self._flips_shown: tuple[list[tuple[int, str, str]], str] = ([], "")
        self._table_shown: tuple[list[ForestRow], int] = ([], 0)
        self._notified: set[str] = set()  # problems that were shown
        self._reading = threading.Lock()
        self._watcher: Watcher | None = None  # of the run that is shown
        self._stamp: tuple[int, ...] = ()
        self.grid = False
        self._was_read = False
        self._to_measure = ""  # the run that is measured as soon as it is read

    @property
    def run_shown(self) -> Run | None:
        return self.report.run if self.report else None

    @property
    def is_ready(self) -> bool:
        return self._was_read

    @property
    def _has_weights(self) -> bool:
        """Whether the run has saved weights."""
        run = self.run_shown
        return run is not None and (run.adapter_path.is_dir() or run.model_path.is_dir())

    @property
    def situation(self) -> str:
        if self.report is None:
            return "none"
        if self.measurement.progress:
            return "measuring"
        return "measured" if self._comparison else ""

    @property
    def idle_actions(self) -> frozenset[str]:
        """Actions without effect now: the footer leaves them out, and their keys say why."""
        if not self._has_weights:
            return frozenset({"measure", "sweep", "judge", "save_strength", "playground"})
        return frozenset() if self._strengths else frozenset({"save_strength"})

    @property
    def _strengths(self) -> list[StrengthPoint]:
        """The points of the sweep."""
        return self.report.strength.points if self.report else []

    @property
    def strength_shown(self) -> float:
        """The strength that an export from here proposes: the recommended one."""
        found = self.report.strength.recommended.strength if self.report else None
        return found if found else 1.0

    @property
    def _not_measured(self) -> str:
        run = self.run_shown
        if run is None or self._has_weights:
            return empty.not_measured(self.keymap)
        return (empty.not_saved_yet if is_locked(run) else empty.not_saved)(self.keymap)

    def compose_body(self) -> ComposeResult:
        yield Static(id="verdict")
        yield TabBar(part_tabs([part for part in TABS if part[0] != "stages"]))
        with Container(id="parts"):
            with Vertical(id="suites", classes="part text -active") as part:
                as_panel(part, SUITES_TITLE)
                yield Static(classes="head")
                yield SuiteList()
                yield Static(classes="detail")
            with VerticalScroll(id="next", classes="part text") as scroll:
                as_panel(scroll, "What to try next")
                yield Static()
            with Vertical(id="flips", classes="part text") as part:
                as_panel(part, FLIPS_TITLE)
                yield OptionList()
            with VerticalScroll(id="stages", classes="part text -absent") as scroll:
                as_panel(scroll, "Stages")
                yield Static()
            for kind, title in PLOTS:
                yield as_panel(Vertical(RetentionPlot(kind), id=kind, classes="part"), title)

    def on_mount(self) -> None:
        for kind, text in (("strength", empty.no_sweep), ("runs", empty.no_points)):
            self.query_one(f"#{kind} RetentionPlot", RetentionPlot).set_options(empty=text(self.keymap))
        self.watch(self.app, "run_id", self.show_run)
        self.set_interval(LOOK_S, self._look)

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        self.grid = (width >= GRID_COLUMNS and height >= GRID_ROWS) or (
            width >= WIDE_COLUMNS and height >= WIDE_ROWS
        )
        self.set_class(self.grid, "-grid")
        call_after_layout(self, self._draw_verdict)  # its lines were cut for another width

    def on_screen_resume(self) -> None:
        self.show_run(self.lab.run_id)

    # ------------------------------------------------------------------ reading

    def show_run(self, run_id: str) -> None:
        """Shows the run that the app names, else the newest."""
        if not self.measurement.is_running:
            self._read(run_id)

    def _look(self) -> None:
        """Shows what has changed of the run since: its probes, its end, results of a measurement."""
        if self.is_current and not self.measurement.progress:
            self._look_for_changes(self.lab.run_id, self.run_shown)

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _look_for_changes(self, run_id: str, shown: Run | None) -> None:
        run = shown or next(iter(list_runs()), None)
        if run is not None and (shown is None or retention_data.state_stamp(run) != self._stamp):
            self.call_back(self.show_run, run_id or run.id)

    def _report_of(self, run: Run) -> retention_data.RetentionReport:
        with self._reading:
            if self._watcher is None or self._watcher.run != run:
                self._watcher = Watcher(run)
            self._stamp = retention_data.state_stamp(run)
            return retention_data.read(run, self._watcher)

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _read(self, run_id: str) -> None:
        report: retention_data.RetentionReport | None = None
        problem = ""
        try:
            run = open_run(run_id) if run_id else next(iter(list_runs()), None)
            report = self._report_of(run) if run else None
        except LabError as error:
            problem = str(error)
        self.app.call_from_thread(self._show, report, problem)
        points = retention_data.points(list_runs()[:RUNS_DRAWN], self.suite, self._known_points)
        self.app.call_from_thread(self._show_points, points)

    def _show(self, report: retention_data.RetentionReport | None, problem: str) -> None:
        if not self.is_mounted:
            return
        for text in [problem, *(report.problems if report else [])]:
            if text and text not in self._notified:
                self.notice(text, "error")
                self._notified.add(text)
        if report and self.report and report.run != self.report.run:
            self.action_clear_window()  # of other curves
        self.report, self._was_read = report, True
        if report and report.results and self.suite not in report.results:
            self.suite, self.category = next(iter(report.results)), ""
        self._draw()
        if self._to_measure and report and report.run.id == self._to_measure:
            self._to_measure = ""
            if self.is_current:
                self.action_measure()

    def _show_points(self, points: list[retention_data.RunPoint]) -> None:
        if self.is_mounted:
            self.points = points
            self._draw_plots()

    # ------------------------------------------------------------------ drawing

    def _draw(self) -> None:
        self.update_footer()
        self._draw_verdict()
        self._draw_table()
        self._draw_flips()
        self._draw_plots()
        self._draw_advice()
        stages = self.report.stages if self.report else None
        self.show_parts(TABS, ("runs",) if stages else ("stages",))
        if stages:
            self.query_one("#stages Static", Static).update(retention.stage_lines(stages, self.keymap))

    def _draw_advice(self) -> None:
        found = self._advice
        known = bool(found) or self.report is None
        content = retention.advice_lines(found, self.keymap) if known else Content(self._not_measured)
        self.query_one("#next Static", Static).update(content)

    @property
    def _advice(self) -> tuple[Advice, ...]:
        if self.report is None or not (self._has_weights or self._comparison):
            return ()  # the first advice would be to measure
        return advise(retention_data.advice_input(self.report, self.suite))

    @property
    def _result(self) -> SuiteResult | None:
        return self.report.results.get(self.suite) if self.report else None

    @property
    def _comparison(self) -> SuiteComparison | None:
        return self._result.comparison if self._result else None

    def _draw_verdict(self) -> None:
        report = self.report
        width = max(20, self.size.width - 2)
        if report is None:
            lines = [Content(""), Content(empty.no_run_to_measure(self.keymap))]
        else:
            comparison = self._comparison
            last = self.measurement.progress or retention.first_advice(self._advice, self.keymap)
            lines = [
                retention.heading(report, self.suite, comparison, width),
                retention.decision(comparison, report.threshold)
                if comparison
                else Content(f"{self._not_measured} {retention.probed(report.state)}".rstrip()),
                Content.styled(sanitize(last), "$text-muted"),
            ]
            lines[2:2] = [retention.judged(report.judge)] * bool(report.judge.pairs)
        # the sentences are never cut, the first and the last line are
        ends = (0, len(lines) - 1) if len(lines) > 2 else (0,)
        shown = [each.truncate(width, ellipsis=True) if at in ends else each for at, each in enumerate(lines)]
        self.query_one("#verdict", Static).update(Content("\n").join(shown))

    def _draw_table(self) -> None:
        table = self.query_one("#suites OptionList", OptionList)
        width = table.outer_size.width - 1  # the cell of the scrollbar is always kept free
        rows = retention.rows(self.report) if self.report else []
        head, *lines = retention.lines(rows, self.report.threshold if self.report else 0.0, width)
        self.query_one("#suites .head", Static).update(head, layout=False)
        if rows and self.report:
            limit = f"{retention_forest.THRESHOLD_LINE} {self.report.threshold:.0%} threshold"
            as_panel(self.query_one("#suites"), SUITES_TITLE, state=f"95% interval  {limit}  * above chance")
        if rows and (rows, width) == self._table_shown:
            return  # the cursor stays where it is
        self._table_shown = rows, width
        self._rows = rows
        self._draw_row_detail()
        places = [(row.suite, row.category) for row in rows]
        at = places.index((self.suite, self.category)) if (self.suite, self.category) in places else 0
        table.clear_options()
        table.add_options([Option(line) for line in lines])
        if rows:
            table.highlighted = at
        else:
            message = self._not_measured if self.report else "no run yet"
            table.add_option(Option(Content(f"  {message}"), disabled=True))

    def _draw_row_detail(self) -> None:
        """Every figure of the row under the cursor, because a plot has not all of them."""
        view = self.query_one("#suites .detail", Static)
        row = next((r for r in self._rows if (r.suite, r.category) == (self.suite, self.category)), None)
        text = retention_forest.detail(row, max(20, view.size.width)) if row else ""
        view.update(Content(text), layout=False)

    def _draw_flips(self) -> None:
        options = self.query_one("#flips OptionList", OptionList)
        found = retention.flips(self._result, self.category)
        measured = self._comparison is not None
        message = "No item flipped." if measured else self._not_measured if self.report else "no run yet"
        if (found, message) == self._flips_shown and options.option_count:
            return  # the cursor stays where it is
        self._flips_shown = (found, message)
        self._flips = [index for index, _, _ in found]
        options.clear_options()
        options.add_options([Option(Content.styled(line, colour)) for _, line, colour in found])
        if found:
            options.highlighted = 0
        else:
            options.add_option(Option(Content(message), disabled=True))
        where = f" in {sanitize(self.category)}" if self.category else ""
        lost = sum("lost" in line[:9] for _, line, _ in found)
        title = f"Flipped{where}: {lost} lost, {len(found) - lost} gained" if measured else FLIPS_TITLE
        self.query_one("#flips").border_title = panel_title(title)

    def _draw_plots(self) -> None:
        if self.report is not None:
            for plot in self.query(RetentionPlot):
                plot.show_run(self.report, self.suite, self.points)

    def on_plot_pointed(self, message: Plot.Pointed) -> None:
        message.plot.point_at(message.x)

    @on(SuiteList.Resized)
    def _rows_fit_no_more(self) -> None:
        self._draw_table()

    # ------------------------------------------------------------------ moving

    @on(OptionList.OptionHighlighted, "#suites OptionList")
    def _row_changed(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_index >= len(self._rows):
            return
        row = self._rows[event.option_index]
        before, self.suite, self.category = self.suite, row.suite, row.category
        self._draw_verdict()
        self._draw_row_detail()
        self._draw_flips()
        if self.suite != before:
            self._draw_plots()
            self._draw_advice()

    @on(OptionList.OptionSelected, "#suites OptionList")
    def _row_opened(self) -> None:
        self.action_tab("flips")

    @on(OptionList.OptionSelected, "#flips OptionList")
    def _flip_opened(self, event: OptionList.OptionSelected) -> None:
        from tui_lab.ui.screens.item_view import ItemView

        if (result := self._result) and event.option_index < len(self._flips):
            flips = list(self._flips)
            self.app.push_screen(
                ItemView(
                    lambda at, width: retention.item(result, flips[at], width), len(flips), event.option_index
                )
            )

    def action_tab(self, name: str) -> None:
        super().action_tab(name)
        lists = self.query(f"#{name} OptionList")
        part = self.query_one(f"#{name}")  # one that scrolls takes keys itself
        self.set_focus(lists.first() if lists else part if part.can_focus else None)

    def action_choose_run(self) -> None:
        def take(run_id: str) -> None:
            self.lab.run_id = run_id
            self.show_run(run_id)

        self.pick_run(self.report.run.id if self.report else "", take)

    def action_playground(self) -> None:
        if self.report is not None:
            replay = self.lab.replay_of(self.report.run)
            self.lab.compare_run(str(replay.original.path) if replay else self.report.run.id)

    # ------------------------------------------------------------------ measuring

    def _idle(self) -> Run | None:
        """The run, if a measurement can begin; otherwise None, and a message says why."""
        if self.report is None:
            self.notice(empty.no_run_to_measure(self.keymap), "warning")
        elif self.measurement.refuses() or self.lab.refuse_in_replay(
            self.report.run, "measure the run itself"
        ):
            pass
        elif not self._has_weights:
            self.notice(self._not_measured, "warning")
        else:
            return self.report.run
        return None

    def measure_run(self, run_id: str) -> None:
        """Shows a run, and asks on which suite to measure it."""
        if not self.measurement.refuses():
            self._to_measure = run_id
            self._read(run_id)

    def action_measure(self) -> None:
        run = self._idle()
        if run is None:
            return
        stages = ("stages", "the weights of each stage on the task of every other")
        others = [stages] if self.report and self.report.stages else []
        ask_suite(self, self.suite, others, partial(self._measure, run))

    def _measure(self, run: Run, choice: SuiteChoice) -> None:
        if choice.suite == "stages":
            self.measurement.start("tui_lab.evaluation.stage_scores", "measuring stages", str(run.path))
            return
        self.measurement.start(EVALUATE, f"measuring {choice.name}", run.id, **choice.request)
        self.suite, self.category = choice.name, ""

    def action_judge(self) -> None:
        if (run := self._idle()) is not None and self.report is not None:
            from tui_lab.ui.screens.judged import JudgedPairs

            self.app.push_screen(JudgedPairs(run, self.report.judge))

    def action_sweep(self) -> None:
        if (run := self._idle()) is not None:
            from tui_lab.retention.suites.scored import suite_of

            what, suite = "measuring the strength curve", suite_of(self.suite) or FIRST_SUITE
            self.measurement.start(STRENGTH, what, run.id, suite=suite, keep=0.95)

    def action_save_strength(self) -> None:
        points = self._strengths
        if not self.report or not points:
            self.notice(f"No strength was tried yet. {empty.no_sweep(self.keymap)}", "warning")
            return
        recommended = self.report.strength.recommended.strength
        if recommended:
            self._save_strength(recommended)
            return
        values = [point.strength for point in points]
        lines = [(f"{point.strength:g}", retention.strength_text(point)) for point in points]
        title = "No strength is recommended. Save the adapter at which one?"
        self.pick(title, lines, lambda number: self._save_strength(values[number]))

    def _save_strength(self, strength: float) -> None:
        if (run := self._idle()) is not None:
            what = f"saving the adapter at strength {strength:g}"
            self.measurement.start(STRENGTH, what, run.id, save=strength)

    def _show_progress(self) -> None:
        self.update_footer()
        self._draw_verdict()

    def action_cancel(self) -> None:
        self.measurement.stop()
