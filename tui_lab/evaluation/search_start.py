"""What a new search starts from: its settings, checked against the recipe and the memory before anything is
loaded, and what they will take."""

from __future__ import annotations

import os
import time

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.data import preflight
from tui_lab.evaluation import search_space as space
from tui_lab.evaluation.search_plan import Budget
from tui_lab.evaluation.search_settings import SearchSettings
from tui_lab.forecast import cost
from tui_lab.hardware import gpu, gpu_specs, memory_budget
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.suites import registry

DEFAULT_KEEP, DEFAULT_BUDGET, DEFAULT_SUITE, DEFAULT_ITEMS = 0.9, "30min", "everyday", 200
#: The environment variable of the setting for the power of this machine.
WATTS = "TUI_LAB_MACHINE_WATTS"


def watts() -> float:
    """The power that a budget in energy begins with, until the runs measure it: that of the setting, else the
    limit of a card that measures its power, else 0. Raises LabError."""
    if given := cost.amount(os.environ, WATTS):
        return given
    limits = [0.0]
    for card in gpu.sample():
        if card.power_w is not None:
            try:
                limits.append(gpu_specs.find(card.name).tdp_w)
            except LabError:  # a card that is not in the table
                limits.append(card.power_w)
    return max(limits)


def first_steps(recipe: Recipe) -> int:
    """The steps of the pilots of the first rung: a third of those of the recipe, of 60 where it runs by
    epochs."""
    return max(10, (recipe.max_steps or 60) // 3)


def settings(
    preset: str,
    overrides: dict[str, object],
    keep: float,
    budget: Budget,
    *,
    suite: str = DEFAULT_SUITE,
    items: int = DEFAULT_ITEMS,
    steps: int | None = None,
    seed: int = 0,
) -> SearchSettings:
    """The settings of a new search. Raises LabError for a recipe that cannot be searched, a model that is not
    known, data or a suite that is not there, and where no pilot fits the memory."""
    registry.require(suite)
    base = make_recipe(preset, **overrides)
    space.name_of(base)
    entry = catalog.find(base.model, allow_large=base.allow_large)
    preflight.preflight(base)  # what is missing is reported now, not by the first pilot
    first = SearchSettings(
        search=f"search-{time.strftime('%Y%m%d-%H%M%S')}",
        model=base.model,
        data=base.data,
        keep=keep,
        budget_s=budget.seconds,
        budget_kwh=budget.kwh,
        watts=budget.watts,
        suite=suite,
        steps=steps or first_steps(base),
        learning_rate=float(base.learning_rate),
        seed=seed,
        items=items,
        preset=preset,
        overrides=overrides,
        rank=base.lora_r,
    )
    methods, ranks = space.choices(base, first, entry, memory_budget.current())
    return msgspec.structs.replace(first, methods=methods, ranks=ranks)


def with_budget(found: SearchSettings, budget: Budget) -> SearchSettings:
    """The settings with another budget."""
    return msgspec.structs.replace(found, budget_s=budget.seconds, budget_kwh=budget.kwh, watts=budget.watts)
