"""The queue of runs that are executed one after the other, or by several workers, in ``.queue`` of the folder
of runs.

A waiting run is a complete run folder in ``.queue/waiting``; one rename moves it among the runs when it is
started. ``queue.json`` contains only the order: whether a run is running, has ended or crashed is read from
its lock and its log, so that a kill at any time cannot make the two disagree. Every change is made under a
lock and replaces the file atomically. :mod:`tui_lab.runs.queue.runner` is the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from tui_lab.core import files, input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import FileLock, write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.core.subprocesses import detached
from tui_lab.hardware.cuda_support import GPUS_ENV
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import folder
from tui_lab.runs.events import last_event
from tui_lab.runs.folder import Run, is_locked
from tui_lab.runs.queue import cluster
from tui_lab.runs.queue.cluster import Cluster
from tui_lab.runs.schema import EndEvent

FOLDER = ".queue"
#: Every state of a queued run.
STATES = ("queued", "running", "done", "failed")
#: Starts of a run that wrote nothing, before it counts as failed: the runner may have been killed between
#: counting the start and starting the process.
MOST_STARTS = 3
#: Timeout of the queue's lock, which is held for milliseconds.
LOCK_PATIENCE_S = 10.0
#: Timeout of the runner's lock: readers that test it hold it for microseconds.
RUNNER_PATIENCE_S = 0.3


class QueueEntry(Struct, frozen=True):
    """One run of the queue: its id, the time it was added (seconds since 1970), how often it was started, why
    it could not be started ("" if it could), CUDA_VISIBLE_DEVICES of the process that added it (None: unset),
    the device of the worker that started it ("" without workers), and the job that executes it, see
    :mod:`tui_lab.runs.queue.cluster`."""

    run: Annotated[str, Meta(pattern=r"^[^./][^/]*$")]
    added_at: float = 0.0
    starts: int = 0
    problem: str = ""
    gpus: str | None = None
    device: str = ""
    job: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that show a run the GPUs of the process that added it, not those of the runner."""
        return {} if self.gpus is None else {GPUS_ENV: self.gpus}


class Queue(Struct, frozen=True):
    """The content of ``queue.json``. ``held``: no run is started. ``waits``: a run that was started by hand
    ends before the next one starts. ``workers``: the device of each, see :mod:`tui_lab.runs.queue.workers`;
    () for one worker, whose runs have the device that each entry names. ``cluster``: runs are submitted as
    jobs instead."""

    entries: tuple[QueueEntry, ...] = ()
    held: bool = False
    waits: bool = True
    workers: tuple[str, ...] = ()
    cluster: Cluster | None = None
    v: int = 1


@dataclass(frozen=True)
class QueueItem:
    """An entry with the state of its run: one of :data:`STATES`, the reason of a failure, and the outcome of
    a run that ended: finished, stopped, failed or crashed."""

    entry: QueueEntry
    run: Run
    state: str
    reason: str = ""
    outcome: str = ""


# --------------------------------------------------------------------------------------------------
# the file


def root(directory: Path | None = None) -> Path:
    """The folder of the queue for a folder of runs."""
    return folder.runs_folder(directory) / FOLDER


def jobs_folder(directory: Path | None = None) -> Path:
    """The files of the jobs of a cluster."""
    return root(directory) / "jobs"


def _waiting(directory: Path | None) -> Path:
    return root(directory) / "waiting"


