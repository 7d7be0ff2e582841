"""Every run in one table: a summary of each, read from its log once and kept in a cache file beside them.

A summary is taken from the cache while log, recipe and notes are the files they were (inode, size, time of
change), so that a thousand runs are listed by a few thousand ``stat`` calls. Logs of live runs are read on
from where they were left. Everything here blocks: the lab calls it from a thread.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.format import as_float, finite
from tui_lab.core.records import from_json
from tui_lab.forecast.cost import Prices
from tui_lab.recipes.mixture import short_name
from tui_lab.retention.statistics import Interval
from tui_lab.runs import notes
from tui_lab.runs.cost_so_far import cost_so_far
from tui_lab.runs.folder import Run, is_locked, matching_id, runs_folder
from tui_lab.runs.queue import queue, sweep
from tui_lab.runs.queue.sweep import SweepValues
from tui_lab.runs.schema import EndEvent
from tui_lab.runs.state import ENDED, Watcher, end_state

CACHE = ".index.json"
CACHE_VERSION = 1
#: Memory figures of a run, the one that is called its peak first: what its tensors took at most, what CUDA
#: held for it, the whole card, and on a CPU the process.
PEAKS = ("cuda_peak", "cuda_reserved", "cuda_allocated", "gpu_used", "resident")
#: Events read in one refresh: about half a second's.
MOST_RECORDS_A_REFRESH = 100_000
#: How soon a long first reading shows what it has, and how often then.
FIRST_SHOWN_S, SHOW_S = 0.1, 0.5
#: Values of a run's loss curve in its summary, and of the loss that are read for each of them at most.
CURVE_POINTS, SAMPLES_A_POINT = 32, 16
_LOWEST, _HIGHEST = ord("!"), ord("~")
NAN = math.nan


class RunSummary(Struct, frozen=True):
    """One run; NaN where a number is unknown. ``retention`` is that of the newest item probe, above chance
    where the suite has a chance level; ``seconds``: the time during which a process of the run was alive.
    ``queued``: the position among waiting runs, from 1 (0: not queued). ``live_state``: the state while a
    process holds the lock."""

    id: str
    path: str
    state: str = "created"
    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    model: str = ""
    preset: str = ""
    data: str = ""
    method: str = ""
    step: int = 0
    total_steps: int = 0
    loss: float = NAN
    validation: float = NAN
    score_name: str = ""
    score_start: float = NAN
    score_end: float = NAN
    retention: float = NAN
    retention_low: float = NAN
    retention_high: float = NAN
    verdict: str = ""
    peak_bytes: float = NAN
    peak_of: str = ""
    seconds: float = NAN
    started_at: float = NAN
    sweep: str = ""
    sweep_number: int = 0
    sweep_values: SweepValues = {}
    message: str = ""
    has_end: bool = False
    queued: int = 0
    live_state: str = "starting"
    #: The shape of the training loss, see :func:`shape_of`; None in caches of earlier versions.
    shape: str | None = None
    #: The id of the run that it goes on from; None in caches of earlier versions.
    from_run: str | None = None
    #: The rank of that run's adapter, where a new one is trained beside it.
    frozen_rank: int = 0

    @property
    def run(self) -> Run:
        return Run(Path(self.path))

    @property
    def gained(self) -> float:
        """Of the new task's own score."""
        return self.score_end - self.score_start

    def figure(self, criterion: str) -> float:
        """What :data:`tui_lab.runs.queue.sweep.CRITERIA` compare."""
        return {
            "validation": self.validation,
            "acquisition": self.score_end,
            "retention": self.retention,
            "time": self.seconds,
        }[criterion]


