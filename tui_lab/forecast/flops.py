"""Floating-point operations that a recipe takes for each token it trains on, counted from the shape alone.

N is the weights of the blocks' linear layers and of the output layer, n those of the adapter's matrices, A
the attention's products in the forward pass. A forward pass is 2N + 2n + A (a multiplication and an addition
for each weight), the gradient of the inputs as much again, that of the weights as much again where they are
trained: 6N + 3A for full tuning, 4N + 6n + 3A below an adapter. These are the *model's* operations, which MFU
is made of; what is computed twice to save memory (checkpointing, the output layer in tiles) is counted apart,
as the *hardware's* (HFU).

A counts the full square of positions, 4·q·K a layer (q = heads × head size, K = positions): so do PaLM
(Chowdhery et al. 2022, appendix B) and torch's own counter, and so compute attention kernels with masks. Half
of it is masked in a causal model; ``causal`` counts only the other half. Embeddings, norms, activations,
the optimiser (a dozen operations a trained weight and step) and dequantising 4-bit weights are left out.
Tested against torch's counter on real models of every architecture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tui_lab.models.shapes import Shape, linears
from tui_lab.models.target_modules import matching
from tui_lab.models.trainable import RecipeLike
from tui_lab.recipes.rules import VIRTUAL_TOKEN_METHODS


class CostedRecipe(RecipeLike, Protocol):
    """The keys of a recipe that decide what a token costs."""

    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def kl_weight(self) -> float: ...
    @property
    def label_smoothing_factor(self) -> float: ...


@dataclass(frozen=True)
class Operations:
    """FLOPs a trained token. ``model`` is what MFU counts, ``hardware`` what is really computed, ``forward``
    a forward pass alone (validation). N, n and A are given as in ``formula``."""

    model: float
    hardware: float
    forward: float
    weights: int  # N
    adapter: int  # n
    attention: float  # A, FLOPs
    formula: str


def block_weights(shape: Shape) -> int:
    """Weights of the blocks' linear layers."""
    return sum(linear.in_features * linear.out_features * linear.count for linear in linears(shape))


def attention_flops(shape: Shape, keys: float, causal: bool = False) -> float:
    """Operations of attention's two products for one position that looks at ``keys`` positions."""
    square = 4.0 * shape.layers * shape.heads * shape.head_dim * keys
    return square / 2 if causal else square


def adapter_weights(shape: Shape, recipe: RecipeLike) -> int:
    """Weights of the adapter that take part in products with every token. IA3's vectors and DoRA's magnitudes
    scale; learned tokens lengthen rows instead; LoHa's ΔW is multiplied as a whole."""
    total = 0
    if recipe.method in ("lora", "adalora", "loha"):
        rank = recipe.init_r if recipe.method == "adalora" else recipe.lora_r
        for linear in matching(shape, recipe.target_modules):
            width, height = linear.in_features, linear.out_features
            each = width * height if recipe.method == "loha" else rank * (width + height)
            total += each * linear.count
    return total


def operations(
    shape: Shape, recipe: CostedRecipe, length: float, *, head_share: float = 1.0, causal: bool = False
) -> Operations:
    """What a token costs in rows of ``length`` tokens (packed sequences: theirs). ``head_share``: part of the
    tokens that are trained on, for which alone logits are computed on CUDA."""
    blocks, head = block_weights(shape), shape.vocabulary * shape.hidden
    trained_part = max(0, shape.layers - recipe.frozen_layers) / shape.layers
    adapter = adapter_weights(shape, recipe)
    virtual = recipe.num_virtual_tokens if recipe.method in VIRTUAL_TOKEN_METHODS else 0
    attention = attention_flops(shape, length + virtual, causal)
    # learned tokens are read as others are, but for prefixes, which are keys and values already
    lengthened = 1 + virtual / length if virtual and recipe.method != "prefix" else 1.0
    out = head * head_share

    full = recipe.method == "full"
    head_trained = full and not (recipe.frozen_layers and shape.tied)
    through_blocks = (2 * blocks + 2 * adapter + attention) * lengthened
    forward = through_blocks + 2 * out
    # gradients of inputs, down to the lowest block that is trained; of attention they are twice its forward
    backward = trained_part * (2 * blocks + 2 * adapter + 2 * attention) * lengthened + 2 * out
    backward += trained_part * 2 * (blocks if full else adapter)
    backward += 2 * out if head_trained else 0
    model = forward + backward
    hardware = model + 2 * out  # the output layer's tiles are computed again for their gradient
    if recipe.gradient_checkpointing:
        hardware += trained_part * through_blocks
    # the gradient of a second pass through the output layer: of its input, and of itself where it is trained
    back = 4 if head_trained else 2
    extra = []
    if recipe.kl_weight:
        # the base's forward, its output layer, and the tuned one's once more with its gradient
        model += 2 * blocks + attention + (2 + 2 + back) * head
        hardware += 2 * blocks + attention + (2 + 2 + back + 4) * head
        extra.append("the base's forward and both output layers for KL")
    if recipe.label_smoothing_factor:
        model += (2 + back) * out
        hardware += (2 + back + 2) * out
        extra.append("the output layer again for label smoothing")
    return Operations(
        model=model,
        hardware=hardware,
        forward=forward,
        weights=round(blocks + out),
        adapter=adapter,
        attention=attention,
        formula=_formula(recipe, full, adapter, trained_part, virtual, extra, causal),
    )


def _formula(
    recipe: CostedRecipe,
    full: bool,
    adapter: int,
    trained_part: float,
    virtual: int,
    extra: list[str],
    causal: bool,
) -> str:
    """The formula in words, with what differs from the plain one."""
    text = "6N + 3A" if full else "4N + 6n + 3A" if adapter else "4N + 3A"
    if recipe.method == "loha":
        text += " (n: the adapted layers' own weights)"
    if trained_part < 1:
        text += f", backward through {trained_part:.0%} of the blocks"
    if virtual:
        text += f", rows lengthened by {virtual} learned tokens"
    text += "".join(f" + {each}" for each in extra)
    if recipe.gradient_checkpointing:
        text += "; checkpointing's second forward is not counted as useful work"
    return text + ("; A causal half" if causal else "; A full square")
