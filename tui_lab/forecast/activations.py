"""What a token keeps in memory while a model is trained: the table ``activations.toml`` and how it is read.

``python -m tests.benchmarks.activation_table`` made the table with the memory probe
(:mod:`tui_lab.training.memory_probe`), for every architecture, profile of training and compute dtype, with
and without gradient checkpointing. Each figure is bytes per token as a multiple of a size of the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.models.shapes import Linear, Shape, linears
from tui_lab.recipes.recipe import Recipe

_FILE = Path(__file__).with_name("activations.toml")

#: When the loss is reached, at the worst of the backward pass, and there with long rows and eager attention.
Moment = Literal["saved", "backward", "backward_long"]
Sizes = dict[str, float]


class ActivationEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes per token, in each layer and in the rest of the model, at each moment."""

    saved_layer: Sizes
    saved_rest: Sizes
    backward_layer: Sizes
    backward_rest: Sizes
    backward_long_layer: Sizes = {}
    backward_long_rest: Sizes = {}

    def sizes(self, moment: Moment, *, rest: bool) -> Sizes:
        """The figures of one moment, of a layer or of the rest."""
        if moment == "saved":
            return self.saved_rest if rest else self.saved_layer
        if moment == "backward":
            return self.backward_rest if rest else self.backward_layer
        return self.backward_long_rest if rest else self.backward_long_layer


#: architecture -> profile -> dtype -> "kept" or "checkpointed" -> entry
ActivationTable = dict[str, dict[str, dict[str, dict[str, ActivationEntry]]]]


@lru_cache(maxsize=1)
def table() -> ActivationTable:
    """The whole table, read and validated once."""
    return msgspec.toml.decode(_FILE.read_bytes(), type=ActivationTable)


def activation_profile(recipe: Recipe, targets: Sequence[Linear]) -> str:
    """The table's name for a way of training; ``targets`` are the layers with an adapter."""
    match recipe.method:
        case "full" | "adalora":
            return recipe.method
        case "ia3":
            return "ia3" if recipe.quantization == "none" else "ia3_nf4"
        case "lora" | "loha":
            if recipe.use_dora:
                return "dora"
            if not any(target.role in ("gate", "up", "gate_up", "down") for target in targets):
                return "lora_on_attention"
            return "lora" if recipe.lora_dropout else "lora_without_dropout"
        case "osf":
            return "lora_without_dropout"
    return "frozen"


def find(model_type: str, profile: str, value_bytes: int, checkpointed: bool) -> ActivationEntry:
    """The entry of an architecture; ``value_bytes`` are those of the compute dtype. Raises LabError."""
    dtype = "float32" if value_bytes == 4 else "bfloat16"
    try:
        return table()[model_type][profile][dtype]["checkpointed" if checkpointed else "kept"]
    except KeyError:
        raise LabError(
            f"architecture {model_type!r}: the memory of its layers is not known; run the memory probe"
        ) from None


def bytes_per_token(sizes: Sizes, shape: Shape, rank: int, length: int) -> float:
    """Bytes of a token, from the multiples in ``sizes``, for adapters of ``rank`` and rows of ``length``
    tokens."""
    units = {
        "hidden": shape.hidden,
        "inner": shape.intermediate,
        "query": shape.heads * shape.head_dim,
        "kv": shape.kv_heads * shape.head_dim,
        "heads": shape.heads,
        "length_by_heads": shape.heads * length,
        "length": 0,  # masks, which depend on the rows and are counted apart
        "rank": rank,
        "constant": 1,
    }
    return sum(units[name] * size for name, size in sizes.items())


def absent_adapter_bytes(shape: Shape, recipe: Recipe, targets: Sequence[Linear], value_bytes: int) -> float:
    """Bytes per token and layer that the LoRA profiles count for layers to which ``recipe`` attaches
    nothing."""
    profile = activation_profile(recipe, targets)
    if profile not in ("lora", "lora_without_dropout", "lora_on_attention"):
        return 0.0
    on_attention = profile == "lora_on_attention"
    adapted = {target.path for target in targets}
    dropout = on_attention or (recipe.lora_dropout and recipe.method != "osf")
    input_bytes = value_bytes + (1 if dropout else 0)
    return sum(
        input_bytes * linear.in_features
        for linear in linears(shape)
        if linear.path not in adapted and (not on_attention or linear.role in ("q", "k", "v", "qkv", "o"))
    )
