"""Sweeps: one run for every combination of the values of some recipe fields.

Each run has its sweep and its values in ``sweep.json`` of its folder. The best run is selected by a criterion
among the finished and stopped ones.
"""

from __future__ import annotations

import itertools
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.recipes.recipe import FIELDS, parse_value, unknown_key
from tui_lab.runs.folder import Run

FILE = "sweep.json"
#: Maximum number of runs in a sweep.
MOST_RUNS = 64
#: The swept fields with their values, and one combination of them.
SweepGrid: TypeAlias = dict[str, list[object]]
SweepValues: TypeAlias = dict[str, object]

#: By criterion: whether lower is better, and a description.
CRITERIA: dict[str, tuple[bool, str]] = {
    "validation": (True, "lowest validation loss"),
    "acquisition": (False, "highest acquisition"),
    "retention": (False, "highest retention"),
    "time": (True, "shortest time"),
}


class SweepPlace(Struct, frozen=True):
    """The content of ``sweep.json``: the run is ``number`` (from 1) of ``of``, with ``values``."""

    sweep: str
    number: int
    of: int
    values: SweepValues = {}
    v: int = 1


def new_id() -> str:
    """A new id: the time and a random suffix."""
    return f"sweep-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def parse(arguments: Sequence[str]) -> SweepGrid:
    """Parses arguments ``key=value,value`` into a grid. Raises LabError with all mistakes at once."""
    grid: SweepGrid = {}
    mistakes: list[str] = []
    for word in arguments:
        key, equals, raw = word.partition("=")
        key = key.strip()
        values = [part.strip() for part in raw.split(",")]
        if not equals or not key or not all(values):
            mistakes.append(f"{word}: write it as key=value,value, such as learning_rate=1e-4,2e-4")
        elif key not in FIELDS:
            mistakes.append(unknown_key(key).message)
        elif key in grid:
            mistakes.append(f"{key} is given twice: give all its values at once")
        elif key == "preset":
            mistakes.append("preset is only a label; sweep the fields that differ")
        else:
            grid[key] = list(dict.fromkeys(parse_value(key, value) for value in values))
    if mistakes:
        raise LabError(_together(mistakes, "--sweep: "))
    if (count := math.prod(len(values) for values in grid.values())) > MOST_RUNS:
        sizes = " × ".join(f"{len(values)} {key}" for key, values in grid.items())
        raise LabError(
            f"--sweep: {sizes} make {count} runs, and a sweep has at most {MOST_RUNS}; sweep fewer values, "
            "or one field first and the other around its best"
        )
    return grid


def _together(mistakes: Sequence[str], prefix: str = "") -> str:
    if len(mistakes) == 1:
        return prefix + mistakes[0]
    return f"{prefix}{len(mistakes)} mistakes, nothing was queued\n  - " + "\n  - ".join(mistakes)


def combinations(grid: SweepGrid) -> list[SweepValues]:
    """All combinations, the last field varying fastest; one empty combination for an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def write_place(run: Run, place: SweepPlace) -> None:
    """Writes ``sweep.json`` of a run. Raises OSError."""
    write_atomically(run.path / FILE, to_json(place) + "\n")


def place_of(run: Run) -> SweepPlace | None:
    """A run's place in its sweep; None when it has none or the file is damaged."""
    try:
        return from_json(input_files.read_bytes(run.path / FILE), SweepPlace, FILE)
    except (OSError, LabError):
        return None


def describe(values: Mapping[str, object]) -> str:
    """A combination as text: learning_rate=0.0001 lora_r=8."""
    return " ".join(f"{key}={format_value(value)}" for key, value in values.items())


def format_value(value: object) -> str:
    """One value as the user types it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------------------------------
# results


def best(figures: Mapping[str, float], criterion: str) -> str:
    """The key of the best value, the first of equal ones; "" when none is finite."""
    less, _ = CRITERIA[criterion]
    finite = {key: value for key, value in figures.items() if math.isfinite(value)}
    if not finite:
        return ""
    return (min if less else max)(finite, key=finite.__getitem__)
