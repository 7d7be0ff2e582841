"""A finished run teaches the forecast its speed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.estimate import cost_line, estimate
from tui_lab.forecast.flops import operations
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.resolve import resolve
from tui_lab.training import run_speed

CPU = DeviceFacts("cpu", "the CPU", 16 << 30, False, 2)
DATA = DataFacts(rows=320, mean_tokens=50.0, trained_share=0.5)


def test_the_next_forecast_of_the_same_recipe_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE_DIR", str(tmp_path))
    entry = catalog.find("pocket")
    recipe = make_recipe("minute", max_steps=100)
    values = resolve(recipe, CPU, entry).values
    budget = MemoryBudget(CPU, 8 << 30, "main memory", "free now in")
    before = estimate(recipe, entry, values, budget, DATA)
    assert before.cost is not None and before.cost.hours is None
    assert run_speed.store(
        recipe, values, entry.shape, CPU, DATA, run_speed.RunSpeed(1000.0, 100, "minute-1a2b")
    )
    found = estimate(recipe, entry, values, budget, DATA)
    after = found.cost
    assert cost_line(found).endswith("(as run minute-1a2b measured)")
    assert after is not None and after.hours is not None and not after.assumed
    # 100 steps of 16 rows of 50 tokens at 1,000 tok/s: 80 s of training, and validation and probes beside it
    assert after.parts["training"] * 3600 == pytest.approx(80.0)
    assert "1,000 tok/s over 100 steps" in after.basis
    assert entry.shape is not None
    work = operations(entry.shape, recipe, 50.0, head_share=0.5)
    assert after.flops_per_token == work.model


@pytest.mark.parametrize(
    ("speed", "steps"), [(math.nan, 100), (0.0, 100), (500.0, run_speed.LEAST_STEPS - 1)]
)
def test_too_few_steps_and_no_speed_teach_nothing(speed: float, steps: int) -> None:
    entry = catalog.find("pocket")
    recipe = make_recipe("minute")
    values = resolve(recipe, CPU, entry).values
    assert not run_speed.store(recipe, values, entry.shape, CPU, DATA, run_speed.RunSpeed(speed, steps))
    assert not run_speed.store(recipe, values, None, CPU, DATA, run_speed.RunSpeed(500.0, 100))
