"""Lanes as plain data: seeds, presets, the grid."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.decoding.strategies import PRESETS, Lane, parse
from tui_lab.ui.views.lane_layout import (
    LANE_COLUMNS,
    LANE_ROWS,
    TWO_COLUMNS,
    LaneGrid,
    base_against,
    grid,
    page,
    presets,
    seeded,
    with_fresh_seeds,
)

SIX = PRESETS["six classics"]


def test_the_grid_of_three_window_sizes() -> None:
    """The lanes' area at 80x24, 120x40 and 200x60."""
    assert grid(60, 12, 6) == LaneGrid(1, 1)
    assert grid(80, 16, 6) == LaneGrid(2, 1), "two lanes side by side"
    assert grid(120, 32, 6) == LaneGrid(2, 3)
    assert grid(200, 52, 6) == LaneGrid(3, 2)
    assert grid(200, 52, 2) == LaneGrid(2, 1)
    assert grid(200, 52, 4) == LaneGrid(2, 2), "no row with a single lane"
    assert grid(200, 52, 6, paired=True) == LaneGrid(2, 3), "base and tuned side by side"


@given(st.integers(1, 400), st.integers(1, 200), st.integers(0, 24), st.integers(0, 30))
def test_a_grid_holds_readable_lanes_and_every_lane_has_a_page(w: int, h: int, lanes: int, at: int) -> None:
    shape = grid(w, h, lanes)
    assert 1 <= shape.columns <= 3
    assert shape.columns == 1 or w // shape.columns >= (TWO_COLUMNS // 2 if w < 100 else LANE_COLUMNS)
    assert shape.rows == 1 or h // shape.rows >= LANE_ROWS
    if at < lanes:
        shown = page(shape, lanes, at)
        assert at in shown
        assert len(shown) <= shape.places
        pages = {page(shape, lanes, n) for n in range(lanes)}
        assert sorted(n for each in pages for n in each) == list(range(lanes))


def test_fresh_and_fixed_seeds() -> None:
    fresh = with_fresh_seeds(SIX, random.Random(1))
    assert [lane.strategy for lane in fresh] == [lane.strategy for lane in SIX]
    for lane in fresh:
        assert (lane.seed is not None) == lane.strategy.random
    assert with_fresh_seeds(SIX, random.Random(1)) == fresh
    assert with_fresh_seeds(SIX, random.Random(2)) != fresh
    assert seeded([parse("top-p"), parse("greedy")])[0].seed == 1
    assert seeded([parse("top-p seed=9")])[0].seed == 9


def test_base_against_tuned_differs_only_in_weights() -> None:
    lanes = base_against("tuned")
    assert {lane.on for lane in lanes} == {"base", "tuned"}
    for base, tuned in zip(lanes[::2], lanes[1::2], strict=True):
        assert (base.on, tuned.on) == ("base", "tuned")
        assert (base.strategy, base.seed) == (tuned.strategy, tuned.seed)
    assert all(parse(lane.text) == lane for lane in lanes)
    assert "base against pirate" in presets(["base", "pirate"])
    assert len(presets(["base", "pirate"])["base against pirate, six lanes"]) == 6
    assert [lane.text for lane in PRESETS["contrastive ladder"]][::5] == [
        "contrastive penalty_alpha=0.0 top_k=4",
        "contrastive penalty_alpha=1.0 top_k=4",
    ]
    assert all("against" not in name for name in presets([]))
    assert isinstance(lanes[0], Lane)
