"""The number of parameters that a recipe trains, from a model's shape."""

from __future__ import annotations

from typing import Protocol

from tui_lab.core.errors import LabError
from tui_lab.models.shapes import Linear, Shape, layer_linears, norm_parameters, parameter_count
from tui_lab.models.target_modules import matching


class RecipeLike(Protocol):
    """The recipe fields that decide how many parameters are trained."""

    @property
    def method(self) -> str: ...
    @property
    def lora_r(self) -> int: ...
    @property
    def adapter_rank(self) -> int: ...
    @property
    def use_dora(self) -> bool: ...
    @property
    def init_r(self) -> int: ...
    @property
    def num_virtual_tokens(self) -> int: ...
    @property
    def effective_rank(self) -> float: ...
    @property
    def target_modules(self) -> str: ...
    @property
    def frozen_layers(self) -> int: ...


def prefix_parameters(shape: Shape, tokens: int, *, projection: bool = False) -> int:
    """Prefix tuning: keys and values of ``tokens`` positions in each block, directly, or through peft's
    two-layer projection (its default hidden size)."""
    width = shape.kv_heads * shape.head_dim
    if not projection:
        return tokens * shape.layers * 2 * width
    return tokens * width + (width * width + width) + (width + 1) * shape.layers * 2 * width


def trained_rank(linear: Linear, effective_rank: float) -> int:
    """The number of singular directions of a matrix that OSF trains: those that ``effective_rank``, the share
    that is frozen, leaves (peft rounds the frozen ones down)."""
    smaller = min(linear.in_features, linear.out_features)
    return smaller - int(smaller * effective_rank)


def trainable_count(shape: Shape, recipe: RecipeLike) -> int:
    """The number of parameters that the recipe trains, equal to peft's own count without frozen layers.

    rsLoRA, PiSSA and OLoRA train as many as LoRA. LoHa takes its rank from ``lora_r``; p-tuning's encoder is
    peft's MLP with the model's hidden size; IA3 scales the inputs of the down projection and the outputs of
    every other target. Raises LabError for a method that does not fit the shape.
    """
    tokens, hidden, rank = recipe.num_virtual_tokens, shape.hidden, recipe.lora_r
    trained_layers = max(0, shape.layers - recipe.frozen_layers)
    match recipe.method:
        case "full" if recipe.frozen_layers:
            return _above(shape, recipe.frozen_layers)
        case "full":
            return parameter_count(shape)
        case "prefix":
            return prefix_parameters(shape, tokens)
        case "prompt_tuning":
            return tokens * hidden
        case "p_tuning":
            return tokens * hidden + 3 * (hidden * hidden + hidden)
    if recipe.method in ("loha", "osf") and shape.model_type == "gpt2":
        raise LabError(
            f"method = {recipe.method!r} cannot attach to the Conv1D layers of gpt2; use method = 'lora'"
        )
    total = 0
    for linear in matching(shape, recipe.target_modules):
        both = linear.in_features + linear.out_features
        match recipe.method:
            case "lora":
                each = rank * both + (linear.out_features if recipe.use_dora else 0)
            case "adalora":
                each = recipe.init_r * (both + 1)  # P, Q and the singular values
            case "loha":
                each = 2 * rank * both
            case "osf":
                each = trained_rank(linear, recipe.effective_rank) * (both + 1)  # U, V, singular values
            case "ia3":
                each = linear.in_features if linear.role == "down" else linear.out_features
            case _:
                raise LabError(f"method {recipe.method!r}: how many parameters it trains is not known here")
        total += each * linear.count * trained_layers // shape.layers
    return total


def _above(shape: Shape, frozen: int) -> int:
    """All parameters but the embeddings (a tied head is one of them) and the first ``frozen`` blocks."""
    block = sum(i * o + (o if bias else 0) for _, _, i, o, bias in layer_linears(shape))
    block += norm_parameters(shape)
    embeddings = shape.vocabulary * shape.hidden
    positions = shape.context * shape.hidden if shape.model_type == "gpt2" else 0
    return parameter_count(shape) - min(frozen, shape.layers) * block - embeddings - positions
