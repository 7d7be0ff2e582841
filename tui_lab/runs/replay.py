"""Replays a recorded run: a private run folder whose event log grows as the recording did, at a given speed.
The lock is held during the replay, commands act on the replay, and it ends as the recording does, also by a
crash. Lines are copied unchanged, damaged ones too, with their original times; :meth:`Replay.now` is the
recording's clock. The original is not modified, and the private folder is removed at the end."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.retention.results import MAX_BYTES
from tui_lab.runs import folder
from tui_lab.runs.commands import Inbox
from tui_lab.runs.event_lines import CommandRecord, DamagedRecord, decode_event, encode_event
from tui_lab.runs.events import LineTail
from tui_lab.runs.folder import Run, RunLock
from tui_lab.runs.schema import (
    CommandEvent,
    ContinuedEvent,
    EndEvent,
    PausedEvent,
    ResumedEvent,
    RunEvent,
    StepEvent,
)

DEFAULT_SPEED = 10.0
SLOWEST, FASTEST = 0.1, 10_000.0
#: The speeds that the keys select.
SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
#: Longer gaps of the recording are cut to this, seconds: a live run writes telemetry more often, so a longer
#: gap lies between two attempts, or the clock was changed.
LONGEST_GAP_S = 30.0
#: Maximum time between two ticks that counts, seconds: a suspended lab does not skip ahead.
LONGEST_TICK_S = 1.0
#: Maximum number of records per tick, so that the lab remains responsive.
MOST_RECORDS_A_TICK = 4_000
PREFIX = "tui-lab-replay-"
#: Files that are copied when the recording ends.
_FINAL_FILES = ("worker.log",)


def find(name: str, directory: Path | None = None) -> Run:
    """The run to replay: by :func:`tui_lab.runs.folder.open_run`, or a folder that has only a log. Raises
    LabError when there is none or it is in progress."""
    try:
        run = folder.open_run(name, directory)
    except LabError:
        path = expanded(name)
        if not (path / "events.jsonl").is_file():
            raise
        run = Run(path.resolve())
    if not run.events_path.is_file():
        raise LabError(f"run {run.id}: it has no event log, so there is nothing to replay")
    if folder.is_locked(run):
        raise LabError(f"run {run.id} is in progress: `tui-lab` and `tui-lab watch {run.id}` show it live")
    return run


class Replay:
    """One replay. ``run``: the folder to watch; ``original``: the recorded run. Call :meth:`advance`
    regularly. ``clock``: the watcher's, in seconds. ``directory``: the folder of runs to use instead of a
    private one."""

    def __init__(
        self,
        original: Run,
        speed: float = DEFAULT_SPEED,
        from_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
        directory: Path | None = None,
    ) -> None:
        self.original = original
        self.speed = check_speed(speed)
        self.paused = False
        self.ended = False
        self.problem = ""
        self.step = 0
        self._recorded_pause = False
        self._clock = clock
        self._last = clock()
        self._due_s = 0.0  # recorded time that is due but not replayed
        self._lines = LineTail(original.events_path)
        self._t = math.nan  # time of the newest record that was replayed
        self._gap_s = 0.0  # remaining time before the next record, after the cut
        self._gap_total_s = self._gap_real_s = 0.0
        self._next: tuple[bytes, RunEvent | None] | None = None
        try:
            if directory is None:
                self._place = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
                path = self._place / original.id
            else:
                self._place = path = directory / original.id
            path.mkdir(mode=0o700)
        except OSError as error:
            raise LabError(f"the folder of the replay cannot be created: {error.strerror or error}") from None
        try:
            self.run = self._make_folder(path)
            self._lock: RunLock | None = RunLock.take(self.run)
            self._log = self.run.events_path.open("ab", buffering=0)
            self._inbox = Inbox(self.run, set())
            self._fetch()
            if from_step > 0:
                self._skip_to(from_step)
        except BaseException:
            shutil.rmtree(self._place, ignore_errors=True)
            raise

    def _make_folder(self, path: Path) -> Run:
        """A private folder with the original's name and recipe."""
        run = Run(path)
        try:
            shutil.copyfile(self.original.recipe_path, run.recipe_path)
        except OSError:
            # not valid TOML: readers report that and show the run without a recipe
            run.recipe_path.write_text("the recording has no recipe\n", encoding="utf-8")
        return run

    # ------------------------------------------------------------------ time

    def now(self) -> float:
        """The recording's clock at the current position, in seconds since 1970."""
        if not math.isfinite(self._t):
            return time.time()
        share = 1 - self._gap_s / self._gap_total_s if self._gap_total_s > 0 else 0.0
        return self._t + self._gap_real_s * share

    def advance(self) -> int:
        """Executes commands and replays the records that are due; the number of records."""
        now = self._clock()
        passed, self._last = min(max(0.0, now - self._last), LONGEST_TICK_S), now
        if self.ended:
            return 0
        try:
            for command in self._inbox.poll():
                self._execute(command)
            if self.paused or self.ended:
                return 0
            self._due_s += passed * self.speed
            return self._play()
        except OSError as error:  # the disk is full, or the folder was removed
            self.problem = f"the replay ended: {error.strerror or error}"
            self._stop()
            return 0

    def _play(self) -> int:
        due: list[bytes] = []
        while self._next is not None and self._gap_s <= self._due_s and len(due) < MOST_RECORDS_A_TICK:
            self._due_s -= self._gap_s
            due.append(self._take())
        self._write(due)
        if self._next is None:
            self._finish()
        elif self._gap_s > self._due_s:
            self._gap_s -= self._due_s
            self._due_s = 0.0
        return len(due)

    def _take(self) -> bytes:
        """Returns the next line and fetches the one after it."""
        assert self._next is not None
        line, record = self._next
        self._observe(record)
        self._fetch()
        return line

    def _observe(self, event: RunEvent | None) -> None:
        """Updates time, step and pause from an event that is replayed."""
        if (t := _time(event)) is not None:
            self._t = t
        if isinstance(event, StepEvent):
            self.step = event.step
        elif isinstance(event, ResumedEvent):
            self.step = event.from_step
        if isinstance(event, PausedEvent | ContinuedEvent | ResumedEvent | EndEvent):
            self._recorded_pause = isinstance(event, PausedEvent)

    def _fetch(self) -> None:
        line = self._lines.next_line()
        self._next = None if line is None else (line + b"\n", _decode(line))
        t = _time(self._next[1]) if self._next else None
        self._gap_real_s = max(0.0, t - self._t) if t is not None and math.isfinite(self._t) else 0.0
        self._gap_total_s = self._gap_s = min(self._gap_real_s, LONGEST_GAP_S)

    def _skip_to(self, step: int) -> None:
        """Replays everything before the first record of ``step`` at once."""
        due: list[bytes] = []
        reached = 0
        while self._next is not None:
            event = self._next[1]
            if isinstance(event, StepEvent):
                if event.step >= step:
                    break
                reached = max(reached, event.step)
            due.append(self._take())
            if len(due) >= MOST_RECORDS_A_TICK:
                self._write(due)
                due = []
        if self._next is None:
            self._release()
            self._log.close()
            raise LabError(f"run {self.original.id} has no step {step:,}: its last one is {reached:,}")
        self._write(due)
        self._gap_s = 0.0

    def _write(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        while data:  # a write may be partial
            data = data[self._log.write(data) or 0 :]

    # ------------------------------------------------------------------ commands

    def _execute(self, command: CommandRecord) -> None:
        if command.name == "pause":
            self._answer(command, "the replay is paused")
            self._append(PausedEvent(step=self.step))
            self.paused = True
        elif command.name == "continue":
            was_paused, self.paused = self.paused, False
            if was_paused and not self._recorded_pause:
                self._answer(command, "the replay continues")
                self._append(ContinuedEvent(step=self.step))
            else:
                self._answer(command, "the recording was paused here; the replay skips to where it continued")
                self._gap_s = 0.0
        elif command.name == "stop":
            self._answer(command, "the replay ends")
            message = f"the replay was stopped at step {self.step}; the run itself is unchanged"
            self._append(EndEvent(state="stopped", step=self.step, message=message))
            self._stop()
        else:
            self._answer(command, f"this is a replay: {command.name} has no effect")

    def _answer(self, command: CommandRecord, outcome: str) -> None:
        self._append(CommandEvent(id=command.id, name=command.name, outcome=outcome))

    def _append(self, event: RunEvent) -> None:
        """Writes an event of the replay itself, at the recording's time."""
        self._write([encode_event(replace(event, t=round(self.now(), 3)))])

    def faster(self, by: int) -> float:
        """The next speed up (1) or down (-1); the new one."""
        if by > 0:
            self.speed = next((speed for speed in SPEEDS if speed > self.speed), self.speed)
        else:
            self.speed = next((speed for speed in reversed(SPEEDS) if speed < self.speed), self.speed)
        return self.speed

    @property
    def label(self) -> str:
        """The label that distinguishes a replay from a live run."""
        return f"REPLAY ×{self.speed:g}"

    def is_of(self, run: Run) -> bool:
        """Whether ``run`` is the folder of this replay."""
        return run.path == self.run.path

    # ------------------------------------------------------------------ the end

    def _finish(self) -> None:
        """At the end of the recording: copies its other files and releases the lock."""
        for name in _FINAL_FILES:
            with contextlib.suppress(OSError):
                shutil.copyfile(self.original.path / name, self.run.path / name)
        results = self.run.path / "retention"
        with contextlib.suppress(OSError):
            results.mkdir(mode=0o700, exist_ok=True)
            for path in sorted((self.original.path / "retention").glob("*.json")):
                if path.stat().st_size <= MAX_BYTES:
                    shutil.copyfile(path, results / path.name)
        self._stop()

    def _stop(self) -> None:
        self.ended = True
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def close(self) -> None:
        """Ends the replay and removes its folder."""
        self._stop()
        with contextlib.suppress(OSError):
            self._log.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_speed(speed: float) -> float:
    """Validates a speed. Raises LabError."""
    if not SLOWEST <= speed <= FASTEST:
        raise LabError(
            f"--speed {speed:g}: it must be between {SLOWEST:g} and {FASTEST:,.0f} times real time"
        )
    return speed


def _decode(line: bytes) -> RunEvent | None:
    """The event of a line; None for a damaged one, which is copied all the same."""
    try:
        return decode_event(line)
    except DamagedRecord:
        return None


def _time(event: RunEvent | None) -> float | None:
    """The time of an event; None where it is unknown or impossible."""
    return event.t if event is not None and 0 < event.t < 1e12 else None
