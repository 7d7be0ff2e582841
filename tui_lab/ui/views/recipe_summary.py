"""The summary of a recipe before the run starts: trained parameters, what is resolved for this machine and
why, refusals and warnings, and the equivalent command. Imports no torch."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.forecast.cost import DataFacts, planned_steps
from tui_lab.forecast.estimate import RunEstimate, estimate
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.hardware.precision import QUANTIZATIONS
from tui_lab.models import catalog
from tui_lab.models.trainable import trainable_count
from tui_lab.recipes.recipe import FIELDS, Recipe, RecipeError, build, with_pins
from tui_lab.recipes.resolve import VALIDATIONS_A_RUN, resolve


@dataclass(frozen=True)
class RecipeSummary:
    """What Setup shows of a recipe. ``reasons`` are (field, value, reason); ``description``: method, adapter
    and length of the training. The run can start when ``refusals`` is empty."""

    recipe: Recipe | None = None
    entry: catalog.Entry | None = None
    trainable: int | None = None
    parameters: int | None = None
    targets: tuple[str, ...] = ()
    reasons: tuple[tuple[str, str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    command: str = ""
    description: str = ""
    estimate: RunEstimate | None = None
    goes_on: str = ""  # the run that it goes on from, as a sentence

    @property
    def share(self) -> float | None:
        """Share of the parameters that is trained."""
        if self.trainable is None or not self.parameters:
            return None
        return self.trainable / self.parameters


def command_line(preset: str, model: str, data: str, overrides: Mapping[str, Any]) -> str:
    """The equivalent ``tui-lab train`` command."""
    arguments = ["tui-lab", "train", "--model", model, "--preset", preset, "--data", data]
    for key, value in overrides.items():
        if key in ("model", "data", "preset"):
            continue
        if key == "from_run":
            arguments += ["--from", str(value)] if value else []
            continue
        if key == "frozen_rank":
            arguments += ["--new-adapter"] if value else []
            continue
        if key == "allow_large" and value is True:
            arguments.append("--allow-large")
            continue
        number = f"{value:.10g}" if isinstance(value, float) else str(value)
        arguments += ["--set", f"{key}={number.lower() if isinstance(value, bool) else number}"]
    return shlex.join(arguments)


def summarise(
    values: Mapping[str, Any],
    preset: str,
    overrides: Mapping[str, Any],
    device: DeviceFacts | None,
    budget: MemoryBudget | None = None,
    data: DataFacts | None = None,
) -> RecipeSummary:
    """Summarises a recipe given as plain values, valid or not. ``budget``: the memory of the device, for the
    forecast; ``data``: facts about the data, for the forecast of time."""
    command = command_line(preset, str(values.get("model", "")), str(values.get("data", "")), overrides)
    refusals: list[str] = []
    recipe, entry, trainable = None, None, None
    try:
        recipe = build(with_pins(values, overrides))
    except RecipeError as error:
        refusals += [problem.message for problem in error.problems]
    try:
        entry = catalog.find(str(values.get("model", "")), allow_large=values.get("allow_large") is True)
    except LabError as error:
        refusals.append(str(error))
    if recipe is None or entry is None:
        return RecipeSummary(recipe=recipe, entry=entry, refusals=tuple(refusals), command=command)
    warnings: list[str] = []
    targets: tuple[str, ...] = ()
    reasons: tuple[tuple[str, str, str], ...] = ()
    forecast = None
    try:
        if entry.shape is not None:
            trainable = trainable_count(entry.shape, recipe)
        if device is not None:
            found = resolve(recipe, device, entry)
            warnings = found.warnings
            targets = tuple(found.values.target_modules)
            choices = list(found.reasons)
            if budget is not None:
                forecast = estimate(recipe, entry, found.values, budget, data)
                choices += forecast.filled.choices if forecast.filled else ()
            reasons = tuple((c.field, _value_text(c.field, c.value), c.reason) for c in choices)
    except LabError as error:
        refusals.append(str(error))
    return RecipeSummary(
        recipe=recipe,
        entry=entry,
        trainable=trainable,
        parameters=entry.parameters,
        targets=targets,
        reasons=reasons,
        warnings=tuple(dict.fromkeys(warnings)),
        refusals=tuple(dict.fromkeys(refusals)),
        command=command,
        description=describe(recipe),
        estimate=forecast,
    )


def _value_text(field: str, value: object) -> str:
    """A resolved value, as the form shows it."""
    if isinstance(value, list):
        return ", ".join(value)
    return FIELDS[field].shown(value) if field in FIELDS else str(value)


def automatic_values(summary: RecipeSummary, data: DataFacts | None) -> dict[str, str]:
    """What the fields that are ``auto`` come to, by field, as far as it is known."""
    recipe = summary.recipe
    if recipe is None:
        return {}
    run = summary.estimate.as_run(recipe) if summary.estimate else recipe
    steps = planned_steps(run, data.rows if data else None)
    evaluations = recipe.eval_steps or (math.ceil(steps / VALIDATIONS_A_RUN) if steps else 0)
    numbers = {
        "max_steps": steps or 0,
        "eval_steps": evaluations,
        "save_steps": recipe.save_steps or evaluations,
        "sample_steps": recipe.sample_steps or evaluations,
    }
    plain = recipe.model_dump()
    found = {key: f"{number:,}" for key, number in numbers.items() if number and not plain[key]}
    chosen = {key: value for key, value, _ in summary.reasons if value and plain.get(key) == "auto"}
    return {**found, **{key: value.lower() for key, value in chosen.items()}}


def describe(recipe: Recipe) -> str:
    """Method, size of the adapter and length of the training."""
    parts: list[str] = [recipe.method]
    if recipe.method == "lora":
        base = f"QLoRA ({QUANTIZATIONS[recipe.quantization]})" if recipe.quantization != "none" else "LoRA"
        variants = [name for on, name in ((recipe.use_dora, "DoRA"), (recipe.use_rslora, "rsLoRA")) if on]
        parts = [" + ".join([base, *variants]), f"r {recipe.lora_r}, alpha {recipe.lora_alpha:g}"]
        if recipe.frozen_rank:
            parts.append(f"beside r {recipe.frozen_rank}")
    elif recipe.method == "adalora":
        parts.append(f"{recipe.init_r} pruned to {recipe.target_r}")
    elif recipe.method == "loha":
        parts.append(f"r {recipe.lora_r}")
    elif recipe.method == "osf":
        parts = [f"OSF, {recipe.effective_rank:.0%} of the directions frozen"]
    elif recipe.method in ("prefix", "p_tuning", "prompt_tuning"):
        parts.append(f"{recipe.num_virtual_tokens} virtual")
    elif recipe.method == "full":
        parts = ["full: every weight"]
    if recipe.max_steps:
        parts.append(plural(recipe.max_steps, "step"))
    else:
        parts.append(f"{recipe.num_train_epochs:g} epoch{'s' if recipe.num_train_epochs != 1 else ''}")
    return ", ".join([*parts, f"{recipe.effective_batch_size} rows a step"])
