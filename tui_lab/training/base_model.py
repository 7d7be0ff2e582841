"""The base model of a run: its precision by the recipe, and loading it for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_lab.hardware.device import DeviceFacts
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def weights_dtype(recipe: Recipe, compute_dtype: str) -> str:
    """Frozen weights are stored in the compute type; trained weights (method ``full``) in float32, since an
    update of 1e-5 is lost in bfloat16's eight bits."""
    return "float32" if recipe.method == "full" else compute_dtype


def precision_of(recipe: Recipe, compute_dtype: str, quantization: str = "") -> Precision:
    """How the base of a recipe is stored and computed with; ``quantization``: the resolved one, "" for the
    recipe's."""
    return Precision(
        weights_dtype(recipe, compute_dtype),
        quantization=quantization or recipe.quantization,
        double_quantization=recipe.double_quantization,
        compute_dtype=compute_dtype,
        unquantized=recipe.method == "full",
    )


def load_base(
    source: ModelSource, recipe: Recipe, device: DeviceFacts, values: ResolvedValues
) -> PreTrainedModel:
    """The base model of a recipe, without a key-value cache. Raises LabError."""
    model = load_model(
        source,
        precision_of(recipe, values.compute_dtype, values.quantization),
        device=device.type,
        attention=values.attn_implementation,
        allow_large=recipe.allow_large,
    )
    model.config.use_cache = False
    return model
