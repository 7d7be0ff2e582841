"""Searches as records: ``search.json`` in the folder of a search, which lies in ``.searches`` beside the
runs. :mod:`tui_lab.evaluation.search` writes it; the lab, the commands and the report read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import is_locked
from tui_lab.core.format import JOULES_PER_KWH, duration, interval
from tui_lab.core.records import from_json
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.statistics import NO_INTERVAL, Interval
from tui_lab.runs import folder
from tui_lab.runs.folder import Run
from tui_lab.runs.queue import sweep

FOLDER = ".searches"
RESULT, LOCK = "search.json", "search.lock"


class PilotPoint(msgspec.Struct, frozen=True):
    """What a pilot measured at one strength of its adapter. ``gain``: the held-out score, 0 to 1."""

    strength: float
    gain: float
    retention: Interval
    gain_interval: Interval = NO_INTERVAL


class Pilot(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run. ``trial`` has ``values`` of the recipe; ``rung`` counts from 0; ``seed`` is the
    run's. ``base``: the held-out score of the base; ``train_share``: of its seconds that went into steps of
    training; ``power_w``: the mean of its run, where a card measures it. ``problem``: why it has no points.
    """

    trial: int
    rung: int
    steps: int
    seed: int
    values: dict[str, float | int | str | bool]
    run: str
    seconds: float
    points: list[PilotPoint] = []
    problem: str = ""
    base: float = math.nan
    train_share: float = math.nan
    power_w: float | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A pilot at the strength that serves it best; ``kept``: it keeps the promise."""

    pilot: Pilot
    point: PilotPoint
    kept: bool


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``search.json``. ``front``: the pilots that no other beats in gain and retention at
    once; ``confirmations``: the chosen recipe with fresh seeds, the last point of each at the strength that
    serves all; ``refuted``: runs whose recipes fresh seeds did not confirm. ``progress``: what is done now;
    ``problem``: why its process ended."""

    search: str
    model: str
    data: str
    keep: float
    budget_s: float
    spent_s: float = 0.0
    suite: str = ""
    pilots: list[Pilot] = []
    front: list[Choice] = []
    chosen: Choice | None = None
    confirmations: list[Pilot] = []
    confirmed: bool = False
    sentence: str = ""
    budget_kwh: float | None = None
    watts: float = 0.0
    refuted: list[str] = []
    progress: str = ""
    stopped: bool = False
    problem: str = ""
    v: int = 1

    @property
    def spent_kwh(self) -> float:
        """Energy so far at the mean power."""
        return self.spent_s * mean_power_w(self) / JOULES_PER_KWH


def mean_power_w(result: SearchResult) -> float:
    """The mean power of the pilots' runs where a card measures it, else of the settings, else 0."""
    measured = [(p.power_w, p.seconds) for p in [*result.pilots, *result.confirmations] if p.power_w]
    seconds = sum(each for _, each in measured)
    return sum(watts * each for watts, each in measured) / seconds if seconds else result.watts


# --- files --------------------------------------------------------------------------------------------


def root(directory: Path | None) -> Path:
    """The folder of all searches of a folder of runs."""
    return folder.runs_folder(directory) / FOLDER


def read_result(place: Path) -> SearchResult:
    """The result in the folder of a search. Raises LabError and OSError."""
    return from_json(input_files.read_bytes(place / RESULT), SearchResult, f"{RESULT} of search {place.name}")


def find(directory: Path | None, name: str) -> Path:
    """The folder of a search by its name or a part of it; "latest" is the newest. Raises LabError."""
    every = sorted((path.parent.name for path in root(directory).glob(f"*/{RESULT}")), reverse=True)
    newest = ", ".join(every[:5]) or "none yet"
    none = f"there is no search with {sanitize(name)} in its name; the newest: {newest}"
    found = every[0] if every and name == "latest" else folder.matching_id(name, every, "search", none)
    return root(directory) / found


def state_of(place: Path, result: SearchResult) -> str:
    """running, finished, stopped, or crashed: its process died."""
    if is_locked(place / LOCK):
        return "running"
    if result.stopped:
        return "stopped"
    return "finished" if result.sentence and not result.progress else "crashed"


@dataclass(frozen=True)
class FoundSearch:
    """A search with the state of its process, as :func:`state_of`."""

    result: SearchResult
    state: str


def look(directory: Path, name: str) -> FoundSearch | None:
    """The search of this name; None where there is none, or its file cannot be read."""
    if not name:
        return None
    place = root(directory) / Path(name).name
    result = _readable(place)
    return None if result is None else FoundSearch(result, state_of(place, result))


def of_run(run: Run) -> SearchResult | None:
    """The search that chose this run; None where there is none, or its file cannot be read."""
    place = sweep.place_of(run)
    if place is None:
        return None
    found = _readable(run.path.parent / FOLDER / Path(place.sweep).name)
    chosen = found.chosen if found is not None else None
    return found if chosen is not None and chosen.pilot.run == run.id else None


def _readable(place: Path) -> SearchResult | None:
    try:
        return read_result(place)
    except (OSError, LabError):
        return None


# --- as text ------------------------------------------------------------------------------------------


def budget_text(result: SearchResult) -> str:
    """The budget as it was given."""
    if result.budget_kwh is not None:
        return f"{result.budget_kwh:g} kWh"
    return duration(result.budget_s)


def values_text(pilot: Pilot) -> str:
    """The recipe fields of a pilot."""
    return ", ".join(f"{key} {_shown(value)}" for key, value in pilot.values.items())


def interval_text(value: Interval) -> str:
    """A figure with its interval."""
    return interval(value.value, value.low, value.high)


def _shown(value: float | int | str | bool) -> str:
    return f"{value:.2g}" if isinstance(value, float) else sweep.format_value(value)
