"""The lab: one Textual app with a mode for each pane. Panes are imported when they are first shown, and
everything that the first frame does not need comes after it: the first frame is due in half a second."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ScreenStackError, SystemCommand, get_system_commands_provider
from textual.errors import NoWidget
from textual.reactive import reactive
from textual.screen import Screen

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import Settings, Source
from tui_lab.ui.actions import keymap, registry
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.too_small import TooSmall, too_small
from tui_lab.ui.terminal.appearance import LooksApp
from tui_lab.ui.terminal.gc_policy import Collector
from tui_lab.ui.terminal.remappable_screen import RemappableScreen
from tui_lab.ui.terminal.signals import in_order
from tui_lab.ui.terminal.textual_internals import (
    all_screens,
    has_been_shown,
    is_batching,
    keymap_of,
)
from tui_lab.ui.widgets.header import HeaderLine

if TYPE_CHECKING:
    from textual.command import Provider
    from textual.timer import Timer

    from tui_lab.playground.client import HostClient
    from tui_lab.playground.messages import HostStatus
    from tui_lab.runs.folder import Run
    from tui_lab.runs.replay import Replay
    from tui_lab.ui.actions.cheat_sheet import CheatSheet
    from tui_lab.ui.actions.help import HelpScreen

#: Newest runs that are looked at for life: older ones have ended.
RUNS_LOOKED_AT = 30
#: Sentences about a user's files that fit on a small screen beside each other.
MOST_PROBLEMS = 2
#: How often the line that says that runs are in progress is made anew.
LIVE_RUNS_EVERY_S = 5.0
#: Seconds between two portions of a replay.
REPLAY_TICK_S = 0.05
#: Seconds that the thread which writes to the terminal gets before anything slow begins.
FIRST_FRAME_FLUSH_S = 0.01


def _choose() -> Screen[Any]:
    from tui_lab.ui.screens.setup import ChoosePane

    return ChoosePane()


def _tune() -> Screen[Any]:
    from tui_lab.ui.screens.train import TunePane

    return TunePane()


def _compare() -> Screen[Any]:
    from tui_lab.ui.screens.playground import ComparePane

    return ComparePane()


def _keep() -> Screen[Any]:
    from tui_lab.ui.screens.retention import KeepPane

    return KeepPane()


def _runs() -> Screen[Any]:
    from tui_lab.ui.screens.runs import RunsPane

    return RunsPane()


def _dashboard() -> Screen[Any]:
    from tui_lab.ui.screens.dashboard import DashboardPane

    return DashboardPane()


def _lab_commands() -> type[Provider]:
    from tui_lab.ui.actions.palette import LabCommands

    return LabCommands


class LabApp(LooksApp):
    """The lab. ``run_id`` opens Tune on that run, ``replay`` on a recording that plays, ``pane`` on another
    pane than the settings say. ``problems`` are sentences about settings that were left out, ``sources`` says
    where each setting came from."""

    TITLE = "tui-lab"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[Any]] = {_lab_commands, get_system_commands_provider}
    BINDINGS = registry.bindings("app")
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "choose": _choose,
        "tune": _tune,
        "compare": _compare,
        "keep": _keep,
        "runs": _runs,
        "dashboard": _dashboard,
    }

    #: What the header line says: (model · preset, state of the run).
    run_line: reactive[tuple[str, str]] = reactive(("", ""))
    #: The run that Tune shows: set by Choose when it starts one, by the command line, or by Tune.
    run_id: reactive[str] = reactive("")
    #: What the process that keeps a model for Compare is doing.
    host_status: reactive[HostStatus | None] = reactive(None)

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        problems: Sequence[str] = (),
        sources: Mapping[str, Source] | None = None,
        pane: str = "",
        run_id: str = "",
        replay: Replay | None = None,
    ) -> None:
        super().__init__(settings or Settings())
        self.sources = dict(sources or {})
        self.replay = replay
        if replay is not None:
            run_id = str(replay.run.path)
        self.first_pane = "tune" if run_id else pane or self.settings.pane
        self.set_reactive(LabApp.run_id, run_id)
        self._drawn = False
        self._waiting: list[Callable[[], Any]] = []
        self.collector = Collector(self)
        self._children: list[subprocess.Popen[bytes]] = []
        self._host: HostClient | None = None
        self._announced = ("", "")  # what the line at the top says of runs that no pane shows
        self._announcing: Timer | None = None
        self._problems = [*problems, *self.use_keys(self.settings.keys)]

    def use_keys(self, keys: Mapping[str, str]) -> list[str]:
        """Applies the user's keys; a sentence for each one that cannot be used."""
        usable, problems = keymap.checked(keys)
        self.set_keymap(usable)
        for screen in all_screens(self):
            screen.query(HeaderLine).refresh()  # it names the panes' keys
        return problems

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Of Textual's own commands those that the registry has not."""
        for command in super().get_system_commands(screen):
            if command.title == "Screenshot":
                yield command

    # ------------------------------------------------------------------ start

    async def on_mount(self) -> None:
        self.after_first_frame(self._load_the_rest)
        if self.replay is not None:
            self._player = self.set_interval(REPLAY_TICK_S, self._play)
        self.switch_mode(self.first_pane)

    def after_first_frame(self, callback: Callable[[], Any]) -> None:
        """Calls back once a pane has been drawn: what is slow must not come before. (``call_after_refresh``
        comes before the screen's first drawing.)"""
        if self._drawn:
            self.call_later(callback)
        else:
            self._waiting.append(callback)

    def post_display_hook(self) -> None:
        # while a batch is open (mounting a pane is one) nothing has been written yet
        if self._drawn or is_batching(self) or not isinstance(self.screen, Pane):
            return
        if not self.screen.is_laid_out:
            return
        self._drawn = True
        for callback in self._waiting:
            self.set_timer(FIRST_FRAME_FLUSH_S, callback)
        self._waiting.clear()

    def _load_the_rest(self) -> None:
        """What can wait: the other themes, and what was wrong with a user's files."""
        if not self.is_running:
            return  # left at once
        wrong = [*self.begin_looks(), *self._problems]
        if len(wrong) > MOST_PROBLEMS:
            more = f"and {len(wrong) - MOST_PROBLEMS} more: see `tui-lab settings` and `tui-lab doctor`"
            wrong = [*wrong[:MOST_PROBLEMS], more]
        for text in wrong:
            self.notify(text, severity="warning", title="Left out", timeout=12, markup=False)
        if self.first_pane == "choose":
            from tui_lab.ui.views import welcome

            if text := welcome.words(keymap_of(self)):
                self.notify(text, title="Welcome", timeout=welcome.SECONDS, markup=False)
        self._announce_live_runs()
        if self._announced[0]:
            self._announcing = self.set_interval(LIVE_RUNS_EVERY_S, self._announce_live_runs)
        self.collector.start()

    # ------------------------------------------------------------------ runs

    def live_runs(self) -> int:
        """Runs in progress: those whose lock a process holds, whoever started them."""
        from tui_lab.runs.events import has_ended
        from tui_lab.runs.folder import is_locked, list_runs

        self._children = [child for child in self._children if child.poll() is None]  # reaps those that ended
        return sum(is_locked(run) and not has_ended(run.events_path) for run in list_runs()[:RUNS_LOOKED_AT])

    def _announce_live_runs(self) -> None:
        """Says that runs are in progress, until a pane shows one or none is left."""
        if self.run_line != self._announced:
            live = 0  # a pane shows a run
        elif live := self.live_runs():
            self.run_line = self._announced = (
                f"{'a run is' if live == 1 else f'{live} runs'} in progress: "
                f"{registry.first_key('app.tune', keymap_of(self))}",
                "running",
            )
        else:
            self.run_line = self._announced = ("", "")
        if not live and self._announcing is not None:
            self._announcing.stop()

    # ------------------------------------------------------------------ a replay

    def _play(self) -> None:
        """Plays what is due of the recording."""
        assert self.replay is not None
        told = self.replay.problem
        self.replay.advance()
        if self.replay.ended:
            self._player.stop()  # a lab in which nothing happens does nothing
        if self.replay.problem and not told:
            self.notify(self.replay.problem, severity="error", markup=False)

    def replay_of(self, run: Run | None) -> Replay | None:
        """The replay that ``run`` is the folder of; None for a run of its own."""
        return self.replay if self.replay and run is not None and self.replay.is_of(run) else None

    def now(self, run: Run) -> float:
        """The clock that a run goes by, in seconds since 1970: a replay has the recording's."""
        replay = self.replay_of(run)
        return replay.now() if replay else time.time()

    def refuse_in_replay(self, run: Run | None, what: str) -> bool:
        """Whether ``run`` is a replay, which is said: a replay writes nothing of the run that it shows."""
        replay = self.replay_of(run)
        if replay is not None:
            text = f"This is a replay of {replay.original.id}, which it leaves as it is: {what}."
            self.notify(text, severity="warning", markup=False)
        return replay is not None

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for a child that was started elsewhere, so that it does not stay behind as a zombie."""
        self._children.append(process)

    def started(self, process: subprocess.Popen[bytes]) -> None:
        """A run has just been started as this child."""
        self.adopt(process)
        self._make_room()

    def open_run(self, run_id: str, process: subprocess.Popen[bytes] | None = None) -> None:
        """Shows a run on Tune. ``process``: the child that was just started for it."""
        if process is not None:
            self.started(process)
        self.run_id = run_id
        if self.current_mode != "tune":
            self.action_pane("tune")

    def compare_run(self, run_id: str) -> None:
        """Shows a run beside its base on Compare."""
        from tui_lab.ui.screens.playground import ComparePane

        def begin() -> None:
            if isinstance(self.screen, ComparePane):
                self.screen.compare_run(run_id)

        self.action_pane("compare")
        self.call_after_refresh(begin)

    def _make_room(self) -> None:
        """A run that starts finds the GPU free: the host's model goes, and comes back when it is asked."""
        if self._host is not None and self._host.status.device.startswith("cuda"):
            self.run_worker(self._host.unload(), group="host", exit_on_error=False)

    # ------------------------------------------------------------------ the host

    @property
    def host(self) -> HostClient:
        """The process that keeps a model; it starts with the first request."""
        if self._host is None:
            from tui_lab.playground.client import HostClient

            self._host = HostClient(lambda status: setattr(self, "host_status", status))
        return self._host

    async def on_unmount(self) -> None:
        if self._host is not None:
            await self._host.close()

    # ------------------------------------------------------------------ keys and mouse

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.InputEvent):
            self.collector.somebody_is_there()
        if not (isinstance(event, events.MouseDown) and self._is_gone(event.x, event.y)):
            await super().on_event(event)

    def _is_gone(self, x: int, y: int) -> bool:
        """Whether what stands at a cell has been removed since the last layout (a passing message that a
        first click took away): Textual 8.2.8 fails over it when it begins to select text there."""
        try:
            return not self.get_widget_at(x, y)[0].is_attached
        except (NoWidget, ScreenStackError):
            return False

    # ------------------------------------------------------------------ size

    def on_resize(self, event: events.Resize) -> None:
        self._guard_size(*event.size)

    def _guard_size(self, width: int, height: int) -> None:
        top = self.screen_stack[-1] if self.screen_stack else None
        if too_small(width, height):
            if isinstance(top, TooSmall):
                top.update(width, height)
            elif top is not None:
                self.push_screen(TooSmall())
        elif isinstance(top, TooSmall):
            top.dismiss()

    # ------------------------------------------------------------------ actions

    @property
    def pane(self) -> str:
        """The pane that is shown."""
        return self.current_mode

    def action_pane(self, name: str) -> None:
        """Goes to a pane, unless a question is open, which is said."""
        if self._question_open() or name == self.current_mode:
            return
        if not has_been_shown(self, name):  # for the first time
            self.collector.keep()
        self.switch_mode(name)
        self.call_after_refresh(lambda: self._guard_size(*self.size))

    def _question_open(self) -> bool:
        """Whether something lies over the pane, which keeps everything else waiting; says so."""
        if len(self.screen_stack) == 1:
            return False
        if not isinstance(self.screen, TooSmall):
            self.notify("First answer or leave what lies over the pane.", timeout=4, markup=False)
        return True

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # no palette over a question: what it would do has to wait as well
        if action in ("command_palette", "change_theme") and len(self.screen_stack) > 1:
            return False
        return super().check_action(action, parameters)

    def action_command_palette(self) -> None:
        from tui_lab.ui.actions.palette import Palette

        if self.use_command_palette and not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def action_help(self) -> None:
        """The long help, what is in view first; leaves it when it is open."""
        from tui_lab.ui.actions.help import HelpScreen

        self._turn(HelpScreen)

    def action_cheat_sheet(self) -> None:
        """The keys of what is in view; leaves them when they are open."""
        from tui_lab.ui.actions.cheat_sheet import CheatSheet

        self._turn(CheatSheet)

    def action_jump(self) -> None:
        """Letters over everything in view; leaves them when they are there."""
        from tui_lab.ui.actions.jump import Jump, Place, places

        def go(place: Place | None) -> None:
            if place is not None:
                self.call_later(place.go)

        top = self.screen
        if isinstance(top, Jump):
            top.dismiss(None)
        elif isinstance(top, RemappableScreen) and (found := places(top)):
            self.push_screen(Jump(found), go)

    def action_explain(self) -> None:
        """Explains what has the focus; leaves the explanations when they are open."""
        from tui_lab.ui.actions.explain import ExplainScreen
        from tui_lab.ui.actions.explanations import asked

        top = self.screen
        if isinstance(top, ExplainScreen):
            top.dismiss()
        elif isinstance(top, RemappableScreen):
            self.push_screen(ExplainScreen(*asked(self.screen_stack)))

    def action_whether(self) -> None:
        """The page of the help that asks whether to fine-tune at all."""
        from tui_lab.ui.actions.help import HelpScreen

        if not self._question_open():
            self.push_screen(HelpScreen(getattr(self.screen, "GROUP", ""), whether=True))

    def _turn(self, screen: type[CheatSheet] | type[HelpScreen]) -> None:
        top = self.screen
        if isinstance(top, screen):
            top.dismiss()
        elif not isinstance(top, TooSmall) and (group := getattr(top, "GROUP", "")):
            self.push_screen(screen(group))

    def action_change_theme(self) -> None:
        from tui_lab.ui.screens.theme_chooser import ThemeChooser

        if self.no_color:
            self.notify("No colours are sent (NO_COLOR or --no-color), so all themes look the same.")
            return
        self.push_screen(ThemeChooser())

    def action_settings(self) -> None:
        from tui_lab.ui.screens.settings import SettingsScreen

        if len(self.screen_stack) == 1:  # no question is open
            self.push_screen(SettingsScreen())

    def action_doctor(self) -> None:
        from tui_lab.ui.screens.doctor import DoctorScreen

        if len(self.screen_stack) == 1:
            self.push_screen(DoctorScreen())

    def action_export(self) -> None:
        from tui_lab.ui.screens.export import open_export

        if self.refuse_in_replay(getattr(self.screen, "run_shown", None), "export the run itself"):
            return
        if not self._question_open():
            open_export(self.screen)

    def shown_run(self) -> Run:
        """The run that the pane shows, else the one that the app names, else the newest. Raises LabError."""
        from tui_lab.runs.folder import open_run

        run = getattr(self.screen, "run_shown", None)
        return run if run is not None else open_run(self.run_id or "latest")

    def action_report(self) -> None:
        """Writes the report of the run that is shown, in a thread: its log may be long."""
        if len(self.screen_stack) > 1:
            return
        try:
            run = self.shown_run()
        except LabError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        if self.refuse_in_replay(run, f"`tui-lab report {run.id}` writes its report"):
            return
        self.run_worker(
            lambda: self._write_report(run), thread=True, group="report", exclusive=True, exit_on_error=False
        )

    def _write_report(self, run: Run) -> None:
        from tui_lab.report.write import write

        try:
            paths = write(run)
        except LabError as error:
            self.call_from_thread(self.notify, sanitize(str(error)), severity="error", markup=False)
            return
        names = " and ".join(path.name for path in paths)
        text = f"{names} lie in {sanitize(str(run.path))}"
        self.call_from_thread(self.notify, text, title="Report", timeout=12, markup=False)

    def action_leave(self) -> None:
        """Quits; a run in progress is a process of its own and goes on, which is said first."""
        live = self.live_runs()
        if not live:
            self.exit()
            return
        from tui_lab.ui.widgets.dialogs import Confirm

        runs = "The run goes" if live == 1 else f"{live} runs go"
        question = (
            f"{runs} on without the lab, which shows {'it' if live == 1 else 'them'} again when you come "
            f"back. To end a run, stay and press {registry.keys_of('tune.stop', keymap_of(self))} on Tune."
        )
        self.push_screen(
            Confirm(question, yes="leave", no="stay"), lambda leave: self.exit() if leave else None
        )

    async def action_quit(self) -> None:
        self.action_leave()


def main(
    settings: Settings | None = None,
    problems: Sequence[str] = (),
    replay: Replay | None = None,
    sources: Mapping[str, Source] | None = None,
) -> int:
    """Opens the lab on this terminal; the exit code of the program."""
    app = LabApp(settings=settings, problems=problems, sources=sources, replay=replay)
    with in_order() as ending:
        return ending.run(app, mouse=app.settings.mouse)
