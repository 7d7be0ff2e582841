"""The two runs of the demo. In a live demo each is a real training process; in a replay it is the playback of
a recorded run. The values in captions come from its event log and its retention results."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from tui_lab.core.sanitize import sanitize
from tui_lab.runs import folder
from tui_lab.runs.folder import Run
from tui_lab.runs.replay import FASTEST, SLOWEST, Replay
from tui_lab.runs.state import ENDED, RunState, Watcher, end_state
from tui_lab.ui.views import retention, retention_data
from tui_lab.ui.views import run as run_text

DATA, SUITE = "support", "everyday"
#: Short versions of the presets, so that each run takes at most 45 s on two idle cores. They probe more
#: often than usual, because the demo shows the probes.
OVERRIDES: dict[str, dict[str, Any]] = {
    "naive": {"max_steps": 200, "probe_share": 0.2},
    "keeper": {"max_steps": 150, "probe_share": 0.1},
}
#: A live run that is expected to take longer than this many seconds is called slow.
SLOW_RUN_S = 60.0
#: Seconds of training before the expected duration of a run is used.
ETA_AFTER_S = 12.0
#: Seconds that the playback of a recorded run takes.
PLAYBACK_S = 8.0
#: Seconds that a process gets to end before it is killed.
GRACE_S = 3.0


@dataclass
class DemoRun:
    """One run of the demo, named after its preset. ``problem`` says why it cannot be shown."""

    name: str
    run: Run | None = None
    process: subprocess.Popen[bytes] | None = None
    replay: Replay | None = None
    watcher: Watcher | None = None
    report: retention_data.RetentionReport | None = None
    started_at: float = 0.0  # monotonic seconds
    progress: str = ""  # of the measurement
    is_measuring: bool = False  # a measurement was started
    is_reported_slow: bool = False
    problem: str = ""

    @property
    def has_started(self) -> bool:
        return self.run is not None

    def start(self) -> None:
        """Starts the training process. Raises LabError."""
        from tui_lab.recipes.presets import make_recipe
        from tui_lab.runs import launch

        recipe = make_recipe(self.name, data=DATA, **OVERRIDES[self.name])
        run = folder.create(recipe, name=self.name)
        self.process = launch.start(run)
        self.run, self.watcher, self.started_at = run, Watcher(run), time.monotonic()

    def play_back(self, original: Run, pace: float, at_once: bool = False) -> None:
        """Plays back a recorded run, ``pace`` times as fast as usual or all ``at_once``."""
        speed = max(SLOWEST, min(FASTEST, round(pace * recorded_seconds(original) / PLAYBACK_S)))
        self.replay = Replay(original, FASTEST if at_once else speed, directory=folder.runs_dir())
        self.run, self.watcher = self.replay.run, Watcher(self.replay.run)

    def close(self) -> None:
        """Ends the training process and the playback."""
        if self.process is not None:
            end_process(self.process)
            self.process = None
        if self.replay is not None:
            self.replay.close()

    # ------------------------------------------------------------------ state

    @property
    def state(self) -> RunState:
        return self.watcher.state if self.watcher else RunState()

    def poll(self) -> None:
        """Reads the events that were written since the last call."""
        if self.process is not None:
            self.process.poll()
        if self.watcher is not None:
            self.watcher.poll(max_records=1_000)
        if self.run is None or self.report is not None or self.end_state != "finished":
            return
        if (self.run.path / "retention" / f"{SUITE}.json").is_file():
            report = retention_data.read(self.run, self.watcher)
            self.report = report if SUITE in report.results and report.results[SUITE].comparison else None

    @property
    def end_state(self) -> str:
        """How the run ended; "" while it is in progress."""
        if self.replay is not None and not self.replay.ended:
            return ""
        if self.state.end:
            return end_state(self.state.end)
        status = self.watcher.status if self.watcher and self.replay is None else ""
        return status if status in ENDED else ""

    @property
    def is_probed(self) -> bool:
        return any(probe.step > 0 for probe in self.state.item_probes) or bool(self.end_state)

    @property
    def is_measured(self) -> bool:
        return self.report is not None

    def expected_s(self) -> float:
        """Expected duration of the live run in seconds; 0 while it is not known."""
        if self.process is None or self.end_state:
            return 0.0
        elapsed, state = time.monotonic() - self.started_at, self.state
        if elapsed < ETA_AFTER_S:
            return 0.0
        return elapsed + (state.eta_s if state.step > 2 and math.isfinite(state.eta_s) else 0.0)

    # ------------------------------------------------------------------ captions

    def values(self) -> dict[str, str]:
        """The values that captions can name, such as ``naive_loss``. Unknown ones are left out."""
        state = self.state
        values: dict[str, str] = {"measuring": self.progress, "doing": self._progress_text()}
        if state.loss.values:
            values["loss_first"], values["loss"] = f"{state.loss.values[0]:.2g}", f"{state.loss.last:.2g}"
        if state.item_probes:
            probe = state.item_probes[-1]
            values["probe"] = f"{probe.headline.value:.0%} at step {probe.step}"
        at_end = state.end.acquisition.end if state.end else None
        start, end = state.score("start"), state.score("end") if at_end is None else at_end
        if math.isfinite(start):
            values["score_start"] = f"{start:.2f}"
        if math.isfinite(end):
            values["score_end"], values["gain"] = f"{end:.2f}", f"{end - start:+.2f}"
        if state.end and (seconds := state.end.seconds) is not None:
            values["seconds"] = f"{seconds:.0f} s"
        values |= self._comparison_values()
        return {f"{self.name}_{name}": sanitize(text) for name, text in values.items()}

    def _comparison_values(self) -> dict[str, str]:
        comparison = self.report.results[SUITE].comparison if self.report else None
        if not comparison:
            return {}
        headline = comparison.headline
        shares = {"retention": headline.value, "low": headline.low, "high": headline.high}
        values = {name: f"{share:.0%}" for name, share in shares.items()}
        values["verdict"] = retention.verdict_label(comparison.verdict)[0]
        return values | {"n": str(comparison.n), "lost": str(comparison.b), "gained": str(comparison.c)}

    def _progress_text(self) -> str:
        state = self.state
        if self.end_state or not self.has_started:
            return ""
        if state.step and state.total_steps and state.phase in ("", "training"):
            return f"Step {state.step} of {state.total_steps}."
        return f"({run_text.phase_text(state) or 'starting the process'})"


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Asks a process and its children to end, and kills them after :data:`GRACE_S`."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        if process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)


def recorded_seconds(run: Run) -> float:
    """The duration of a recorded run in seconds, from its log."""
    try:
        lines = run.events_path.read_bytes().splitlines()
        return max(1.0, float(json.loads(lines[-1])["t"]) - float(json.loads(lines[0])["t"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 60.0
