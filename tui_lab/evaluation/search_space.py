"""What a search varies: the recipes of its trials, and the sampler that proposes them. The first trials are
what a person would try first: the recipe itself with replay, at its rate, twice and half of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_lab.core.errors import LabError
from tui_lab.evaluation.search_settings import SearchSettings, SearchValues
from tui_lab.forecast.estimate import estimate
from tui_lab.forecast.remedies import OVER
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models.catalog import Entry
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import resolve

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

#: Methods by name, with their recipe fields.
METHODS: dict[str, SearchValues] = {
    "lora": {"method": "lora"},
    "rslora": {"method": "lora", "use_rslora": True},
    "dora": {"method": "lora", "use_dora": True},
    "loha": {"method": "loha"},
}
RANKS = (4, 8, 16, 32)
REPLAYS, KL_WEIGHTS, TARGETS = (0.0, 0.1, 0.25, 0.5), (0.0, 0.1, 0.5), ("attention", "all")
#: Steps of a trial as multiples of those of the settings.
FACTORS = (1, 2)
#: Rates are proposed from the recipe's divided by this to it times this.
RATE_SPAN = 5.0
#: Rate and replay of the first trials, the rate as a multiple of the recipe's.
STARTS = ((1.0, 0.25), (2.0, 0.25), (0.5, 0.1))


def propose(trial: Trial, settings: SearchSettings) -> tuple[SearchValues, int]:
    """The recipe fields of a trial with their values, and its factor of the steps."""
    rate = settings.learning_rate
    method = trial.suggest_categorical("method", list(settings.methods))
    values: SearchValues = {
        "learning_rate": trial.suggest_float("learning_rate", rate / RATE_SPAN, rate * RATE_SPAN, log=True),
        "lora_r": trial.suggest_categorical("lora_r", list(settings.ranks)),
        "replay_fraction": trial.suggest_categorical("replay_fraction", list(REPLAYS)),
        "kl_weight": trial.suggest_categorical("kl_weight", list(KL_WEIGHTS)),
        "target_modules": trial.suggest_categorical("target_modules", list(TARGETS)),
    }
    if len(settings.methods) > 1:
        values = {**METHODS[method], **values}
    return values, trial.suggest_categorical("steps", list(FACTORS))


def sampler(settings: SearchSettings, number: int) -> BaseSampler:
    """The sampler of trial ``number``: the same whether the search was killed before or not."""
    from optuna.samplers import PartialFixedSampler, TPESampler

    tpe = TPESampler(
        seed=settings.seed * 10_007 + number, n_startup_trials=len(STARTS) + 1, multivariate=True
    )
    if number >= len(STARTS):
        return tpe
    factor, replay = STARTS[number]
    fixed = {
        "method": settings.methods[0],
        "learning_rate": settings.learning_rate * factor,
        "lora_r": min(settings.ranks, key=lambda rank: abs(rank - settings.rank)),
        "replay_fraction": replay,
        "kl_weight": 0.0,
        "target_modules": "all",
        "steps": 1,
    }
    return PartialFixedSampler(fixed, tpe)


def choices(recipe: Recipe, settings: SearchSettings, entry: Entry, budget: MemoryBudget) -> tuple[
    tuple[str, ...], tuple[int, ...]
]:  # fmt: skip
    """The methods and ranks that the recipe allows and the forecast says fit the memory. Raises LabError
    where none does."""

    def fits(values: SearchValues) -> bool:
        try:
            changed = settings.recipe({"max_steps": settings.steps, **values})
        except LabError:
            return False
        resolved = resolve(changed, budget.device, entry).values
        return estimate(changed, entry, resolved, budget).verdict != OVER

    own = name_of(recipe)
    names = [own, *(name for name in METHODS if name != own)]
    least: SearchValues = {"lora_r": RANKS[0], "target_modules": "all"}
    methods = tuple(name for name in names if fits({**METHODS[name], **least}))
    ranks = tuple(rank for rank in RANKS if fits({**METHODS[own], "lora_r": rank, "target_modules": "all"}))
    if not methods or not ranks:
        raise LabError(
            "no pilot fits the memory by the forecast; choose a smaller model, quantization or max_length"
        )
    return methods, ranks


def name_of(recipe: Recipe) -> str:
    """The method of a recipe by the names of METHODS. Raises LabError where a search cannot vary it."""
    if recipe.method == "lora":
        return "dora" if recipe.use_dora else "rslora" if recipe.use_rslora else "lora"
    if recipe.method == "loha":
        return "loha"
    raise LabError(f"search varies LoRA, and the method is {recipe.method}: --set method=lora")
