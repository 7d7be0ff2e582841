"""The two runs of the demo's story. A part is a run that really trains, or the recording of one where there
is no time for that, and it is always known which. What captions say of it is read from its event log and from
what was measured of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.runs import folder
from tui_lab.runs.folder import Run
from tui_lab.runs.replay import FASTEST, SLOWEST, Replay
from tui_lab.runs.state import ENDED, RunState, Watcher, headline
from tui_lab.ui.demo.recording import Recording
from tui_lab.ui.views import retention, retention_data
from tui_lab.ui.views import run as run_text

DATA, SUITE = "support", "everyday"
#: Short versions of the presets, so that each run is over within 45 s on two idle cores; they are probed more
#: often than usual, because the probes are what there is to see.
CHANGES: dict[str, dict[str, Any]] = {
    "naive": {"max_steps": 200, "probe_share": 0.2},
    "keeper": {"max_steps": 150, "probe_share": 0.1},
}
#: Seconds that a run may take before the recording is shown in its place.
RUN_LIMIT_S = 60.0
#: Seconds after which a forecast of the run's end is believed.
JUDGED_AFTER_S = 12.0
#: Seconds that the recording of a run plays.
PLAY_S = 8.0
#: Seconds that a process gets to go when it is asked to.
GRACE_S = 3.0
UNKNOWN = "…"
MEANWHILE = "Meanwhile the lab measures what was forgotten."


@dataclass
class Part:
    """One run of the story; ``name`` is its preset's. ``problem`` says why it is recorded instead."""

    name: str
    run: Run | None = None
    process: subprocess.Popen[bytes] | None = None
    replay: Replay | None = None
    watcher: Watcher | None = None
    kept: retention_data.Kept | None = None
    began: float = 0.0
    measuring: str = ""
    asked: bool = False  # its measurement was begun
    problem: str = ""
    _spent: list[subprocess.Popen[bytes]] = field(default_factory=list)

    # ------------------------------------------------------------------ live or recorded

    @property
    def begun(self) -> bool:
        return self.run is not None

    @property
    def recorded(self) -> bool:
        return self.replay is not None

    def start(self) -> None:
        """Starts to train. Raises LabError."""
        from tui_lab.recipes.presets import make_recipe
        from tui_lab.runs import launch

        recipe = make_recipe(self.name, data=DATA, **CHANGES[self.name])
        run = folder.create(recipe, name=self.name)
        self.process = launch.start(run)
        self.run, self.watcher, self.began = run, Watcher(run), time.monotonic()

    def use_recording(self, recording: Recording, pace: float, why: str = "", whole: bool = False) -> None:
        """Plays the recording in the run's place, ``whole`` at once; a run that goes on is ended.
        Raises LabError."""
        if self.recorded:
            return
        original = recording.runs.get(self.name)
        if original is None or not original.events_path.is_file():
            raise LabError(f"the recording has no run {self.name!r}")
        self.end_process()
        speed = FASTEST if whole else max(SLOWEST, min(FASTEST, round(pace * _seconds(original) / PLAY_S)))
        self.replay = Replay(original, speed, directory=folder.runs_dir())
        self.run, self.watcher, self.problem = self.replay.run, Watcher(self.replay.run), why
        self.kept, self.measuring = None, ""

    def end_process(self) -> None:
        """Asks the run's process to go; :meth:`close` sees to it that it does."""
        if self.process is not None:
            if self.process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(self.process.pid, signal.SIGTERM)
            self._spent.append(self.process)
            self.process = None

    def close(self, leave_running: bool = False) -> None:
        """Ends the process and the replay."""
        if not leave_running:
            self.end_process()
        deadline = time.monotonic() + GRACE_S
        for process in self._spent:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self.replay is not None:
            self.replay.close()

    # ------------------------------------------------------------------ what is known

    @property
    def state(self) -> RunState:
        return self.watcher.state if self.watcher else RunState()

    def poll(self) -> None:
        """Reads what the run has written since the last time."""
        if self.process is not None:
            self.process.poll()
        if self.watcher is not None:
            self.watcher.poll(max_records=1_000)
        if self.run is None or self.kept is not None or self.ended != "finished":
            return
        if (self.run.path / "retention" / f"{SUITE}.json").is_file():
            kept = retention_data.read(self.run, self.state)
            self.kept = kept if kept.results.get(SUITE, {}).get("comparison") else None

    @property
    def ended(self) -> str:
        """How the run ended; "" while it goes on."""
        if self.replay is not None and not self.replay.ended:
            return ""
        if state := str(self.state.end.get("state") or ""):
            return state
        live = self.watcher.status if self.watcher and self.replay is None else ""
        return live if live in ENDED else ""

    @property
    def probed(self) -> bool:
        return any(probe["step"] > 0 for probe in self.state.item_probes) or bool(self.ended)

    @property
    def measured(self) -> bool:
        return self.kept is not None

    def too_slow(self, limit_s: float = RUN_LIMIT_S) -> float:
        """Seconds that the run will take in all where that is more than there is time for, else 0."""
        if self.process is None or self.ended:
            return 0.0
        passed = time.monotonic() - self.began
        state = self.state
        left = state.eta_s if state.step > 2 and math.isfinite(state.eta_s) else 0.0
        whole = passed + left
        return whole if whole > limit_s and passed > JUDGED_AFTER_S else 0.0

    # ------------------------------------------------------------------ in words

    @property
    def comparison(self) -> dict[str, Any]:
        found = self.kept.results[SUITE]["comparison"] if self.kept else None
        return found or {}

    def figures(self) -> Figures:
        """What captions may say."""
        state = self.state
        known: dict[str, str] = {"measuring": self.measuring, "doing": self._doing()}
        known["meanwhile"] = MEANWHILE if self.begun and not self.recorded else ""
        if state.loss.values:
            known["loss_first"], known["loss"] = (f"{v:.2g}" for v in (state.loss.values[0], state.loss.last))
        if state.item_probes:
            probe = state.item_probes[-1]
            known["probe"] = f"{headline(probe)['value']:.0%} at step {probe['step']}"
        gained = state.end.get("acquisition") or {}
        start, end = state.score("start"), run_text.number(gained.get("end", state.score("end")))
        if math.isfinite(start):
            known["score_start"] = f"{start:.2f}"
        if math.isfinite(end):
            known["score_end"], known["gain"] = f"{end:.2f}", f"{end - start:+.2f}"
        if isinstance(seconds := state.end.get("seconds"), int | float):
            known["seconds"] = f"{seconds:.0f} s"
        if comparison := self.comparison:
            found = retention_data.figure(comparison) or {}
            known.update({name: f"{found[key]:.0%}" for name, key in _FIGURES if key in found})
            known["verdict"] = retention.verdict_words(str(comparison.get("verdict") or ""))[0]
            known["n"] = str(comparison.get("n", UNKNOWN))
            known["lost"] = str(comparison.get("b", UNKNOWN))
            known["gained"] = str(comparison.get("c", UNKNOWN))
        return Figures({name: sanitize(text) for name, text in known.items()})

    def _doing(self) -> str:
        state = self.state
        if self.ended or not self.begun:
            return ""
        if state.step and state.total_steps and state.phase in ("", "training"):
            return f"Step {state.step} of {state.total_steps}."
        return f"({run_text.phase_text(state) or 'starting the process'})"


_FIGURES = (("retention", "value"), ("low", "low"), ("high", "high"))


class Figures:
    """Figures by name for a caption; one that is not known yet is an ellipsis."""

    def __init__(self, known: dict[str, str]) -> None:
        self._known = known

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        known = self._known.get(name)
        return known if known is not None else UNKNOWN


def _seconds(run: Run) -> float:
    """How long a recorded run took, by its log."""
    try:
        lines = run.events_path.read_bytes().splitlines()
        return max(1.0, float(json.loads(lines[-1])["t"]) - float(json.loads(lines[0])["t"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 60.0
