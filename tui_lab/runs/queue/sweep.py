"""Sweeps: one run for every combination of some fields' values, and the table of what came of them.

The grid is a product of lists; each run notes in its folder (``sweep.json``) which sweep it belongs to and
what its own values are. The best run is the one that a named criterion says, among those that ended well.
"""

from __future__ import annotations

import itertools
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.records import from_json, to_json
from tui_lab.recipes.recipe import FIELDS, parse_value, unknown_key
from tui_lab.runs.folder import Run

FILE = "sweep.json"
#: Runs of one sweep at most: more is a slip of the hand, or a search that wants another tool.
MOST_RUNS = 64
#: The swept fields with their values, and one combination of them.
Grid: TypeAlias = dict[str, list[object]]
SweepValues: TypeAlias = dict[str, object]

#: A criterion with whether less of it is better, and its words.
CRITERIA: dict[str, tuple[bool, str]] = {
    "validation": (True, "lowest validation loss"),
    "acquisition": (False, "highest score on the new task"),
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
    """A sweep's name: its time, and something that tells two of one second apart."""
    return f"sweep-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def parse(describe: Sequence[str]) -> Grid:
    """``key=value,value`` words as a grid. Raises LabError with every mistake at once."""
    grid: Grid = {}
    mistakes: list[str] = []
    for word in describe:
        key, equals, raw = word.partition("=")
        key = key.strip()
        values = [part.strip() for part in raw.split(",")]
        if not equals or not key or not all(values):
            mistakes.append(f"{word}: write it as key=value,value, such as learning_rate=1e-4,2e-4")
        elif key not in FIELDS:
            mistakes.append(unknown_key(key).message)
        elif key in grid:
            mistakes.append(f"{key} is given twice: name all its values at once")
        elif key == "preset":
            mistakes.append("preset is a note of where the recipe began; sweep the fields that differ")
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


def combinations(grid: Grid) -> list[SweepValues]:
    """Every combination, the last field turning fastest; one empty for an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def write_place(run: Run, place: SweepPlace) -> None:
    """Writes a run's place into its folder. Raises OSError."""
    write_atomically(run.path / FILE, to_json(place) + "\n")


def place_of(run: Run) -> SweepPlace | None:
    """A run's place in its sweep; None when it has none or the file is damaged."""
    try:
        return from_json((run.path / FILE).read_bytes(), SweepPlace, FILE)
    except (OSError, LabError):
        return None


def describe(values: Mapping[str, object]) -> str:
    """A combination in words: learning_rate=0.0001 lora_r=8."""
    return " ".join(f"{key}={format_value(value)}" for key, value in values.items())


def format_value(value: object) -> str:
    """One value as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------------------------------
# results


def best(figures: Mapping[str, float], criterion: str) -> str:
    """The key of the best figure; "" when none is finite. Of equals the first."""
    less, _ = CRITERIA[criterion]
    finite = {key: value for key, value in figures.items() if math.isfinite(value)}
    if not finite:
        return ""
    return (min if less else max)(finite, key=finite.__getitem__)
