"""Grids: every combination, nothing that no recipe has, all mistakes at once; and what the best run is."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import create
from tui_lab.runs.queue import sweep
from tui_lab.runs.queue.sweep import MOST_RUNS, SweepPlace, best, combinations, parse


def test_a_grid_is_the_product_of_its_values() -> None:
    grid = parse(["learning_rate=1e-4,2e-4", "lora_r=8, 16", "lr_scheduler_type=cosine"])
    assert grid == {"learning_rate": [1e-4, 2e-4], "lora_r": [8, 16], "lr_scheduler_type": ["cosine"]}
    found = combinations(grid)
    assert [(c["learning_rate"], c["lora_r"]) for c in found] == list(
        itertools.product([1e-4, 2e-4], [8, 16])
    )
    assert combinations({}) == [{}]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_every_combination_once(sizes: list[int]) -> None:
    grid = {f"field{i}": list(range(size)) for i, size in enumerate(sizes)}
    found = combinations(grid)
    assert len(found) == math.prod(sizes) == len({tuple(c.values()) for c in found})


def test_the_same_value_twice_is_one_run() -> None:
    assert parse(["learning_rate=1e-4,0.0001,1E-4"]) == {"learning_rate": [1e-4]}


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(LabError) as caught:
        parse(["lr=1", "lora_r", "seed=1,,2", "preset=a,b", "lora_r=8", "lora_r=16"])
    text = str(caught.value)
    assert text.startswith("--sweep: 5 mistakes, nothing was queued")
    for part in ("did you mean learning_rate", "lora_r: write it", "seed=1,,2: write it", "preset", "twice"):
        assert part in text


def test_a_sweep_has_a_limit() -> None:
    values = ",".join(str(n) for n in range(MOST_RUNS // 2 + 1))
    with pytest.raises(LabError, match=f"make {MOST_RUNS + 2} runs, and a sweep has at most {MOST_RUNS}"):
        parse([f"seed={values}", "lora_r=8,16"])


def test_the_place_of_a_run_in_its_sweep(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    assert sweep.place_of(run) is None
    place = SweepPlace("sweep-1", 2, 4, {"learning_rate": 1e-4, "packing": True, "optim": "adamw_torch"})
    sweep.write_place(run, place)
    assert sweep.place_of(run) == place
    for damaged in ("", "[]", "{}", '{"sweep": 1, "number": "x", "of": 1, "values": {}}', "[" * 5000):
        (run.path / sweep.FILE).write_text(damaged)
        assert sweep.place_of(run) is None


def test_combinations_as_text() -> None:
    values = {"learning_rate": 1e-4, "lora_r": 8, "packing": True, "optim": "adamw_torch"}
    assert sweep.describe(values) == "learning_rate=0.0001 lora_r=8 packing=true optim=adamw_torch"


@pytest.mark.parametrize(("criterion", "expected"), [("validation", "a"), ("acquisition", "b")])
def test_the_best_run_by_each_criterion(criterion: str, expected: str) -> None:
    assert best({"a": 1.0, "b": 2.0, "c": math.nan, "d": math.inf}, criterion) == expected
    assert best({"c": math.nan}, criterion) == ""
    assert best({"x": 1.0, "y": 1.0}, criterion) == "x", "of equals the first"