def shape_of(values: Sequence[float]) -> str:
    """A curve in at most CURVE_POINTS characters, from ! for its lowest part to ~ for its highest; a blank
    is a gap. A text is read much faster than numbers are."""
    means = reduced(values, CURVE_POINTS)
    known = [value for value in means if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    scale = (_HIGHEST - _LOWEST) / (high - low) if 0 < high - low < math.inf else 0.0
    return "".join(
        chr(_LOWEST + round((value - low) * scale)) if math.isfinite(value) else " " for value in means
    )


def shape_values(shape: str) -> list[float]:
    """The values of a shape, in steps of its scale; NaN is a gap."""
    return [NAN if char == " " else float(ord(char) - _LOWEST) for char in shape]


def reduced(values: Sequence[float], points: int) -> tuple[float, ...]:
    """At most ``points`` means of equal parts of the values. Of a long part a few values stand for all, so
    that the cost does not grow with the run."""
    count = min(points, len(values))
    found = []
    for at in range(count):
        first, last = at * len(values) // count, (at + 1) * len(values) // count
        part = values[first : last : max(1, (last - first) // SAMPLES_A_POINT)]
        known = [value for value in part if math.isfinite(value)]
        found.append(math.fsum(known) / len(known) if known else NAN)
    return tuple(found)


class IndexCache(Struct, frozen=True):
    """The content of the cache file: by run id, the stamp of its files (:func:`_stamp`) and its summary."""

    v: int = CACHE_VERSION
    runs: dict[str, tuple[list[int], RunSummary]] = {}


# --------------------------------------------------------------------------------------------------
# one run


def summarise(watcher: Watcher) -> RunSummary:
    """A run whose log has been read. The state is that of a run without a process."""
    run, state = watcher.run, watcher.state
    recipe = watcher.recipe
    note, place = notes.read(run), sweep.place_of(run)
    end_event = watcher.end
    ended = end_state(end_event) if end_event else state.status(locked=False)
    if ended == "created" and run.was_started:
        ended = "crashed"
    last_line = next(iter(run.log_tail(1)), "") if ended == "crashed" else ""
    end = end_event or EndEvent()
    peaks = end.peak_memory or state.peak_memory
    label = next((label for label in PEAKS if label in peaks), "")
    retention = state.retention or Interval(NAN, NAN, NAN)
    end_loss, end_validation = finite(end.train_loss), finite(end.validation_loss)
    scores = [state.score("start"), state.score("end")]
    at_end = (as_float(end.acquisition.start), as_float(end.acquisition.end))
    scores = [b if math.isnan(a) else a for a, b in zip(scores, at_end, strict=True)]
    return RunSummary(
        id=run.id,
        path=str(run.path),
        state=ended,
        name=note.name,
        tags=note.tags,
        note=note.note,
        model=recipe.model if recipe else "",
        preset=recipe.preset if recipe else "",
        data=recipe.data if recipe else "",
        method=recipe.method if recipe else "",
        step=state.step,
        total_steps=state.total_steps,
        loss=state.loss.last if end_loss is None else end_loss,
        validation=state.validation.last if end_validation is None else end_validation,
        score_name=state.score_name,
        score_start=scores[0],
        score_end=scores[1],
        retention=retention.value,
        retention_low=retention.low,
        retention_high=retention.high,
        verdict=state.verdict,
        peak_bytes=as_float(finite(peaks.get(label))),
        peak_of=label,
        seconds=as_float(cost_so_far(state, "finished" if end_event else ended, Prices()).seconds),
        started_at=state.started_at or NAN,
        sweep=place.sweep if place else "",
        sweep_number=place.number if place else 0,
        sweep_values=place.values if place else {},
        message=watcher.problem or end.message or last_line,
        has_end=end_event is not None,
        live_state=state.status(locked=True),
        shape=shape_of(state.loss.values),
        from_run=Path(recipe.from_run).name if recipe else "",
        frozen_rank=recipe.frozen_rank if recipe else 0,
    )


# --------------------------------------------------------------------------------------------------
# all runs


class RunIndex:
    """The runs of a folder. :meth:`refresh` reads what has changed; one thread at a time."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = runs_folder(directory)
        self.read = 0  # logs read by the newest refresh
        self.problem = ""  # of the queue, in a sentence
        self.queue_text = ""
        self._found: dict[str, tuple[list[int], RunSummary]] = {}
        self._waiting: dict[str, tuple[list[int], RunSummary]] = {}
        self._watchers: dict[str, Watcher] = {}
        self.done = False  # whether everything was read once
        self._loaded = self._unsaved = False

    def read_all(self) -> list[RunSummary]:
        """All runs, with every log read to its end, however long that takes."""
        while True:
            runs = self.refresh()
            if self.done:
                return runs

    def refresh(
        self,
        show: Callable[[list[RunSummary]], None] | None = None,
        max_records: int = MOST_RECORDS_A_REFRESH,
    ) -> list[RunSummary]:
        """All runs, newest first, the queue's before them. Reads at most ``max_records`` events; :attr:`done`
        says whether that was all, and the next call continues. ``show`` gets partial results at intervals
        while many runs have to be read."""
        first = not self._loaded
        folders = self._folders()
        if first:
            self._load(folders)
        names = sorted(filter(self._is_run, folders), reverse=True)  # newest first
        show_at = time.monotonic() + FIRST_SHOWN_S
        self.read = 0
        if first and show is not None and self._found:
            show(self._with_queue({name: self._found[name] for name in names if name in self._found}))
        found: dict[str, tuple[list[int], RunSummary]] = {}
        missing = []
        for name in names:
            stamp = _stamp(f"{self.directory}/{name}")
            known = self._found.get(name)
            if known is not None and known[0] == stamp and _is_complete(known[1]):
                found[name] = known
            else:
                missing.append((name, stamp))
        self._unsaved |= len(found) != len(self._found)
        # the newest runs are needed first
        self.done, remaining = True, max_records
        for name, stamp in missing:
            summary, count, complete = self._read(name, remaining)
            remaining = max(0, remaining - count)
            self.done &= complete
            found[name] = (stamp if complete else [], summary)
            if show is not None and time.monotonic() > show_at:
                # unread runs are shown as they were before, so that none disappears
                show(
                    self._with_queue(
                        {name: was for name in names if (was := found.get(name) or self._found.get(name))}
                    )
                )
                show_at = time.monotonic() + SHOW_S
        self._found = found
        self._watchers = {name: each for name, each in self._watchers.items() if name in found}
        everything = self._with_queue(found)
        if self._unsaved:
            self._save()
        return everything

    def _folders(self) -> set[str]:
        """Names of what may be a run."""
        try:
            with os.scandir(self.directory) as entries:
                return {entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()}
        except OSError:
            return set()

    def _is_run(self, name: str) -> bool:
        return name in self._found or os.path.isfile(f"{self.directory}/{name}/recipe.toml")  # noqa: PTH113

    def _read(self, name: str, max_records: int) -> tuple[RunSummary, int, bool]:
        """A run's summary, how many events were read for it, and whether that was all of its log."""
        watcher = self._watchers.get(name) or Watcher(Run(self.directory / name))
        count = 0
        while count < max_records and (events := watcher.read_events(max_records - count, math.inf)):
            count += len(events)
        if not count:
            watcher.poll(max_records=1)  # at least the first event
        summary = summarise(watcher)
        self.read += 1
        if is_locked(watcher.run) or not watcher.at_end:
            self._watchers[name] = watcher
        else:
            self._watchers.pop(name, None)
            self._unsaved = True
        return summary, count, watcher.at_end

    def _with_queue(self, found: Mapping[str, tuple[list[int], RunSummary]]) -> list[RunSummary]:
        """The waiting runs, and all others with the present state of their locks."""
        waiting: list[RunSummary] = []
        queued: dict[str, int] = {}
        try:
            listed = queue.items(self.directory)
            self.queue_text, self.problem = queue.describe(self.directory, listed), ""
        except LabError as error:
            listed, self.queue_text, self.problem = [], "", str(error)
        known, self._waiting = self._waiting, {}
        for item in listed:
            if item.state == "queued":
                queued[item.run.id] = place = len(queued) + 1
                if item.run.path.parent != self.directory:
                    stamp = _stamp(str(item.run.path))
                    if (entry := known.get(item.run.id)) is None or entry[0] != stamp:
                        entry = stamp, summarise(Watcher(item.run))
                    self._waiting[item.run.id] = entry
                    waiting.append(replace(entry[1], state="queued", queued=place))
        runs = []
        for _, each in found.values():
            state = self._state(each, each.id in queued)
            place = queued.get(each.id, 0) if state == "queued" else 0
            same = (state, place) == (each.state, each.queued)
            runs.append(each if same else replace(each, state=state, queued=place))
        runs.sort(key=lambda each: each.id, reverse=True)
        return waiting + runs

    def _state(self, summary: RunSummary, queued: bool) -> str:
        if summary.has_end:
            return summary.state
        if is_locked(summary.run):
            return summary.live_state
        return "queued" if queued and summary.state == "created" else summary.state

    # ------------------------------------------------------------------ the cache file

    def _load(self, folders: Container[str]) -> None:
        self._loaded = True
        try:
            content = input_files.read_bytes(self.directory / CACHE, 8 * input_files.JSON_BYTES)
            cache = _decode_cache(content)
        except (OSError, LabError):
            return  # every log is read again
        if cache.v != CACHE_VERSION:
            return
        for name, (stamp, summary) in cache.runs.items():
            if name in folders:
                self._found[name] = (stamp, replace(summary, id=name, path=f"{self.directory}/{name}"))

    def _save(self) -> None:
        self._unsaved = False
        runs = {name: entry for name, entry in self._found.items() if name not in self._watchers}
        plain = msgspec.to_builtins(IndexCache(runs=runs))
        for _, summary in plain["runs"].values():
            for key in [key for key, value in summary.items() if value != value]:
                del summary[key]  # NaN is the default, and no JSON
        text = json.dumps(plain)
        with contextlib.suppress(OSError):  # a read-only folder of runs has no cache
            write_atomically(self.directory / CACHE, text)


def _decode_cache(content: bytes) -> IndexCache:
    """The content of the cache file. Raises LabError."""
    try:
        return msgspec.json.decode(content, type=IndexCache)  # ten times as fast, and no key waits for it
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return from_json(content, IndexCache, CACHE)  # NaN of earlier versions, an infinite loss


def _is_complete(summary: RunSummary) -> bool:
    """Whether a summary says all that the log does."""
    return summary.state != "created" and summary.shape is not None and summary.from_run is not None


def _stamp(path: str) -> list[int]:
    """Inode, size and time of change of the files of a summary."""
    stamp: list[int] = []
    for name in ("events.jsonl", "recipe.toml", notes.FILE):
        try:
            found = os.stat(f"{path}/{name}")  # noqa: PTH116 (a Path each would cost more than the call)
            stamp += [found.st_ino, found.st_size, found.st_mtime_ns]
        except OSError:
            stamp += [0, 0, 0]
    return stamp


# --------------------------------------------------------------------------------------------------
# sorting and filtering

Key = float | str
#: The columns that the table can be sorted by; acquisition by the score after the training.
COLUMNS: dict[str, tuple[str, Callable[[RunSummary], Key]]] = {
    # waiting runs are the newest; ids begin with the time, which the runs of a sweep share
    "started": (
        "started",
        lambda s: f"~{9_999 - s.queued:04}" if s.queued else f"{s.id[:15]}-{s.sweep_number:04}{s.id[15:]}",
    ),
    "state": ("state", lambda s: s.state),
    "name": ("name", lambda s: s.name.casefold()),
    "model": ("model", lambda s: s.model.rpartition("/")[2].casefold()),
    "preset": ("preset", lambda s: (s.preset or s.method).casefold()),
    "data": ("data", lambda s: short_name(s.data).casefold()),
    "loss": ("loss", lambda s: s.loss),
    "validation": ("validation", lambda s: s.validation),
    "acquisition": ("acquisition", lambda s: s.score_end),
    "retention": ("retention", lambda s: s.retention),
    "peak": ("peak memory", lambda s: s.peak_bytes),
    "time": ("time", lambda s: s.seconds),
}


def ordered(runs: Iterable[RunSummary], column: str, descending: bool) -> list[RunSummary]:
    """Sorted by a column; what has no value there comes last either way, and equals newest first."""
    _, key = COLUMNS[column]
    by_id = sorted(runs, key=lambda s: s.id, reverse=True)
    known: list[RunSummary] = []
    unknown: list[RunSummary] = []
    for each in by_id:
        value = key(each)
        (unknown if value == "" or (isinstance(value, float) and math.isnan(value)) else known).append(each)
    return sorted(known, key=lambda s: key(s), reverse=descending) + unknown


#: The fields that are searched; a word with a colon searches one. Tags are compared from their beginning.
_FIELDS = ("state", "model", "preset", "data", "method", "name", "note", "sweep", "id")


def matches(run: RunSummary, query: str) -> bool:
    """Whether a run has every word of the query: ``state:running``, ``model:qwen``, ``tag:good``, or any text
    of its name, id, note, tags, model, preset, data. Case is ignored."""
    for word in query.casefold().split():
        key, colon, value = word.partition(":")
        if colon and key == "tag":
            if not any(tag.casefold().startswith(value) for tag in run.tags):
                return False
        elif colon and key in _FIELDS:
            if value not in getattr(run, key).casefold():
                return False
        elif not any(word in text.casefold() for text in (*(getattr(run, f) for f in _FIELDS), *run.tags)):
            return False
    return True


def stage_of(run: RunSummary, runs: Iterable[RunSummary]) -> int:
    """The place of a run in a line of runs that go on from one another, from 1; deleted runs count as one."""
    parents = {each.id: each.from_run or "" for each in runs}
    line = [run.id]
    parent = run.from_run
    while parent and parent not in line:
        line.append(parent)
        parent = parents.get(parent, "")
    return len(line)


# --------------------------------------------------------------------------------------------------
# sweeps


def sweep_runs(runs: Iterable[RunSummary], name: str) -> list[RunSummary]:
    """The runs of a sweep, in its order. Raises LabError when no sweep or several match the name."""
    every = [run for run in runs if run.sweep]
    ids = list(dict.fromkeys(run.sweep for run in sorted(every, key=lambda s: s.sweep, reverse=True)))
    if not ids:
        raise LabError(f"sweep {name!r}: there are no sweeps yet; `tui-lab train --sweep KEY=V,V` makes one")
    none = f"there is none of that name; there are {', '.join(ids[:4])}"
    found = ids[0] if name == "latest" else matching_id(name, ids, "sweep", none)
    return sorted((run for run in every if run.sweep == found), key=lambda s: s.sweep_number)


def best_of(runs: Iterable[RunSummary], criterion: str) -> str:
    """The id of the best run by the criterion, of the finished and stopped ones; "" when none has the
    figure."""
    figures = {run.id: run.figure(criterion) for run in runs if run.state in ("finished", "stopped")}
    return sweep.best(figures, criterion)


def criterion_text(runs: Iterable[RunSummary], criterion: str) -> str:
    """The criterion as text, with the number of runs that have not ended."""
    runs = list(runs)
    running = sum(run.state not in ENDED for run in runs)
    text = f"best: {sweep.CRITERIA[criterion][1]}"
    if not best_of(runs, criterion):
        return f"{text}: no run has it yet"
    return text + (f", so far: {running} of {len(runs)} have not ended" if running else "")
