"""The lanes of the Playground as plain data: seeds, presets, the grid on the screen. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tui_lab.decoding.strategies import FAMILIES, PRESETS, Lane, Sample, with_seeds

#: Each lane is at least one row of the batch.
MAX_LANES = 24
#: Least size of a lane in cells; two stand side by side in a narrower window.
LANE_COLUMNS, LANE_ROWS = 50, 9
TWO_COLUMNS = 76
#: Fresh seeds are below this: short enough to type.
SEEDS = 100_000


def base_against(name: str, strategies: int = 2) -> tuple[Lane, ...]:
    """Lanes with the same strategies on the base and on the adapter ``name``."""
    chosen = (
        (FAMILIES["greedy"].start, None),
        (Sample("top-p", top_p=0.9), 1),
        (Sample("temperature", temperature=0.7), 1),
    )
    return tuple(Lane(strategy, seed, on) for strategy, seed in chosen[:strategies] for on in ("base", name))


def presets(names: Sequence[str]) -> dict[str, tuple[Lane, ...]]:
    """Sets of lanes by name, for a process that has loaded ``names`` (the base first)."""
    four = {f"base against {name}": base_against(name) for name in names[1:]}
    six = {f"base against {name}, six lanes": base_against(name, 3) for name in names[1:]}
    return {**PRESETS, **four, **six}


def with_fresh_seeds(lanes: Sequence[Lane], draw: random.Random | None = None) -> tuple[Lane, ...]:
    """The lanes, with a new seed for each one that samples."""
    draw = draw or random.SystemRandom()
    return tuple(
        replace(lane, seed=draw.randrange(SEEDS)) if lane.strategy.random else lane for lane in lanes
    )


def again(lane: Lane) -> Lane:
    """A lane for another answer: the same would say the same, so one that samples has the next seed."""
    return replace(lane, seed=(lane.seed or 0) + 1) if lane.strategy.random else lane


def seeded(lanes: Sequence[Lane]) -> tuple[Lane, ...]:
    """The lanes, with a seed for each one that samples and has none, so that answers can be reproduced."""
    return with_seeds(tuple(lanes), 1)


@dataclass(frozen=True)
class LaneGrid:
    """The grid of lanes in view."""

    columns: int
    rows: int

    @property
    def places(self) -> int:
        return self.columns * self.rows


def grid(width: int, height: int, lanes: int, paired: bool = False) -> LaneGrid:
    """The grid for an area of ``width`` x ``height`` cells: as many lanes as are readable, in at most three
    columns, evenly filled. ``paired``: base and tuned lanes take turns, and stand side by side."""
    readable = max(width // LANE_COLUMNS, 2 if width >= TWO_COLUMNS else 1)
    columns = max(1, min(2 if paired else 3, readable, lanes))
    wanted = -(-lanes // columns)
    rows = max(1, min(height // LANE_ROWS, wanted))
    if rows == wanted:
        columns = max(1, -(-lanes // rows))
    return LaneGrid(columns, rows)


def page(grid: LaneGrid, lanes: int, current: int) -> range:
    """The lanes on the page of the current lane."""
    begin = current // grid.places * grid.places
    return range(begin, min(begin + grid.places, lanes))
