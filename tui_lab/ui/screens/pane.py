"""The base of all panes: a screen with a header line and a footer, keys from the registry, plots that are
redrawn when the pane is shown again, and classes for narrow, normal and wide windows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.notifications import SeverityLevel
from textual.screen import Screen

from tui_lab.core.changed_inputs import ChangedInputs, accepting
from tui_lab.core.errors import LabError
from tui_lab.ui.actions.footer import KeysLine
from tui_lab.ui.actions.registry import keys_of
from tui_lab.ui.lab import Lab, lab_of
from tui_lab.ui.screens import ask_changes
from tui_lab.ui.terminal.remappable_screen import RemappableScreen
from tui_lab.ui.terminal.textual_internals import is_closing
from tui_lab.ui.widgets.header import HeaderLine
from tui_lab.ui.widgets.panel import PANE_CSS
from tui_lab.ui.widgets.tab_bar import TabBar, part_tabs

if TYPE_CHECKING:
    from tui_lab.runs.folder import Run

T = TypeVar("T")

#: Below this the layout cannot hold together: the lab says so instead.
MIN_COLUMNS, MIN_ROWS = 60, 18


class Pane(RemappableScreen, Screen[None]):
    """Base of the panes. ``GROUP`` is the pane's id and its group in the registry of actions."""

    GROUP: ClassVar[str] = ""
    DEFAULT_CSS = (
        PANE_CSS
        + """
    Pane #parts { height: 1fr; }
    Pane .part { height: 1fr; display: none; }
    Pane .part.-active { display: block; }
    Pane.-grid .part.-absent { display: none; }
    Pane.-grid TabBar { display: none; }
    """
    )
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-medium"), (48, "-tall")]  # noqa: RUF012

    @property
    def lab(self) -> Lab:
        return lab_of(self)

    def compose(self) -> ComposeResult:
        yield HeaderLine(self.GROUP)
        yield from self.compose_body()
        yield KeysLine(compact=True, show_command_palette=False)

    def compose_body(self) -> ComposeResult:
        """The pane itself, between header and footer."""
        yield from ()

    def keys(self, action_id: str) -> str:
        """An action's keys as a sentence names them."""
        return keys_of(action_id, self.keymap)

    @property
    def is_filled(self) -> bool:
        """Whether the pane has all its parts. Until then its tabs and commands do nothing."""
        return self.is_mounted

    @property
    def is_ready(self) -> bool:
        """Whether it has been read what the keys of the pane act on, too. Keys wait until then."""
        return self.is_filled

    @property
    def is_laid_out(self) -> bool:
        """Whether it has been given a place on the screen."""
        headers = self.query(HeaderLine)
        return bool(headers) and headers.first().size.width > 0

    @property
    def is_left(self) -> bool:
        """Whether the lab ends: what is mounted from then on is nowhere."""
        return is_closing(self.app)

    @on(events.DescendantFocus)
    def _tab_follows(self, event: events.DescendantFocus) -> None:
        """The part that has the focus is the one whose tab is shown once the window holds no more."""
        for part in event.widget.ancestors_with_self:
            shown = {tabs.active for tabs in self.query(TabBar)}
            if part.has_class("part") and part.id and shown - {part.id}:
                self.activate(part.id)

    def activate(self, name: str) -> None:
        """Makes a part the one that a small window shows, and its tab the active one."""
        for tabs in self.query(TabBar):
            tabs.set_tabs(tabs.tabs, name)
        for part in self.query(".part"):
            part.set_class(part.id == name, "-active")

    def show_parts(self, parts: Sequence[tuple[str, str]], absent: Collection[str]) -> None:
        """Shows the ``parts``, given as (id, title), but for those that what is shown does not have."""
        bar, tabs = self.query_one(TabBar), part_tabs([part for part in parts if part[0] not in absent])
        if tabs == bar.tabs:
            return
        for name, _ in parts:
            self.query_one(f"#{name}").set_class(name in absent, "-absent")
        bar.set_tabs(tabs)
        if bar.active in absent:
            self.activate(tabs[0].id)

    @property
    def shows_all_parts(self) -> bool:
        """Whether the window holds every part at once, so that there is no tab to turn."""
        return any(not tabs.display for tabs in self.query(TabBar))

    @property
    def situation(self) -> str:
        """What the footer offers depends on it: a situation of the pane in ``footer.toml``."""
        return ""

    @property
    def idle_actions(self) -> frozenset[str]:
        """Actions without a use now: the footer does without them, and their keys say why."""
        return frozenset()

    _offered: object = None  # what the footer was made for

    def update_footer(self) -> None:
        """Makes the footer anew where the situation has changed. (Textual does that when the focus moves.)"""
        offered = (self.situation, self.idle_actions, self.labels_now)
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    @property
    def labels_now(self) -> dict[str, str]:
        """What keys do as things are now, by action, where that is not what they are called for."""
        return {"turn_tab(1)": "Next part"} if self.shows_all_parts else {}

    def action_tab(self, name: str) -> None:
        """Shows a part, in a pane that has several; the focus goes to what takes keys there."""
        self.activate(name)

    def action_turn_tab(self, by: int) -> None:
        """The next part; where all are in view the next one that takes the focus."""
        tabs = self.query_one(TabBar)
        for _ in tabs.tabs:
            self.action_tab(tabs.neighbour(by))
            if not self.shows_all_parts or self.focused is not None:
                return

    # ------------------------------------------------------------------ plots with windows of their own

    def _plots(self) -> list[Any]:
        """What the keys of plots act on: the plot of the part whose tab is active, else all in view."""
        names = [tabs.active for tabs in self.query(TabBar)]
        plots = [plot for name in names for plot in self.query(f"#{name} Plot")]
        plots = plots or [plot for plot in self.query("Plot") if plot.region.area]
        if not plots:
            self.notice(f"No plot is in view; {self.keys(f'{self.GROUP}.next')} shows the next part.")
        return plots

    def action_zoom(self, by: int) -> None:
        """Shows half of the x axis, or twice as much."""
        for plot in self._plots():
            plot.zoom(by)

    def action_pan(self, by: int) -> None:
        """Shows an earlier or later part of the x axis."""
        for plot in self._plots():
            plot.pan(by)

    def action_cursor(self, by: int) -> None:
        """Moves the cursor that reads values."""
        for plot in self._plots():
            plot.move_cursor(by)

    def action_clear_window(self) -> None:
        """Shows all of each plot, without cursors."""
        for plot in self.query("Plot"):
            cast("Any", plot).show_all()

    def on_screen_resume(self) -> None:
        # by name: most panes need neither of them
        for plot in self.query("Plot"):
            cast("Any", plot).catch_up()
        for lane in self.query("LaneView"):
            cast("Any", lane).show_again()

    def call_back(self, callback: Callable[..., object], *arguments: object) -> None:
        """Calls back from a thread in the app's thread, unless the pane has been removed meanwhile."""
        if self.is_mounted and self.app.is_running:
            self.app.call_from_thread(callback, *arguments)

    def in_thread(
        self, work: Callable[[], T], done: Callable[[T], object] | None = None, group: str = "work"
    ) -> None:
        """Runs ``work`` in a thread, after what the thread of the same ``group`` does, and then ``done`` with
        its result in the app's thread. An error that people can mend becomes a message, and changed inputs
        become a question; after a no ``done`` is not called."""

        def start(accepts: bool = False) -> None:
            self.run_worker(
                partial(run, accepts), thread=True, exclusive=True, group=group, exit_on_error=False
            )

        def run(accepts: bool) -> None:
            try:
                with accepting(accepts):
                    result = work()
            except ChangedInputs as changed:
                text = ask_changes.question(changed)
                yes, no = ask_changes.YES, ask_changes.NO
                self.call_back(self.confirm, text, yes, no, lambda: start(accepts=True))
            except LabError as error:
                self.call_back(self.notice, error, "error")
            else:
                if done is not None:
                    self.call_back(done, result)

        start()

    @property
    def run_shown(self) -> Run | None:
        """The run that the pane shows, in the panes that show one."""
        return None

    def go_on_from(self, name: str) -> None:
        """Shows a recipe on Setup that goes on from a run; a message says where that is not possible."""
        from tui_lab.runs import stages

        self.in_thread(partial(stages.earlier_run, name), self.lab.go_on, "earlier")

    def action_copy_path(self) -> None:
        """Copies the path of the run's folder, and shows it: not every terminal allows to copy."""
        run = self.run_shown
        if run is None:
            self.notice("There is no run here to copy the path of.", "warning")
        else:
            self.copy(str(run.path))

    def copy(self, text: str, what: str = "") -> None:
        """Copies a text, and shows it or ``what`` it is: not every terminal allows to copy."""
        self.app.copy_to_clipboard(text)
        self.notice(f"Copied, if your terminal allows that: {what or text}")

    # ------------------------------------------------------------------ questions

    def confirm(self, question: str, yes: str, no: str, act: Callable[[], object]) -> None:
        """Asks a question, and acts after a yes."""
        from tui_lab.ui.widgets.dialogs import Confirm

        def answered(agreed: bool | None) -> None:
            if agreed:
                act()

        self.app.push_screen(Confirm(question, yes, no), answered)

    def ask(self, question: str, value: str, take: Callable[[str], object], example: str = "") -> None:
        """Asks for one line of text, and takes it unless the question was closed. Text may be empty."""
        from tui_lab.ui.widgets.dialogs import AskText

        def answered(text: str | None) -> None:
            if text is not None:
                take(text)

        self.app.push_screen(AskText(question, value, example, can_be_empty=True), answered)

    def pick(
        self, title: str, lines: Sequence[tuple[str, str]], take: Callable[[int], object], at: int = 0
    ) -> None:
        """Shows a list of (text, explanation), and takes the number of the line that was selected."""
        from tui_lab.ui.widgets.dialogs import Pick

        async def answered(number: int | None) -> None:
            if number is not None and number >= 0:
                result = take(number)
                if isawaitable(result):
                    await result

        self.app.push_screen(Pick(title, lines, at), answered)

    def pick_run(self, current: str, take: Callable[[str], object]) -> None:
        """Shows the list of runs, and takes the id of the one that was selected."""
        from tui_lab.ui.widgets.run_list import RunList

        def answered(run_id: str | None) -> None:
            if run_id:
                take(run_id)

        self.app.push_screen(RunList(current), answered)

    def notice(self, text: object, severity: SeverityLevel = "information") -> None:
        """A passing message. Text is shown as text, never read as markup."""
        from tui_lab.core.sanitize import sanitize

        self.notify(sanitize(str(text), keep_newlines=True), severity=severity, markup=False)
