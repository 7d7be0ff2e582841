"""Marks of lists: the forecast of the recipe itself, by another way."""

from __future__ import annotations

from tui_lab.forecast.estimate import estimate
from tui_lab.forecast.machine_fit import MachineFit, machine_fit
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.resolve import resolve

GIB = 1 << 30
L4 = DeviceFacts("cuda", "NVIDIA L4", 24 * GIB, True, 8)


def budget(free_gib: int) -> MemoryBudget:
    return MemoryBudget(L4, free_gib * GIB, "NVIDIA L4", "free now on")


def test_a_mark_is_the_forecast_of_the_recipe_that_would_start() -> None:
    entry = catalog.find("Qwen/Qwen2.5-1.5B")
    recipe = make_recipe("premium", model=entry.id, gradient_accumulation_steps=2)
    expected = estimate(recipe, entry, resolve(recipe, L4, entry).values, budget(20))
    values = {**make_recipe("premium").model_dump(), "gradient_accumulation_steps": 2}
    found = machine_fit(values, {"gradient_accumulation_steps": 2}, entry, budget(20))
    assert (found.verdict, found.needed_bytes) == (expected.verdict, expected.needed_bytes)
    assert machine_fit(values, {}, entry, budget(2)).verdict == "over"


def test_a_recipe_that_a_model_refuses_has_a_reason_and_no_figure() -> None:
    values = {**make_recipe("starter").model_dump(), "replay_fraction": 0.2}
    found = machine_fit(values, {}, catalog.find("Qwen/Qwen2.5-1.5B"), budget(20))
    assert found.verdict == "unknown" and found.needed_bytes is None and "replay_data" in found.reason


def test_what_fits_comes_first_and_what_does_not_last() -> None:
    fits, tight = MachineFit("fits", 5), MachineFit("tight", 1)
    unknown, over = MachineFit(), MachineFit("over", 2)
    assert sorted([over, unknown, tight, fits], key=lambda each: each.rank) == [fits, tight, unknown, over]
