"""Marks of lists: the forecast of the recipe itself, by another way."""

from __future__ import annotations

from tui_lab.forecast.estimate import estimate
from tui_lab.forecast.machine_fit import MachineFit, machine_fit, playground_fit
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


def test_the_verdict_follows_the_free_memory() -> None:
    found = MachineFit("fits", 10, "", 12)
    assert [found.at(free).verdict for free in (12, 11, 10, 9)] == ["fits", "tight", "tight", "over"]
    assert found.at(None) == found and MachineFit().at(5) == MachineFit()


def test_what_fits_comes_first_and_what_does_not_last() -> None:
    fits, tight = MachineFit("fits", 5), MachineFit("tight", 1)
    unknown, over = MachineFit(), MachineFit("over", 2)
    assert sorted([over, unknown, tight, fits], key=lambda each: each.rank) == [fits, tight, unknown, over]


def test_the_playground_is_forecast_in_its_precision() -> None:
    entry = catalog.find("Qwen/Qwen2.5-1.5B")
    sixteen, four = (playground_fit(entry, budget(20), precision) for precision in ("auto", "nf4"))
    assert sixteen.verdict == four.verdict == "fits"
    assert sixteen.needed_bytes is not None and four.needed_bytes is not None
    # 1.54 B parameters in two bytes, the embeddings (0.23 B, tied) too; a quarter of the rest in NF4
    assert 2 * 1.54e9 < sixteen.needed_bytes < 2 * 1.54e9 + 2 * GIB
    assert sixteen.needed_bytes - four.needed_bytes > 1.4 * 1.31e9
    assert playground_fit(entry, budget(1), "auto").verdict == "over"
