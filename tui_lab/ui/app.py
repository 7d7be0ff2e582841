"""The lab: one Textual app with a mode for each pane. Panes are imported when they are first shown, and what
the first frame does not need is loaded after it: the first frame is due within half a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ScreenStackError, SystemCommand, get_system_commands_provider
from textual.errors import NoWidget
from textual.reactive import reactive

from tui_lab.core.settings import Settings, SettingSource
from tui_lab.ui import pane_switcher, replay_player
from tui_lab.ui.actions import keymap, registry
from tui_lab.ui.first_frame import FirstFrame
from tui_lab.ui.open_screens import OPENERS, close_modals, make_way, only_shows
from tui_lab.ui.playground_process import PlaygroundProcess
from tui_lab.ui.run_monitor import RunMonitor
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.too_small import TooSmall, too_small
from tui_lab.ui.terminal.gc_policy import Collector
from tui_lab.ui.terminal.signals import handle_signals
from tui_lab.ui.terminal.terminal_app import TerminalApp
from tui_lab.ui.terminal.textual_internals import all_screens, has_been_shown, keymap_of
from tui_lab.ui.terminal.types import AnyScreen
from tui_lab.ui.type_ahead import KeyDone, TypeAhead
from tui_lab.ui.widgets.header import HeaderLine

if TYPE_CHECKING:
    import subprocess

    from textual.actions import ActionParseResult
    from textual.command import Provider
    from textual.dom import DOMNode

    from tui_lab.playground.client import PlaygroundClient
    from tui_lab.playground.messages import PlaygroundStatus
    from tui_lab.runs.folder import Run
    from tui_lab.runs.replay import Replay
    from tui_lab.runs.stages import EarlierRun

#: Sentences about a user's files that fit on a small screen at once.
MOST_PROBLEMS = 2


def _setup() -> AnyScreen:
    from tui_lab.ui.screens.setup import SetupPane

    return SetupPane()


def _train() -> AnyScreen:
    from tui_lab.ui.screens.train import TrainPane

    return TrainPane()


def _playground() -> AnyScreen:
    from tui_lab.ui.screens.playground import PlaygroundPane

    return PlaygroundPane()


def _retention() -> AnyScreen:
    from tui_lab.ui.screens.retention import RetentionPane

    return RetentionPane()


def _runs() -> AnyScreen:
    from tui_lab.ui.screens.runs import RunsPane

    return RunsPane()


def _lab_commands() -> type[Provider]:
    from tui_lab.ui.actions.palette import LabCommands

    return LabCommands


class LabApp(TerminalApp):
    """The lab. ``run_id`` opens Train on that run, ``replay`` on a recording; ``pane`` overrides the first
    pane of the settings. ``problems`` are sentences about ignored settings, ``sources`` where each setting
    comes from."""

    TITLE = "tui-lab"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[Any]] = {_lab_commands, get_system_commands_provider}
    BINDINGS = registry.bindings("app")
    MODES: ClassVar[dict[str, str | Callable[[], AnyScreen]]] = {
        "setup": _setup,
        "train": _train,
        "playground": _playground,
        "retention": _retention,
        "runs": _runs,
    }

    #: Text of the header line: (model · preset, state of the run).
    run_line: reactive[tuple[str, str]] = reactive(("", ""))
    #: The run that Train and Retention show; set by Setup on a start, by the command line, or by a pane.
    run_id: reactive[str] = reactive("")
    #: State of the playground process.
    playground_status: reactive[PlaygroundStatus | None] = reactive(None)

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        problems: Sequence[str] = (),
        sources: Mapping[str, SettingSource] | None = None,
        pane: str = "",
        run_id: str = "",
        replay: Replay | None = None,
    ) -> None:
        super().__init__(settings or Settings())
        self.sources = dict(sources or {})
        self.replayer = replay_player.ReplayPlayer(self, replay)
        if replay is not None:
            run_id = str(replay.run.path)
        self.first_pane = "train" if run_id else pane or self.settings.pane
        self.set_reactive(LabApp.run_id, run_id)
        self.first_frame = FirstFrame(self)
        self.panes = pane_switcher.PaneSwitcher(self._switch_pane)
        self.runs = RunMonitor(self)
        self.playground = PlaygroundProcess(self)
        self.collector = Collector(self)
        self.type_ahead = TypeAhead(self, self._carry_out)
        self._problems = [*problems, *self.use_keys()]

    def use_keys(self) -> list[str]:
        """Applies the keys of the settings; returns a sentence for each one that cannot be used."""
        usable, problems = keymap.checked(self.settings.keys, self.settings.keymap)
        self.set_keymap(usable)
        for screen in all_screens(self):
            screen.query(HeaderLine).refresh()  # it shows the panes' keys
        return problems

    def get_system_commands(self, screen: AnyScreen) -> Iterable[SystemCommand]:
        """Of Textual's own commands those that the registry does not have."""
        for command in super().get_system_commands(screen):
            if command.title == "Screenshot":
                yield command

    # ------------------------------------------------------------------ start and end

    async def on_mount(self) -> None:
        self.first_frame.call_after(self._load_rest)
        self.replayer.start()
        self.switch_mode(self.first_pane)

    def after_first_frame(self, callback: Callable[[], object]) -> None:
        """Calls back once a pane has been drawn."""
        self.first_frame.call_after(callback)

    def post_display_hook(self) -> None:
        self.first_frame.displayed()

    def _load_rest(self) -> None:
        """Loads what the first frame does not need: the other themes, and problems with a user's files."""
        if not self.is_running:
            return  # it was closed at once
        problems = [*self.load_appearance(), *self._problems]
        if len(problems) > MOST_PROBLEMS:
            more = f"and {len(problems) - MOST_PROBLEMS} more: see `tui-lab settings` and `tui-lab doctor`"
            problems = [*problems[:MOST_PROBLEMS], more]
        for text in problems:
            self.notify(text, severity="warning", title="Ignored", timeout=12, markup=False)
        if self.first_pane == "setup":
            from tui_lab.ui.views import welcome

            if welcome.is_due():
                self.action_open("first_run")
        self.runs.start_announcing()
        self.runs.start_notifying()
        self.collector.start()

    async def on_unmount(self) -> None:
        await self.playground.close()

    def action_leave(self) -> None:
        """Quits, after a question if a run is in progress: the run is a process of its own and continues."""
        live = self.live_runs()
        if not live:
            self.exit()
            return
        from tui_lab.ui.widgets.dialogs import Confirm

        subject, them = ("The run continues", "it") if live == 1 else (f"{live} runs continue", "them")
        stop = registry.keys_of("train.stop", keymap_of(self))
        question = (
            f"{subject} without the lab, which shows {them} again when you come back. To end a run, stay and "
            f"press {stop} on Train."
        )
        self.push_screen(
            Confirm(question, yes="leave", no="stay"), lambda leave: self.exit() if leave else None
        )

    async def action_quit(self) -> None:
        self.action_leave()

    # ------------------------------------------------------------------ runs

    @property
    def playground_client(self) -> PlaygroundClient:
        """The client of the playground process, which starts with the first request."""
        return self.playground.get()

    def live_runs(self) -> int:
        """The number of runs in progress, whoever started them."""
        return self.runs.live()

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for a child process, so that it does not become a zombie."""
        self.runs.adopt(process)

    def started(self, process: subprocess.Popen[bytes]) -> None:
        """Called when a run has been started as this child process."""
        self.adopt(process)
        self.playground.free_gpu()

    def open_run(self, run_id: str, process: subprocess.Popen[bytes] | None = None) -> None:
        """Shows a run on Train. ``process``: the child that was just started for it."""
        if process is not None:
            self.started(process)
        self.run_id = run_id
        self.action_pane("train")

    def compare_run(self, run_id: str) -> None:
        """Shows a run next to its base model on Playground."""
        from tui_lab.ui.screens.playground import PlaygroundPane

        def begin() -> None:
            if isinstance(self.screen, PlaygroundPane):
                self.screen.compare_run(run_id)

        self.action_pane("playground")
        self.call_after_refresh(begin)

    def measure_run(self, run_id: str) -> None:
        """Shows a run on Retention, and asks on which suite to measure it."""
        from tui_lab.ui.screens.retention import RetentionPane

        def begin() -> None:
            if isinstance(self.screen, RetentionPane):
                self.screen.measure_run(run_id)

        self.run_id = run_id
        self.action_pane("retention")
        self.call_after_refresh(begin)

    def run_again(self, values: dict[str, object]) -> None:
        """Shows the recipe of a run, given by field, on Setup."""
        from tui_lab.ui.screens.setup import SetupPane

        def begin() -> None:
            if isinstance(self.screen, SetupPane):
                self.screen.choose_again(values)

        self.action_pane("setup")
        self.call_after_refresh(begin)

    def go_on(self, earlier: EarlierRun) -> None:
        """Shows on Setup a recipe that goes on from a run, and asks for its data."""
        from tui_lab.ui.screens.setup import SetupPane

        def begin() -> None:
            if isinstance(self.screen, SetupPane):
                self.screen.go_on(earlier)

        self.action_pane("setup")
        self.call_after_refresh(begin)

    def shown_run(self) -> Run:
        """The run that the pane shows, else the one that the app names, else the newest. Raises LabError."""
        from tui_lab.runs.folder import open_run

        run = getattr(self.screen, "run_shown", None)
        return run if run is not None else open_run(self.run_id or "latest")

    def replay_of(self, run: Run | None) -> Replay | None:
        """The replay whose folder ``run`` is; None for a real run."""
        return self.replayer.of(run)

    def now(self, run: Run) -> float:
        """The current time of a run in seconds since 1970. A replay has the time of its recording."""
        return replay_player.now(self.replay_of(run))

    def refuse_in_replay(self, run: Run | None, what: str) -> bool:
        """Whether ``run`` is a replay; if so, a message says what to do instead."""
        replay = self.replay_of(run)
        if replay is not None:
            self.notify(replay_player.refusal(replay, what), severity="warning", markup=False)
        return replay is not None

    # ------------------------------------------------------------------ keys, mouse and size

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Paste) and not event.is_forwarded:
            await self.type_ahead.take(event)
            return
        if not isinstance(event, events.InputEvent):
            await super().on_event(event)
            return
        if event.is_forwarded:  # it has bubbled up
            await self._carry_out(event)
            return
        self.collector.input_arrived()
        if isinstance(event, events.MouseDown) and self._is_detached(event.x, event.y):
            return
        if isinstance(event, events.Key):
            await self.type_ahead.take(event)
        else:
            await self._carry_out(event)

    async def _carry_out(self, event: events.Event) -> None:
        with pane_switcher.requested_at(event.time):  # digits come back from widgets later than function keys
            await super().on_event(event)

    def on_key_done(self, message: KeyDone) -> None:
        self.type_ahead.done(message)

    def _is_detached(self, x: int, y: int) -> bool:
        """Whether the widget at a cell was removed after the last layout (such as a message that a first
        click closed): Textual 8.2.8 fails when it begins to select text there."""
        try:
            return not self.get_widget_at(x, y)[0].is_attached
        except (NoWidget, ScreenStackError):
            return False

    def on_resize(self, event: events.Resize) -> None:
        self._guard_size(*event.size)

    def _guard_size(self, width: int, height: int) -> None:
        """Covers a window that is too small for the panes."""
        top = self.screen_stack[-1] if self.screen_stack else None
        if too_small(width, height):
            if isinstance(top, TooSmall):
                top.update(width, height)
            elif top is not None:
                self.push_screen(TooSmall())
        elif isinstance(top, TooSmall):
            top.dismiss()

    def watch_marker(self, marker: str) -> None:
        self._set_plots(marker=marker)

    def watch_plot_weight(self, weight: str) -> None:
        self._set_plots(weight=weight)

    def _set_plots(self, **options: str) -> None:
        for screen in all_screens(self):
            for plot in screen.query("Plot"):  # by name: the first frame has none
                cast("Any", plot).set_options(**options)

    # ------------------------------------------------------------------ panes

    @property
    def pane(self) -> str:
        """The id of the pane in view."""
        return self.current_mode

    def action_pane(self, name: str) -> None:
        """Goes to a pane and closes what lies above it, unless something unsaved would be lost or a newer
        request was carried out."""
        if close_modals(self):
            self.panes.request(name)

    def show_pane(self, name: str, requested_at: float) -> None:
        """Goes to a pane that was requested at a time on the clock of events."""
        with pane_switcher.requested_at(requested_at):
            self.action_pane(name)

    def _switch_pane(self, name: str) -> None:
        if name == self.current_mode:
            return
        if not has_been_shown(self, name):
            self.collector.keep()
        self.switch_mode(name)
        self.call_after_refresh(lambda: self._guard_size(*self.size))

    # ------------------------------------------------------------------ actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # no palette above a dialog: its commands would have to wait as well
        waits = action == "command_palette" or (action == "open" and parameters == ("themes",))
        if waits and not all(map(only_shows, self.screen_stack[1:])):
            return False
        return super().check_action(action, parameters)

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Runs an action, but none of a pane that does not have its parts yet."""
        if isinstance(default_namespace, Pane) and not default_namespace.is_filled:
            if default_namespace.is_mounted:
                default_namespace.notice("This pane is still being read. Press the key again.", "warning")
            return True
        return await super().run_action(action, default_namespace, namespaces)

    def action_command_palette(self) -> None:
        from tui_lab.ui.actions.palette import Palette

        if self.use_command_palette and not isinstance(self.screen, Palette) and make_way(self):
            self.push_screen(Palette(id="--command-palette"))

    def action_open(self, name: str) -> None:
        """Opens or closes one of the screens above the panes."""
        OPENERS[name](self)


def main(
    settings: Settings | None = None,
    problems: Sequence[str] = (),
    replay: Replay | None = None,
    sources: Mapping[str, SettingSource] | None = None,
) -> int:
    """Opens the lab on this terminal; returns the exit code of the program."""
    app = LabApp(settings=settings, problems=problems, sources=sources, replay=replay)
    with handle_signals() as handler:
        return handler.run(app, mouse=app.settings.mouse)
