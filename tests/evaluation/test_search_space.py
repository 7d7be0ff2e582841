"""What a search varies: the first trials, methods and ranks that fit the memory, and the recipes."""

from __future__ import annotations

from typing import Any

import msgspec
import optuna
import pytest

from tests.evaluation.test_search import settings
from tui_lab.core.errors import LabError
from tui_lab.evaluation import search_space as space
from tui_lab.evaluation.search_settings import SearchSettings
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SETTINGS = msgspec.structs.replace(
    settings(), preset="minute", overrides={"model": "pocket", "data": "support"},
    methods=("lora", "dora"), learning_rate=5e-3,
)  # fmt: skip


def proposed(number: int, of: SearchSettings = SETTINGS) -> tuple[dict[str, Any], int]:
    """The proposal of trial ``number`` where all before it were worth the same."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for at in range(number + 1):
        study.sampler = space.sampler(of, at)
        trial = study.ask()
        found = space.propose(trial, of)
        study.tell(trial, 0.5)
    return found


def test_the_first_trials_are_the_recipe_with_replay_at_its_rate_and_around() -> None:
    first = [proposed(number) for number in range(len(space.STARTS))]
    assert [values["learning_rate"] for values, _ in first] == pytest.approx([5e-3, 1e-2, 2.5e-3])
    assert [values["replay_fraction"] for values, _ in first] == [0.25, 0.25, 0.1]
    assert {(values["method"], values["lora_r"], factor) for values, factor in first} == {("lora", 16, 1)}


def test_a_trial_is_proposed_the_same_again_and_within_the_bounds() -> None:
    later = [proposed(number) for number in (3, 5)]
    assert later == [proposed(number) for number in (3, 5)]
    for values, factor in later:
        assert 1e-3 <= values["learning_rate"] <= 25e-3 and factor in space.FACTORS
        assert values["lora_r"] in SETTINGS.ranks


def test_one_method_is_not_among_the_values() -> None:
    values, _ = proposed(0, msgspec.structs.replace(SETTINGS, methods=("lora",)))
    assert "method" not in values


def test_the_recipe_of_a_method_is_that_method_alone() -> None:
    of = msgspec.structs.replace(SETTINGS, overrides={**SETTINGS.overrides, "use_dora": True})
    plain = of.recipe({"max_steps": 20, **space.METHODS["lora"], "lora_r": 4})
    assert not plain.use_dora and plain.lora_alpha == 8
    assert of.recipe({"max_steps": 20, **space.METHODS["rslora"]}).use_rslora
    assert of.recipe({"max_steps": 20}).use_dora, "without a method the recipe's own stays"


@pytest.mark.parametrize(
    ("quantization", "methods"),
    [("nf4", ("lora", "rslora", "dora")), ("none", ("lora", "rslora", "dora", "loha"))],  # LoHa has no 4 bits
)
def test_methods_and_ranks_that_the_recipe_allows(quantization: str, methods: tuple[str, ...]) -> None:
    device = DeviceFacts("cpu", "a CPU", 64 << 30, False, 2)
    budget = MemoryBudget(device, 64 << 30, "main memory", "free now in")
    of = msgspec.structs.replace(SETTINGS, overrides={**SETTINGS.overrides, "quantization": quantization})
    recipe, entry = of.recipe({"max_steps": 20}), catalog.find("pocket")
    assert space.choices(recipe, of, entry, budget) == (methods, space.RANKS)


def test_no_pilot_that_fits_and_no_method_that_is_varied_are_one_sentence() -> None:
    device = DeviceFacts("cpu", "a CPU", 64 << 30, False, 2)
    budget = MemoryBudget(device, 1 << 20, "main memory", "free now in")
    recipe, entry = make_recipe("minute", model="pocket", data="support"), catalog.find("pocket")
    with pytest.raises(LabError, match="no pilot fits the memory by the forecast"):
        space.choices(recipe, SETTINGS, entry, budget)
    with pytest.raises(LabError, match="the method is ia3: --set method=lora"):
        space.name_of(recipe.changed(method="ia3"))
