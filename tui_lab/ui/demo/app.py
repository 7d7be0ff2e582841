"""The demo: the real lab with a player at its keys. While it plays Space holds it, arrows leap between
chapters and Q leaves; any other key holds it first and then does what it always does. Its runs lie in a
private folder that goes with it, unless one is named."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from textual import events

from tui_lab import __version__
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.settings import Settings, Source
from tui_lab.runs.folder import Run
from tui_lab.runs.replay import Replay
from tui_lab.ui.app import LabApp
from tui_lab.ui.demo import recording
from tui_lab.ui.demo.player import TICK_S, Player
from tui_lab.ui.demo.recorded_host import RecordedHost, RecordingHost
from tui_lab.ui.demo.recording import Recording
from tui_lab.ui.demo.runs import Part
from tui_lab.ui.demo.script import CHAPTERS
from tui_lab.ui.terminal.signals import in_order
from tui_lab.ui.views import welcome

HOLD, NEXT, PREVIOUS = {"space"}, {"right", "n"}, {"left", "p"}
LEAVE = {"q", "Q", "escape", "ctrl+q", "ctrl+c"}
#: Where the demo keeps what the lab would keep of a person's own.
_OWN = {"TUI_LAB_RUNS_DIR": "runs", "TUI_LAB_STATE_DIR": "state", "TUI_LAB_DATA_DIR": "data"}
_OWN["TUI_LAB_CACHE_DIR"] = "cache"
PREFIX = "tui-lab-demo-"
VERSIONED = ("torch", "transformers", "trl", "peft")


class DemoApp(LabApp):
    """The lab while the demo plays. ``live``, ``pace`` and ``patient`` are the player's."""

    CSS = "ToastRack { margin-bottom: 6; }"  # captions stay readable

    def __init__(
        self,
        recording: Recording | None,
        *,
        live: bool = True,
        pace: float = 1.0,
        patient: bool = False,
        settings: Settings | None = None,
        problems: Sequence[str] = (),
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        super().__init__(settings=settings, problems=problems, sources=sources, pane="choose")
        self.player = Player(self, recording, live, pace, patient)
        self._host = RecordingHost(self._host_changed)
        self.live_host: RecordingHost | None = self._host
        if not live and recording is not None:
            self.recorded_answers(recording)
            self.player.recorded_answers = True

    async def on_mount(self) -> None:  # Textual calls LabApp's as well
        self.after_first_frame(self._begin)

    def _begin(self) -> None:
        self.set_interval(TICK_S, self.player.tick)
        self._play_from(0)

    def _play_from(self, number: int) -> None:
        self.player.hold(False)
        self.player.over = False
        self.run_worker(
            self.player.play(number), group="demo", exclusive=True, exit_on_error=False, name="demo"
        )

    # ------------------------------------------------------------------ what the player asks for

    def tell(self, text: str, severity: Any = "information") -> None:
        """A passing message."""
        self.notify(sanitize(text), severity=severity, timeout=10, markup=False)

    def measure(self, part: Part) -> None:
        self.run_worker(self.player.measure(part), group=f"measure {part.name}", exit_on_error=False)

    def recorded_answers(self, recording: Recording) -> None:
        """Compare answers from the recording from now on."""
        if self._host is not None and self.is_running:
            self.run_worker(self._host.close(), group="host", exit_on_error=False)
        self._host = RecordedHost(recording.answers, self._host_changed, self.player.wait)

    def _host_changed(self, status: Any) -> None:
        self.host_status = status

    def replay_of(self, run: Run | None) -> Replay | None:
        for part in self.player.parts.values():
            if part.replay is not None and run is not None and part.replay.is_of(run):
                return part.replay
        return None

    # ------------------------------------------------------------------ keys

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and self._demo_key(event.key):
            return
        if isinstance(event, events.MouseDown | events.MouseScrollDown | events.MouseScrollUp):
            self.player.hold(not self.player.over, taken=True)
        await super().on_event(event)

    def _demo_key(self, key: str) -> bool:
        """Whether a key was the demo's. Any other holds it."""
        player = self.player
        if player.over or len(self.screen_stack) > 1:
            return False
        if player.typing:
            return False  # Esc goes back to the pane
        if key in LEAVE and not (player.held and key == "escape"):
            self.action_leave()
        elif key in HOLD:
            player.hold(not player.held)
        elif key in NEXT | PREVIOUS and not player.held:
            number = player.number + (1 if key in NEXT else -1)
            self._play_from(max(0, min(len(CHAPTERS) - 1, number)))
        else:
            player.hold(True, taken=True)
            return False
        return True

    def exit(self, *args: Any, **options: Any) -> None:
        self.workers.cancel_group(self, "demo")  # nothing turns to another pane while panes are closed
        super().exit(*args, **options)

    def action_leave(self) -> None:
        """Ends the demo. Only about runs that somebody started in it there is a question."""
        if not any(child.poll() is None for child in self._children):
            self.exit()
            return
        from tui_lab.ui.widgets.dialogs import Confirm

        question = "A run that you started here lies in the demo's folder and ends with it."
        self.push_screen(
            Confirm(question, yes="leave", no="stay"), lambda leave: self.exit() if leave else None
        )


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """A private folder for everything that the demo writes, in the environment of all that it starts;
    ``keep`` names one that stays. Raises LabError."""
    try:
        if keep is None:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        else:
            folder = keep.expanduser().resolve()
            folder.mkdir(parents=True, exist_ok=True)
        for name in _OWN.values():
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        (folder / "state" / welcome.MARK).touch()  # the story says what there is to say
    except OSError as error:
        where = "" if keep is None else f" in {sanitize(str(keep))}"
        raise LabError(f"the demo has no place for its runs{where}: {error.strerror or error}") from None
    before = {name: os.environ.get(name) for name in _OWN}
    os.environ.update({name: str(folder / below) for name, below in _OWN.items()})
    try:
        yield folder
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def about(player: Player) -> dict[str, Any]:
    """When and where a live demo was played, and which run was which part."""
    runs = {name: part.run.id for name, part in player.parts.items() if part.run and not part.recorded}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": {"tui_lab": __version__, **{name: _version(name) for name in VERSIONED}},
        "runs": runs,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def machine() -> str:
    """The processor and how many of its cores there are."""
    name = "CPU"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{sanitize(name)}, {cores} core{'s' * (cores != 1)}"


def save(app: DemoApp, folder: Path) -> None:
    """Writes beside the runs what makes a recording of a demo that was played live."""
    if app.live_host is not None:
        app.live_host.save(folder / recording.ANSWERS)
    text = json.dumps(about(app.player), indent=1) + "\n"
    (folder / recording.ABOUT).write_text(text, encoding="utf-8")


def main(
    settings: Settings,
    problems: Sequence[str] = (),
    sources: Mapping[str, Source] | None = None,
    *,
    live: bool = True,
    keep: Path | None = None,
    patient: bool = False,
) -> int:
    """Plays the demo on this terminal; the exit code. Raises LabError."""
    with in_order() as ending, place(keep) as folder, tempfile.TemporaryDirectory(prefix=PREFIX) as unpacked:
        found: Recording | None = None
        try:
            found = recording.unpack(Path(unpacked))
        except LabError as error:
            if not live:
                raise
            problems = [*problems, str(error)]
        app = DemoApp(
            found, live=live, patient=patient, settings=settings, problems=problems, sources=sources
        )
        try:
            code = ending.run(app, mouse=app.settings.mouse)
        finally:
            app.player.close(leave_running=False)
            _end_children(app)
        # a demo that was left early does not take the place of one that was played to its end
        if keep is not None and live and (app.player.over or not (folder / recording.ABOUT).exists()):
            save(app, folder)
        return code


def _end_children(app: LabApp) -> None:
    """Runs that somebody started in the demo end with it: their folder is the demo's."""
    for process in app._children:
        if process.poll() is None:
            part = Part("", process=process)
            part.close()
