"""The demo: the real lab, driven by the player. Space pauses it, arrows go to the next or previous chapter, Q
quits; any other key pauses it and then does what it does in the lab. Its runs are written to a temporary
folder, or to the one that ``--keep`` names."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from rich.console import RenderableType
from textual import events

from tui_lab import __version__
from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import Settings, SettingSource
from tui_lab.core.subprocesses import temporary_environment
from tui_lab.hardware.cpu import threads
from tui_lab.runs.folder import Run
from tui_lab.runs.replay import Replay
from tui_lab.ui.app import LabApp
from tui_lab.ui.demo import recording
from tui_lab.ui.demo.player import TICK_S, Player
from tui_lab.ui.demo.recorded_client import RecordedClient, RecordingClient
from tui_lab.ui.demo.recording import About, Recording
from tui_lab.ui.demo.runs import DemoRun, end_process
from tui_lab.ui.demo.script import CHAPTERS
from tui_lab.ui.terminal.signals import handle_signals
from tui_lab.ui.views import welcome

PAUSE, NEXT, PREVIOUS = {"space"}, {"right", "n"}, {"left", "p"}
QUIT = {"q", "Q", "escape", "ctrl+q", "ctrl+c"}
#: Folders of the lab that the demo replaces by its own.
_FOLDERS = {
    "TUI_LAB_RUNS_DIR": "runs",
    "TUI_LAB_STATE_DIR": "state",
    "TUI_LAB_DATA_DIR": "data",
    "TUI_LAB_CACHE_DIR": "cache",
}
PREFIX = "tui-lab-demo-"
#: Packages whose versions a recording names.
PACKAGES = ("torch", "transformers", "trl", "peft")


class DemoApp(LabApp):
    """The lab with a player. ``recording``: what a replay plays; None for a live demo."""

    CSS = LabApp.CSS + " ToastRack { margin-bottom: 6; }"  # captions stay readable

    def __init__(
        self,
        recording: Recording | None = None,
        *,
        pace: float = 1.0,
        settings: Settings | None = None,
        problems: Sequence[str] = (),
        sources: Mapping[str, SettingSource] | None = None,
    ) -> None:
        super().__init__(settings=settings, problems=problems, sources=sources, pane="setup")
        self.player = Player(self, recording, pace)
        self.recorder: RecordingClient | None = None
        if recording is None:
            self.playground.client = self.recorder = RecordingClient(self.playground.changed)
        else:
            self.playground.client = RecordedClient(
                recording.answers, self.playground.changed, self.player.wait
            )

    async def on_mount(self) -> None:  # in addition to LabApp's
        self.after_first_frame(self._begin)

    def _begin(self) -> None:
        self.set_interval(TICK_S, self.player.tick)
        self.play_from(0)

    def play_from(self, number: int) -> None:
        """Plays from a chapter on."""
        self.player.pause(False)
        self.player.is_over = False
        self.run_worker(
            self.player.play(number), group="demo", exclusive=True, exit_on_error=False, name="demo"
        )

    # ------------------------------------------------------------------ for the player

    def show_message(self, text: str, is_error: bool = False) -> None:
        self.notify(
            sanitize(text), severity="warning" if is_error else "information", timeout=10, markup=False
        )

    def start_measurement(self, run: DemoRun) -> None:
        self.run_worker(self.player.measure(run), group=f"measure {run.name}", exit_on_error=False)

    def replay_of(self, run: Run | None) -> Replay | None:
        for each in self.player.runs.values():
            if each.replay is not None and run is not None and each.replay.is_of(run):
                return each.replay
        return None

    # ------------------------------------------------------------------ keys

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and self._handle_key(event.key):
            return
        if isinstance(event, events.MouseDown | events.MouseScrollDown | events.MouseScrollUp):
            self.player.pause(not self.player.is_over, taken_over=True)
        await super().on_event(event)

    def _handle_key(self, key: str) -> bool:
        """Whether the demo handled a key. Any other key pauses it."""
        player = self.player
        if player.is_over or len(self.screen_stack) > 1:
            return False
        if player.is_typing:
            return False  # Esc goes back to the pane
        if key in QUIT and not (player.is_paused and key == "escape"):
            self.action_leave()
        elif key in PAUSE:
            player.pause(not player.is_paused)
        elif key in NEXT | PREVIOUS and not player.is_paused:
            number = player.number + (1 if key in NEXT else -1)
            self.play_from(max(0, min(len(CHAPTERS) - 1, number)))
        else:
            player.pause(True, taken_over=True)
            return False
        return True

    def exit(self, result: None = None, return_code: int = 0, message: RenderableType | None = None) -> None:
        self.workers.cancel_group(self, "demo")  # the player must not switch panes while they are closed
        super().exit(result, return_code, message)

    def action_leave(self) -> None:
        """Ends the demo. Asks first if the user started runs of their own in it."""
        if not self.runs.has_children():
            self.exit()
            return
        from tui_lab.ui.widgets.dialogs import Confirm

        question = "A run that you started here is in the demo's folder and ends with the demo."
        self.push_screen(
            Confirm(question, yes="quit", no="stay"), lambda quits: self.exit() if quits else None
        )

    def end_processes(self) -> None:
        """Ends the demo's runs and those that the user started, which are in the demo's folder."""
        self.player.close()
        for process in self.runs.children:
            end_process(process)


@contextlib.contextmanager
def demo_folder(keep: Path | None) -> Iterator[Path]:
    """A temporary folder, or ``keep``, that the environment names as the lab's runs, state, data and cache
    folders. Raises LabError."""
    try:
        if keep is None:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        else:
            folder = expanded(keep).resolve()
            folder.mkdir(parents=True, exist_ok=True)
        for name in _FOLDERS.values():
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        (folder / "state" / welcome.MARK).touch()  # the story replaces the welcome message
    except OSError as error:
        where = "" if keep is None else f" in {sanitize(str(keep))}"
        raise LabError(f"the demo cannot write its runs{where}: {error.strerror or error}") from None
    try:
        with temporary_environment({name: str(folder / below) for name, below in _FOLDERS.items()}):
            yield folder
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def about(player: Player) -> About:
    """When and where a live demo was played, and the ids of its runs."""
    return About(
        runs={name: run.run.id for name, run in player.runs.items() if run.run},
        date=time.strftime("%Y-%m-%d"),
        machine=machine(),
        versions={"tui_lab": __version__, **{name: _version(name) for name in PACKAGES}},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def machine() -> str:
    """The name of the processor and its number of cores."""
    name = "CPU"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{sanitize(name)}, {plural(threads(), 'core')}"


def save(app: DemoApp, folder: Path) -> None:
    """Adds to the runs of a live demo what :func:`tui_lab.ui.demo.recording.pack` needs."""
    if app.recorder is not None:
        app.recorder.save(folder / recording.ANSWERS)
    text = json.dumps(msgspec.to_builtins(about(app.player)), indent=1) + "\n"
    (folder / recording.ABOUT).write_text(text, encoding="utf-8")


def main(
    settings: Settings,
    problems: Sequence[str] = (),
    sources: Mapping[str, SettingSource] | None = None,
    *,
    live: bool = True,
    keep: Path | None = None,
) -> int:
    """Plays the demo on this terminal; returns the exit code. Raises LabError."""
    with (
        handle_signals() as handler,
        demo_folder(keep) as folder,
        tempfile.TemporaryDirectory(prefix=PREFIX) as temp,
    ):
        found = None if live else recording.unpack(Path(temp))
        app = DemoApp(found, settings=settings, problems=problems, sources=sources)
        try:
            code = handler.run(app, mouse=app.settings.mouse)
        finally:
            app.end_processes()
        # a demo that was quit early does not replace one that was played to its end
        if keep is not None and live and (app.player.is_over or not (folder / recording.ABOUT).exists()):
            save(app, folder)
        return code
