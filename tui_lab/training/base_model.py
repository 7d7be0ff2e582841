"""The base model of a run: its precision by the recipe, and loading it for training."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import dynamic_4bit
from tui_lab.models.dynamic_4bit import UnquantizedModules
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights_dtype(recipe: Recipe, compute_dtype: str) -> str:
    """Frozen weights are stored in the compute type; trained weights (method ``full``) in float32, since an
    update of 1e-5 is lost in bfloat16's eight bits."""
    return "float32" if recipe.method == "full" else compute_dtype


def precision_of(
    recipe: Recipe, compute_dtype: str, quantization: str = "", unquantized: tuple[str, ...] = ()
) -> Precision:
    """How the base of a recipe is stored and computed with; ``quantization``: the resolved one, "" for the
    recipe's; ``unquantized``: the layers that the run leaves as they are."""
    return Precision(
        weights_dtype(recipe, compute_dtype),
        quantization=quantization or recipe.quantization,
        double_quantization=recipe.double_quantization,
        compute_dtype=compute_dtype,
        unquantized=recipe.method == "full",
        unquantized_modules=unquantized,
    )


def unquantized_modules(
    source: ModelSource,
    recipe: Recipe,
    values: ResolvedValues,
    folder: Path,
    on_measure: Callable[[], None] = lambda: None,
) -> UnquantizedModules | None:
    """The layers that a run leaves unquantised, measured once and kept in its folder; None where its recipe
    has no budget for them. ``on_measure`` is called before a measurement. Raises LabError."""
    if not recipe.unquantized_budget or values.quantization != "nf4":
        return None
    found = dynamic_4bit.read(folder)
    if found is None:
        on_measure()
        plain = load_model(
            source, Precision(values.compute_dtype), device="cpu", allow_large=recipe.allow_large
        )
        try:
            errors = dynamic_4bit.measure(plain, recipe.double_quantization)
        finally:
            del plain
            gc.collect()  # before the base of the run is loaded
        found = dynamic_4bit.choose(errors, recipe.unquantized_budget / 100)
        dynamic_4bit.write(folder, found)
    return found


def load_base(
    source: ModelSource,
    recipe: Recipe,
    device: DeviceFacts,
    values: ResolvedValues,
    unquantized: tuple[str, ...] = (),
) -> PreTrainedModel:
    """The base model of a recipe, without a key-value cache. Raises LabError."""
    model = load_model(
        source,
        precision_of(recipe, values.compute_dtype, values.quantization, unquantized),
        device=device.type,
        attention=values.attn_implementation,
        allow_large=recipe.allow_large,
    )
    model.config.use_cache = False
    return model
