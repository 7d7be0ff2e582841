"""What a search searches: the record ``settings.json`` in its folder, from which any process goes on with
it, and the recipes of its pilots."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import Recipe

#: Recipe fields of a pilot with their values.
SearchValues: TypeAlias = dict[str, float | int | str | bool]


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``preset`` with ``overrides`` is the recipe that is varied; ``steps``: of the pilots of the first rung;
    ``learning_rate``, ``rank``: of the recipe, around which others are proposed; ``methods``, ``ranks``:
    those that fit the memory; ``items``: of the suite for a pilot, 0 for all (a confirmation has all).
    ``budget_kwh``: a budget in energy, and then ``budget_s`` is what it allows at ``watts`` until a card
    measures its power."""

    search: str
    model: str
    data: str
    keep: float
    budget_s: float
    suite: str
    steps: int
    learning_rate: float
    seed: int = 0
    items: int = 200
    preset: str = ""
    overrides: dict[str, object] = {}
    methods: tuple[str, ...] = ("lora",)
    ranks: tuple[int, ...] = (4, 8, 16, 32)
    rank: int = 16
    budget_kwh: float | None = None
    watts: float = 0.0

    def recipe(self, changes: dict[str, object]) -> Recipe:
        """The recipe of a pilot. lora_alpha keeps its ratio to the rank, so that a rank is not also another
        rate. A pilot validates once, at its end: the search decides by what it measures itself."""
        base = make_recipe(self.preset, **self.overrides)
        rank = changes.get("lora_r")
        alpha = (
            {"lora_alpha": max(1, round(rank * base.lora_alpha / base.lora_r))}
            if isinstance(rank, int)
            else {}
        )
        plain = {"use_dora": False, "use_rslora": False} if "method" in changes else {}
        fixed = {
            "stop_on_retention": True,
            "retention_threshold": self.keep,
            "eval_steps": changes.get("max_steps", 0),
        }
        return make_recipe(self.preset, **{**self.overrides, **plain, **fixed, **changes, **alpha})
