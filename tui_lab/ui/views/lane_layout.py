"""The list of lanes of a comparison as plain data: seeds, presets, places on the screen. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui_lab.decoding.strategies import FAMILIES, PRESETS, Lane, Sample, with_seeds

#: Lanes at most: each is at least a row of the batch.
MOST_LANES = 24
#: Cells and rows below which a lane says too little.
LANE_COLUMNS, LANE_ROWS = 50, 9
#: Seeds that fresh ones are drawn below: short enough to be typed again.
SEEDS = 100_000


def base_against(name: str) -> tuple[Lane, ...]:
    """Lanes that show what an adapter changed: the same strategies on the base and on ``name``."""
    kept = ((FAMILIES["greedy"].start, None), (Sample("top-p", top_p=0.9), 1))
    return tuple(Lane(strategy, seed, on) for strategy, seed in kept for on in ("base", name))


def presets(names: Sequence[str]) -> dict[str, tuple[Lane, ...]]:
    """Sets of lanes to begin with, for a host that holds ``names`` (the base first)."""
    tuned = {f"base against {name}": base_against(name) for name in names[1:]}
    return {**PRESETS, **tuned}


def with_fresh_seeds(lanes: Sequence[Lane], draw: random.Random | None = None) -> tuple[Lane, ...]:
    """The lanes, each that draws with another seed."""
    draw = draw or random.SystemRandom()
    return tuple(
        replace(lane, seed=draw.randrange(SEEDS)) if lane.strategy.random else lane for lane in lanes
    )


def seeded(lanes: Sequence[Lane]) -> tuple[Lane, ...]:
    """The lanes with a seed for each that draws and has none, so that a run can be had again."""
    return with_seeds(tuple(lanes), 1)


@dataclass(frozen=True)
class Grid:
    """How many lanes are seen at once."""

    columns: int
    rows: int

    @property
    def places(self) -> int:
        return self.columns * self.rows


def grid(width: int, height: int, lanes: int) -> Grid:
    """The grid for an area of cells: as many lanes as can be read, no more columns than make sense."""
    columns = max(1, min(3, width // LANE_COLUMNS, lanes))
    rows = max(1, min(height // LANE_ROWS, -(-lanes // columns)))
    return Grid(columns, rows)


def page(grid: Grid, lanes: int, current: int) -> range:
    """The lanes of the page that the current one stands on."""
    begin = current // grid.places * grid.places
    return range(begin, min(begin + grid.places, lanes))
