"""What screens and widgets may ask of the app. They are typed against this protocol and do not import the
app."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import subprocess

    from textual.dom import DOMNode

    from tui_lab.core.settings import Settings, SettingSource
    from tui_lab.playground.client import PlaygroundClient
    from tui_lab.playground.messages import PlaygroundStatus
    from tui_lab.runs.folder import Run
    from tui_lab.runs.replay import Replay
    from tui_lab.runs.stages import EarlierRun
    from tui_lab.ui.terminal.appearance import Appearance


class Lab(Protocol):
    """The app, as its screens and widgets see it."""

    #: The settings in force, and where each value comes from.
    settings: Settings
    sources: dict[str, SettingSource]

    #: The run that Train and Retention show: an id or a path, "" for the newest.
    run_id: str
    #: Text of the header line: (model · preset, state of the run).
    run_line: tuple[str, str]
    #: State of the playground process.
    playground_status: PlaygroundStatus | None

    #: Whether less is to be sent to the terminal.
    slow_link: bool
    #: How plots are drawn: "braille", "block", "ascii".
    marker: str
    #: Themes and plot markers.
    appearance: Appearance

    # ------------------------------------------------------------------ panes

    @property
    def pane(self) -> str:
        """The id of the pane in view."""
        ...

    def action_pane(self, name: str) -> None:
        """Goes to a pane and closes what lies above it, unless something unsaved would be lost."""
        ...

    def show_pane(self, name: str, requested_at: float) -> None:
        """Goes to a pane that was requested at a time on the clock of events."""
        ...

    def after_first_frame(self, callback: Callable[[], object]) -> None:
        """Calls back once a pane has been drawn."""
        ...

    # ------------------------------------------------------------------ runs

    def shown_run(self) -> Run:
        """The run that the pane shows, else the newest. Raises LabError."""
        ...

    def open_run(self, run_id: str, process: subprocess.Popen[bytes] | None = None) -> None:
        """Shows a run on Train. ``process``: the child that was just started for it."""
        ...

    def compare_run(self, run_id: str) -> None:
        """Shows a run next to its base model on Playground."""
        ...

    def measure_run(self, run_id: str) -> None:
        """Shows a run on Retention, and asks on which suite to measure it."""
        ...

    def run_again(self, values: dict[str, object]) -> None:
        """Shows the recipe of a run, given by field, on Setup."""
        ...

    def go_on(self, earlier: EarlierRun) -> None:
        """Shows on Setup a recipe that goes on from a run, and asks for its data."""
        ...

    def started(self, process: subprocess.Popen[bytes]) -> None:
        """Called when a run has been started as this child process."""
        ...

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for a child process that was started elsewhere, so that it does not become a zombie."""
        ...

    def live_runs(self) -> int:
        """The number of runs in progress, whoever started them."""
        ...

    def now(self, run: Run) -> float:
        """The current time of a run in seconds since 1970. A replay has the time of its recording."""
        ...

    def replay_of(self, run: Run | None) -> Replay | None:
        """The replay whose folder ``run`` is; None for a real run."""
        ...

    def refuse_in_replay(self, run: Run | None, what: str) -> bool:
        """Whether ``run`` is a replay. Shows a message if so, because a replay never changes its run."""
        ...

    # ------------------------------------------------------------------ the playground process

    @property
    def playground_client(self) -> PlaygroundClient:
        """The client of the playground process, which starts with the first request."""
        ...

    # ------------------------------------------------------------------ settings and appearance

    def use_keys(self) -> list[str]:
        """Applies the keys of the settings; returns a sentence for each one that cannot be used."""
        ...

    def forget_marker(self) -> None:
        """Draws plots as the settings say."""
        ...

    def action_open(self, name: str) -> None:
        """Opens or closes one of the screens above the panes (see ``ui/open_screens.py``)."""
        ...


def lab_of(node: DOMNode) -> Lab:
    """The lab that a screen or widget belongs to."""
    return cast("Lab", node.app)