def read(directory: Path | None = None) -> Queue:
    """The present queue; empty where there is no file. Raises LabError when the file is damaged."""
    path = root(directory) / "queue.json"
    try:
        return from_json(input_files.read_bytes(path), Queue, "the queue")
    except FileNotFoundError:
        return Queue()
    except (OSError, LabError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise LabError(
            f"the queue {path} cannot be read ({reason}); move the file away, and add the runs "
            f"again: their recipes are in {path.parent}/waiting"
        ) from None


@contextlib.contextmanager
def changing(directory: Path | None = None) -> Iterator[Callable[[Queue], None]]:
    """Holds the queue's lock; yields the function that writes a changed queue. Raises LabError."""
    place = root(directory)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        lock = FileLock.acquire(place / "lock", LOCK_PATIENCE_S)
    except OSError as error:
        raise LabError(
            f"cannot write the queue in {place} ({error.strerror}); free some space, or choose "
            "another folder of runs with --runs-dir or TUI_LAB_RUNS_DIR"
        ) from None
    if lock is None:
        raise LabError(f"the queue in {place} is held by another process; try again")
    with lock:
        yield lambda queue: _write(place / "queue.json", queue)


def _write(path: Path, queue: Queue) -> None:
    try:
        write_atomically(path, to_json(queue) + "\n")
    except OSError as error:
        raise LabError(f"cannot write the queue in {path.parent} ({error.strerror or error})") from None


# --------------------------------------------------------------------------------------------------
# items


def run_outcome(run: Run) -> tuple[str, str]:
    """A run's state by its lock and the last event of its log: ``running``, ``created`` (nothing was
    written), or finished, stopped, failed, crashed with the reason."""
    if is_locked(run):
        return "running", ""
    last = last_event(run.events_path)
    if isinstance(last, EndEvent):
        return last.state if last.state in ("stopped", "failed") else "finished", last.message
    tail = run.log_tail(1)
    if tail or run.was_started:
        return "crashed", tail[-1].strip() if tail else "its process ended without a message"
    return "created", ""


def item_of(entry: QueueEntry, directory: Path | None = None) -> QueueItem | None:
    """An entry with its run's state; None when its folder was deleted."""
    waiting = Run(_waiting(directory) / entry.run)
    run = Run(root(directory).parent / entry.run)
    if entry.problem:
        return QueueItem(
            entry, run if run.recipe_path.is_file() else waiting, "failed", entry.problem, "failed"
        )
    if waiting.recipe_path.is_file():
        return QueueItem(entry, waiting, "queued")
    if not run.recipe_path.is_file():
        return None
    state, reason = run_outcome(run)
    if state == "created":
        if entry.starts < MOST_STARTS:
            return QueueItem(entry, run, "queued")
        return QueueItem(
            entry, run, "failed", f"it was started {entry.starts} times and never wrote an event", "crashed"
        )
    if state == "running":
        return QueueItem(entry, run, "running")
    if state == "crashed" and entry.job:
        reason += f"; the log of its job is {cluster.log_path(entry.job, jobs_folder(directory))}"
    return QueueItem(entry, run, "done" if state in ("finished", "stopped") else "failed", reason, state)


def items(directory: Path | None = None) -> list[QueueItem]:
    """All items of the queue in order. Raises LabError."""
    return [item for entry in read(directory).entries if (item := item_of(entry, directory)) is not None]


def live_others(queued: Sequence[QueueItem], directory: Path | None = None) -> list[Run]:
    """Runs in progress that the queue did not start."""
    mine = {item.run.id for item in queued if item.state == "running"}
    return [run for run in folder.list_runs(directory) if run.id not in mine and is_locked(run)]


# --------------------------------------------------------------------------------------------------
# changes


def with_entry(queue: Queue, entry: QueueEntry) -> Queue:
    """The queue with the entry of the same run replaced."""
    return replace(queue, entries=tuple(entry if each.run == entry.run else each for each in queue.entries))


def add(
    recipes: Sequence[Recipe],
    directory: Path | None = None,
    name: str = "",
    prepare: Callable[[Run, int], None] | None = None,
    gpus: str | None = None,
) -> list[Run]:
    """Adds runs at the end, all or none; ``prepare(run, number)`` may write into each folder before it is
    listed. ``gpus``: the visible GPUs as in CUDA_VISIBLE_DEVICES; None: those of this process. Raises
    LabError."""
    gpus = os.environ.get(GPUS_ENV) if gpus is None else gpus
    made: list[Run] = []
    with changing(directory) as write:  # creates the private folder, too
        try:
            for number, recipe in enumerate(recipes):
                made.append(folder.create(recipe, _waiting(directory), name))
                if prepare is not None:
                    prepare(made[-1], number)
            queue = read(directory)
            # without the entries whose folders were deleted
            known = tuple(entry for entry in queue.entries if item_of(entry, directory) is not None)
            new = tuple(QueueEntry(run.id, round(time.time(), 3), gpus=gpus) for run in made)
            write(replace(queue, entries=known + new))
        except BaseException as error:
            for run in made:
                shutil.rmtree(run.path, ignore_errors=True)
            if isinstance(error, OSError):
                raise LabError(f"cannot write the queue ({error.strerror or error})") from None
            raise
    return made


def find(name: str, directory: Path | None = None) -> QueueItem:
    """An item by its run's id or an unambiguous part of it. Raises LabError."""
    every = {item.run.id: item for item in items(directory)}
    none = "there is none of that name in the queue; `tui-lab queue list` lists the runs"
    return every[folder.matching_id(name, list(every), "run", none)]


def remove(names: Sequence[str], directory: Path | None = None) -> list[str]:
    """Removes runs from the queue; their ids. The folder of a waiting run is deleted, that of a started one
    is not. Raises LabError when a run is in progress or not in the queue."""
    with changing(directory) as write:
        found = [find(name, directory) for name in names]
        if busy := [item.run.id for item in found if item.state == "running"]:
            raise LabError(f"run {busy[0]} is in progress: end it with `tui-lab stop {busy[0]}` first")
        ids = {item.run.id for item in found}
        queue = read(directory)
        write(replace(queue, entries=tuple(e for e in queue.entries if e.run not in ids)))
        for item in found:
            # the entry is gone already: a kill here leaves a folder that is not listed
            if item.run.path.parent == _waiting(directory):
                shutil.rmtree(item.run.path, ignore_errors=True)
    for item in found:
        if item.state == "queued" and item.entry.job:
            cluster.cancel(item.entry.job)
    return [item.run.id for item in found]


def clear_ended(directory: Path | None = None) -> list[str]:
    """Removes ended runs from the queue, but not their folders; their ids."""
    with changing(directory) as write:
        found = [item for item in items(directory) if item.state in ("queued", "running")]
        queue = read(directory)
        keep = {item.entry.run for item in found}
        write(replace(queue, entries=tuple(e for e in queue.entries if e.run in keep)))
    return [entry.run for entry in queue.entries if entry.run not in keep]


def hold(directory: Path | None = None) -> None:
    """No further run is started; the current one continues."""
    with changing(directory) as write:
        write(replace(read(directory), held=True))


def release(
    directory: Path | None = None,
    waits: bool | None = None,
    workers: tuple[str, ...] | None = None,
    on: Cluster | Literal["here"] | None = None,
) -> None:
    """Continues a held queue. ``waits``, ``workers``: see :class:`Queue`; ``on``: its cluster, or this
    machine; None leaves them unchanged."""
    with changing(directory) as write:
        queue = read(directory)
        waits = queue.waits if waits is None else waits
        workers = queue.workers if workers is None else workers
        where = queue.cluster if on is None else None if on == "here" else on
        write(replace(queue, held=False, waits=waits, workers=workers, cluster=where))


# --------------------------------------------------------------------------------------------------
# the process


def _runner_lock(directory: Path | None) -> Path:
    return root(directory) / "runner.lock"


def is_running(directory: Path | None = None) -> bool:
    """Whether the queue's process is running."""
    return files.is_locked(_runner_lock(directory))


def start_runner(directory: Path | None = None) -> subprocess.Popen[bytes] | None:
    """Starts the queue's process, detached like a run; None when it is running already. The lock is taken
    here and passed on, so that there is never a second one. Raises LabError."""
    place = root(directory)
    try:
        place.mkdir(parents=True, mode=0o700, exist_ok=True)
        lock = FileLock.acquire(_runner_lock(directory), RUNNER_PATIENCE_S)
    except OSError as error:
        raise LabError(f"cannot start the queue in {place} ({error.strerror})") from None
    if lock is None:
        return None
    try:
        with lock, os.fdopen(input_files.open_to_append(log_path(directory)), "ab") as log:
            log.truncate(0)
            return detached(
                "tui_lab.runs.queue.runner",
                str(place.parent),
                str(lock.descriptor),
                log=log,
                place=place,
                descriptors=(lock.descriptor,),
            )
    except OSError as error:
        raise LabError(f"cannot start the queue ({error.strerror or error})") from None


def toggle(directory: Path | None = None) -> tuple[bool | None, subprocess.Popen[bytes] | None]:
    """Holds a running queue; continues one that is held or whose process has died. Returns whether it runs
    now (None: the queue is empty) and the process if one was started. Raises LabError."""
    states = {item.state for item in items(directory)}
    if not states & {"queued", "running"}:
        return None, None
    # once the last run was started, the process exits: that queue has not died
    waits = "queued" in states
    if not read(directory).held and (is_running(directory) or not waits):
        hold(directory)
        return False, None
    release(directory)
    return True, start_runner(directory) if waits else None


def log_path(directory: Path | None = None) -> Path:
    """The output of the queue's process, for errors."""
    return root(directory) / "runner.log"


def _log_tail(directory: Path | None) -> str:
    try:
        lines = input_files.read_text(log_path(directory), errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def describe(directory: Path | None = None, queued: Sequence[QueueItem] | None = None) -> str:
    """The state of the queue as a sentence; "" when it is empty. Raises LabError."""
    queued = items(directory) if queued is None else queued
    count = sum(item.state == "queued" for item in queued)
    running = [item.run.id for item in queued if item.state == "running"]
    several = len(running) > 1
    names = f"{len(running)} runs" if several else "".join(running)
    if not count:
        last = (
            f"the last {names} of the queue are running"
            if several
            else "the last run of the queue is running"
        )
        return f"{last}: {', '.join(running)}" if running else ""
    waiting = f"{count} run{'s' * (count != 1)} wait{'s' * (count == 1)}"
    and_running = f", {names} {'are' if several else 'is'} running" if running else ""
    queue = read(directory)
    if queue.cluster is not None and all(item.entry.job for item in queued if item.state == "queued"):
        waiting += f" as {'a job' if count == 1 else 'jobs'} of {queue.cluster.engine}"
        return waiting + and_running
    if queue.held:
        have = "have" if several else "has"
        return f"{waiting}; the queue is held" + (f" once {names} {have} ended" if running else "")
    if not is_running(directory):
        message = _log_tail(directory)
        return f"{waiting}; the queue's process is not running" + (f" ({message})" if message else "")
    if running:
        return waiting + and_running
    others = live_others(queued, directory) if queue.waits else []
    return (
        f"{waiting} for {others[0].id}, which was started outside the queue"
        if others
        else f"{waiting}: the next one starts"
    )
