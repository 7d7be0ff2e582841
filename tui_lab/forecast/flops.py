"""Floating-point operations of a recipe per trained token, from the model's shape alone.

N is the number of weights of the blocks' linear layers and the output layer, n that of the adapter's
matrices, A the operations of attention's matrix products in the forward pass. A forward pass takes 2N + 2n +
A (a multiplication and an addition per weight), the gradient of the inputs as much again, and that of the
weights as much again where they are trained: 6N + 3A for full tuning, 4N + 6n + 3A for an adapter. These are
the *model's* operations, which define MFU (model FLOPs utilisation); what is computed twice to save memory
(checkpointing, the tiled output layer) is added in the *hardware's* operations (HFU).

A counts the full square of positions, 4·q·K a layer (q = heads × head size, K = positions), as PaLM
(Chowdhery et al. 2022, appendix B), torch's counter and masked attention kernels do. Half of it is masked in
a causal model; ``causal`` counts only the other half. Embeddings, norms, activations, the optimiser (a dozen
operations per trained weight and step) and the dequantisation of 4-bit weights are left out. Tested against
torch's counter on real models of every architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tui_lab.models.shapes import Shape, linears
from tui_lab.models.target_modules import matching
from tui_lab.models.trainable import RecipeLike, trained_rank
from tui_lab.recipes.rules import VIRTUAL_TOKEN_METHODS


class CostedRecipe(RecipeLike, Protocol):
    """The keys of a recipe on which the operations depend."""

    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def kl_weight(self) -> float: ...
    @property
    def label_smoothing_factor(self) -> float: ...
    @property
    def reference_passes(self) -> int: ...


@dataclass(frozen=True)
class Operations:
    """FLOPs per trained token: of the ``model`` (for MFU), of the ``hardware`` (with recomputation), and of a
    ``forward`` pass alone (validation). N, n and A are those of ``formula``."""

    model: float
    hardware: float
    forward: float
    weights: int  # N
    adapter: int  # n
    attention: float  # A, FLOPs
    formula: str


def block_weights(shape: Shape) -> int:
    """The number of weights of the blocks' linear layers."""
    return sum(linear.in_features * linear.out_features * linear.count for linear in linears(shape))


def attention_flops(shape: Shape, keys: float, causal: bool = False) -> float:
    """FLOPs of attention's two products for one position that attends to ``keys`` positions, all layers."""
    square = 4.0 * shape.layers * shape.heads * shape.head_dim * keys
    return square / 2 if causal else square


def adapter_weights(shape: Shape, recipe: RecipeLike) -> int:
    """The number of adapter weights that are multiplied with every token. IA3's vectors and DoRA's
    magnitudes only scale, virtual tokens lengthen the rows, LoHa multiplies the whole ΔW, and OSF its trained
    directions and their start."""
    total = 0
    if recipe.method in ("lora", "adalora", "loha", "osf"):
        rank = recipe.init_r if recipe.method == "adalora" else recipe.adapter_rank
        for linear in matching(shape, recipe.target_modules):
            width, height = linear.in_features, linear.out_features
            if recipe.method == "osf":
                rank = 2 * trained_rank(linear, recipe.effective_rank)
            each = width * height if recipe.method == "loha" else rank * (width + height)
            total += each * linear.count
    return total


def operations(
    shape: Shape,
    recipe: CostedRecipe,
    length: float,
    *,
    head_share: float = 1.0,
    causal: bool = False,
    keys: float | None = None,
) -> Operations:
    """FLOPs per token in rows of ``length`` tokens (packed: of a document). ``head_share`` is the share of
    trained tokens: on CUDA logits are computed only for them. ``keys`` are the positions for which attention
    is computed on the hardware: with a mask all of a packed batch; None for ``length``."""
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
    hidden = attention_flops(shape, keys + virtual, causal) - attention if keys is not None else 0.0
    hardware += (1 + 2 * trained_part) * hidden * lengthened
    if recipe.gradient_checkpointing:
        hardware += trained_part * (through_blocks + hidden * lengthened)
    # the gradient of a second pass through the output layer: of its input, and of itself where it is trained
    back = 4 if head_trained else 2
    extra = []
    if recipe.kl_weight:
        # the base's forward, its output layer, and the tuned one's once more with its gradient
        model += 2 * blocks + attention + (2 + 2 + back) * head
        hardware += 2 * blocks + attention + (2 + 2 + back + 4) * head
        extra.append("the base's forward and both output layers for KL")
    if recipe.reference_passes:
        passes = recipe.reference_passes * (2 * blocks + attention + 2 * out)
        model, hardware = model + passes, hardware + passes
        extra.append("forward passes under the reference")
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
    """The formula as text, with the deviations from the plain one."""
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
