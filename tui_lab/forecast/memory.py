"""The memory of a recipe at its worst moment, in closed form over the model's shape: fast enough for every
keystroke, before anything is downloaded, without torch.

Weights, scales, adapter, gradients and optimiser states are counted exactly. What a token keeps in each
layer comes from ``activations.toml`` (:mod:`tui_lab.forecast.activations`). A training step has several
moments that can be the worst: reaching the loss, leaving it, the backward pass, the optimiser's step; the
forecast is the largest. All rows count as full (``max_length``) and as trained on at every token, so real
data takes less. The memory of the CUDA context and the fragmentation of the allocator are assumed, not
measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tui_lab.forecast import activations
from tui_lab.forecast.activations import Moment
from tui_lab.models import target_modules
from tui_lab.models.shapes import Linear, Shape, embedding_parameters, linears, parameter_count
from tui_lab.models.trainable import trainable_count, trained_rank
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import METHODS_WITH_TARGETS, ResolvedValues, unresolved
from tui_lab.recipes.rules import VIRTUAL_TOKEN_METHODS

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Values that share a scale in bitsandbytes' NF4, and scales that share one with double quantisation.
NF4_BLOCK, NESTED_BLOCK = 64, 256
#: trl's fused output layer and its KL divergence compute tiles of so many tokens × vocabulary entries.
TILE_TOKENS, TILE_ENTRIES = 4096, 32768
#: float32 copies of a tile's logits in the output layer and in the divergence without Triton, as the memory
#: probe counts them on a CPU.
CPU_TILE_COPIES, CPU_DIVERGENCE_COPIES = 7.25, 9.2
#: The window of sliding layers in tokens, and the share of layers that have one.
WINDOWS = {"gemma2": (4096, 1 / 2), "gemma3_text": (512, 5 / 6)}
#: Architectures with eager attention, which keeps the whole matrix of scores.
EAGER = ("gemma2",)
#: Bytes of optimiser states per trained parameter; 8-bit states have a float32 scale per 256 values.
OPTIMIZER_BYTES = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "paged_adamw_32bit": 8.0,
    "adamw_8bit": 2 * (1 + 4 / 256),
    "paged_adamw_8bit": 2 * (1 + 4 / 256),
    "adafactor": 0.05,
    "sgd": 0.0,
}  # fmt: skip
#: bitsandbytes keeps the states of smaller tensors in 32 bits.
SMALLEST_IN_8_BITS = 4096
#: CUDA context, cuBLAS workspace and kernels, in bytes: least, usual, most. Assumed.
CONTEXT_BYTES = (300 << 20, 500 << 20, 900 << 20)
#: The process on a CPU without its tensors: Python with torch, transformers, peft, trl and the data (measured
#: on Linux with the pocket model: 500 to 640 MiB).
PROCESS_BYTES = (400 << 20, 600 << 20, 900 << 20)
#: A tokenizer in memory, by token of the vocabulary (measured on Linux: the 262,144 tokens of Gemma 3 take
#: 317 MiB); that of the bundled model is in PROCESS_BYTES.
TOKENIZER_BYTES = 1_270
POCKET_VOCABULARY = 3_072
#: The share of temporary memory that the caching allocator cannot reuse. Assumed.
FRAGMENTATION = (0.0, 0.04, 0.12)
#: The probed peak lies between these multiples of the formula in all 227 rows of the committed table that
#: were probed as runs compute now (0.917 to 1.072, rounded outwards); 222 of them are within 4 %.
#: tests/forecast/test_memory.py checks it.
PROBED_RANGE = (0.91, 1.08)

LABELS = {
    "weights": "weights",
    "adapter": "adapter",
    "gradients": "gradients",
    "optimizer": "optimiser states",
    "protections": "against forgetting",
    "activations": "activations",
    "logits": "logits",
    "kv_cache": "KV cache",
    "context": "CUDA context",
    "fragmentation": "fragmentation",
}


@dataclass(frozen=True)
class MemoryPart:
    """One summand, in bytes."""

    name: str
    label: str
    bytes: int


@dataclass(frozen=True)
class MemoryForecast:
    """``parts`` add up to ``total_bytes`` at the worst ``moment``; the true peak is expected between low and
    high."""

    parts: tuple[MemoryPart, ...]
    total_bytes: int
    low_bytes: int
    high_bytes: int
    device: str
    moment: str = ""

    @property
    def tensors_bytes(self) -> int:
        """Bytes of tensors at the worst moment, as the memory probe and ``max_memory_allocated`` count
        them."""
        return sum(part.bytes for part in self.parts if part.name not in ("context", "fragmentation"))

    def part(self, name: str) -> int:
        """Bytes of one part, 0 where it is absent."""
        return next((part.bytes for part in self.parts if part.name == name), 0)


def forecast(
    shape: Shape, recipe: Recipe, resolved: ResolvedValues | None = None, device: str = "cuda"
) -> MemoryForecast:
    """The peak memory of a run of ``recipe`` on a model of ``shape``, on a GPU ("cuda") or on the CPU
    ("cpu").

    ``resolved`` are the values of :func:`tui_lab.recipes.resolve.resolve`; without them the recipe's own are
    used. Raises LabError for an architecture without an entry in ``activations.toml``.
    """
    step = training_step(shape, recipe, resolved or unresolved(recipe), device)
    moments = peak_candidates(step)
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    return _forecast({**constant_bytes(step), **moments[moment]}, shape.vocabulary, device, moment)


def playground_forecast(
    shape: Shape, *, quantization: str, dtype: str, rows: int, tokens: int, device: str = "cuda"
) -> MemoryForecast:
    """The memory of the playground: weights, and keys and values of ``rows`` lanes of ``tokens`` tokens
    each."""
    size = DTYPE_BYTES.get(dtype, 4)
    width = 2 * shape.kv_heads * shape.head_dim * shape.layers
    parts = {
        "weights": weights_bytes(shape, quantization, True, size),
        "kv_cache": rows * tokens * width * size,
        "logits": rows * shape.vocabulary * (size + 3 * 4),  # computed, then float32, sorted, probabilities
    }
    return _forecast(parts, shape.vocabulary, device, "decoding")


def process_bytes(vocabulary: int) -> tuple[int, int, int]:
    """The process on a CPU without its tensors, for a tokenizer of this vocabulary: least, usual, most."""
    tokenizer = TOKENIZER_BYTES * max(0, vocabulary - POCKET_VOCABULARY)
    least, usual, most = PROCESS_BYTES
    return least + tokenizer, usual + tokenizer, most + tokenizer


def _forecast(parts: Mapping[str, float], vocabulary: int, device: str, moment: str) -> MemoryForecast:
    peak = sum(parts.values())
    temporary = parts.get("activations", 0) + parts.get("logits", 0)
    context, fragmentation = (
        (CONTEXT_BYTES, FRAGMENTATION) if device == "cuda" else (process_bytes(vocabulary), (0.0, 0.0, 0.0))
    )
    with_context = {**parts, "context": context[1], "fragmentation": temporary * fragmentation[1]}
    labels = LABELS if device == "cuda" else {**LABELS, "context": "Python and libraries"}
    found = tuple(
        MemoryPart(name, label, round(with_context[name]))
        for name, label in labels.items()
        if with_context.get(name, 0) >= 1
    )
    return MemoryForecast(
        parts=found,
        total_bytes=sum(part.bytes for part in found),
        low_bytes=round(peak * PROBED_RANGE[0] + context[0]),
        high_bytes=round(peak * PROBED_RANGE[1] + context[2] + temporary * fragmentation[2]),
        device=device,
        moment=moment,
    )


# --------------------------------------------------------------------------------------------------
# during the whole step


def weights_bytes(shape: Shape, quantization: str, double: bool, size: int, plain: float = 0.0) -> int:
    """Bytes of a model's weights: the linear layers of the blocks with their scales, as ``quantization``
    stores them (``double``: the scales of NF4 are quantised too), all else (embeddings, output layer, norms,
    biases) in ``size`` bytes each, as a share of at most ``plain`` of these layers' weights."""
    if quantization == "none":
        return parameter_count(shape) * size
    total = 0.0
    quantised = 0
    for linear in linears(shape):
        values = linear.in_features * linear.out_features
        total += linear.count * _rounded_bytes(values, linear.out_features, quantization, double)
        quantised += linear.count * values
    total = total * (1 - plain) + plain * quantised * size
    return round(total) + (parameter_count(shape) - quantised) * size


def _rounded_bytes(values: int, outputs: int, quantization: str, double: bool) -> float:
    """Bytes of one rounded matrix with its scales."""
    if quantization in ("int8", "fp8"):
        return values + 4 * outputs
    blocks = -(-values // NF4_BLOCK)
    scales = blocks + 4 * -(-blocks // NESTED_BLOCK) + 1024 if double else 4 * blocks
    return values / 2 + scales


@dataclass(frozen=True)
class StepShape:
    """One training step: what the formula needs of a recipe on a model and a device."""

    shape: Shape
    recipe: Recipe
    device: str
    value_bytes: int  # of the type that is computed in
    optim: str
    rows: int  # 1 for packed rows: documents attend to their own, but the row has one square mask
    length: int  # tokens a row, virtual tokens included
    tokens: int  # of a micro-batch
    trained: int  # parameters
    targets: tuple[Linear, ...]  # layers with an adapter
    quantization: str = "none"
    row_mask: bool = True  # whether padded or packed rows have a mask

    @property
    def full(self) -> bool:
        return self.recipe.method == "full"

    @property
    def masked(self) -> bool:
        """Whether attention gets a mask: for padded or packed rows."""
        return self.row_mask and (self.recipe.packing or self.rows > 1)


def training_step(shape: Shape, recipe: Recipe, values: ResolvedValues, device: str) -> StepShape:
    """The step of ``recipe`` with its resolved ``values``."""
    dtype = values.compute_dtype
    if dtype not in DTYPE_BYTES:
        dtype = "bfloat16" if device == "cuda" else "float32"
    rows, length = recipe.per_device_train_batch_size * recipe.sequences_per_row, values.max_length
    virtual = recipe.num_virtual_tokens if recipe.method in VIRTUAL_TOKEN_METHODS else 0
    has_targets = recipe.method in METHODS_WITH_TARGETS
    return StepShape(
        shape=shape,
        recipe=recipe,
        device=device,
        value_bytes=DTYPE_BYTES[dtype],
        optim=values.optim,
        rows=1 if recipe.packing else rows,
        length=rows * length if recipe.packing else length + virtual,
        tokens=rows * (length + virtual),
        # a frozen part of an adapter has gradients and states as the rest
        trained=trainable_count(shape, recipe) * recipe.adapter_rank // recipe.lora_r,
        targets=tuple(target_modules.matching(shape, recipe.target_modules)) if has_targets else (),
        quantization=values.quantization or recipe.quantization,
        row_mask=values.packed_attention != "varlen" if recipe.packing else values.row_mask,
    )


def constant_bytes(step: StepShape) -> dict[str, float]:
    """Bytes by part that stay allocated during the whole step."""
    recipe = step.recipe
    weight_bytes = 4 if step.full else step.value_bytes
    budget = recipe.unquantized_budget / 100 if step.quantization == "nf4" else 0.0
    double = recipe.double_quantization
    weights = weights_bytes(step.shape, step.quantization, double, weight_bytes, budget)
    return {
        "weights": weights,
        "adapter": 0 if step.full else 4 * step.trained + _osf_start_bytes(step),
        "optimizer": _optimizer_state_bytes(step),
        "protections": _protection_bytes(step),
    }


def _osf_start_bytes(step: StepShape) -> float:
    """Bytes of what peft's OSF keeps beside the trained directions: where they started, and of matrices that
    are not square the frozen directions of the longer side, for the projection of gradients."""
    if step.recipe.method != "osf":
        return 0.0
    frozen = sum(
        (min(sides) - trained_rank(target, step.recipe.effective_rank)) * max(sides) * target.count
        for target in step.targets
        if len(set(sides := (target.in_features, target.out_features))) == 2
    )
    return 4.0 * (step.trained + frozen)


def _optimizer_state_bytes(step: StepShape) -> float:
    states = OPTIMIZER_BYTES.get(step.optim, 8.0) * step.trained
    if not step.optim.endswith("8bit"):
        return states
    extra_of_32_bits = OPTIMIZER_BYTES["adamw_torch"] - OPTIMIZER_BYTES["adamw_8bit"]
    if step.recipe.method == "lora":
        matrices = [
            (side * step.recipe.adapter_rank, target.count)
            for target in step.targets
            for side in (target.in_features, target.out_features)
        ]
        states += extra_of_32_bits * sum(
            size * count for size, count in matrices if size < SMALLEST_IN_8_BITS
        )
    if step.full and not step.recipe.frozen_layers:
        # transformers keeps the states of embeddings in 32 bits
        states += extra_of_32_bits * step.shape.vocabulary * step.shape.hidden
    return states


def _protection_bytes(step: StepShape) -> float:
    """Copies of weights for KL to the base, L2 to the start and EWC."""
    recipe, total = step.recipe, 0.0
    if recipe.needs_frozen_copy:
        total += parameter_count(step.shape) * step.value_bytes
    if step.full and (recipe.l2_to_start or recipe.ewc_lambda):
        total += 4 * step.trained
    if recipe.ewc_lambda:
        adapted = sum(t.in_features * t.out_features * t.count for t in step.targets)
        total += 4 * (step.trained if step.full else adapted)
    return total


# --------------------------------------------------------------------------------------------------
# during one moment of the step


def peak_candidates(step: StepShape) -> dict[str, dict[str, float]]:
    """Bytes by part at each moment that can be the worst, without :func:`constant_bytes`."""
    shape, recipe = step.shape, step.recipe
    checkpointed = recipe.gradient_checkpointing
    layers_kept = 1 if checkpointed else shape.layers
    gradients = 4.0 * step.trained
    accumulated = gradients if recipe.gradient_accumulation_steps > 1 else 0.0
    embeddings = 4.0 * shape.vocabulary * shape.hidden
    head_gradient = embeddings if step.full and (not recipe.frozen_layers or not shape.tied) else 0.0
    casts = _autocast_copies(step)
    logits, divergence = _output_tiles(step)
    dora_changes, dora_unit = _dora_matrices(step)
    osf_factors, osf_gradients = _osf_matrices(step)
    made_in_block, unit = dora_changes + osf_factors, dora_unit + osf_gradients
    saved = _activation_bytes(step, "saved") + _mask_bytes(step, 0 if checkpointed else shape.layers)
    backward = _activation_bytes(step, "backward") + _mask_bytes(step, layers_kept)
    if shape.model_type in EAGER and checkpointed:
        backward = max(backward, _activation_bytes(step, "backward_long") + _mask_bytes(step, 1))
    backward += casts if not checkpointed else casts / shape.layers
    saved += 0 if checkpointed else shape.layers * made_in_block
    backward += unit + made_in_block * layers_kept
    leaving = saved + 4.0 * step.tokens * shape.hidden + (casts if not checkpointed else 0)
    if step.full and (recipe.l2_to_start or recipe.ewc_lambda):
        leaving += 4.0 * step.trained + embeddings  # the change of every weight, and its square
    foreach_copy = 4.0 * step.trained if step.device == "cuda" and step.optim == "adamw_torch" else 0.0
    found = {
        "reaching the loss": {"activations": saved + casts, "logits": logits, "gradients": accumulated},
        "leaving the loss": {
            "activations": leaving, "logits": logits + head_gradient, "gradients": accumulated,
        },
        "backward pass": {
            "activations": max(backward, saved if not checkpointed else 0),
            "gradients": max(accumulated, head_gradient),
        },
        "optimiser": {"activations": foreach_copy, "gradients": gradients},
    }  # fmt: skip
    if step.full:
        last_layer = step.tokens * _bytes_per_token(step, "backward", rest=True) + _mask_bytes(step, 1)
        found["end of the layers"] = {
            "activations": last_layer + (embeddings if shape.tied else 0),
            "gradients": gradients,
        }
        # the gradient of tied weights comes from both ends and is added up in a third tensor
        copies = 1 if not shape.tied else 3 if accumulated else 2
        found["embeddings"] = {"activations": copies * embeddings, "gradients": gradients}
    if recipe.kl_weight or recipe.label_smoothing_factor:
        base_states = step.tokens * shape.hidden * step.value_bytes if recipe.kl_weight else 0
        found["distance from another distribution"] = {
            "activations": leaving + base_states,
            "logits": divergence + 2 * head_gradient,
            "gradients": accumulated,
        }
    return found


def _autocast_copies(step: StepShape) -> float:
    """Bytes of the copies of trained float32 weights in the compute dtype, which autocast caches."""
    if step.value_bytes == 4:
        return 0.0
    if not step.full:
        return float(step.value_bytes * step.trained) if step.targets else 0.0
    return float(step.value_bytes * (parameter_count(step.shape) - embedding_parameters(step.shape)))


def _dora_matrices(step: StepShape) -> tuple[float, float]:
    """Bytes of a block's low-rank changes as full matrices, and of the widest unit matrix.

    DoRA's norms need the full matrix, which peft computes from a unit matrix as wide as the layer's input.
    """
    if not (step.recipe.method == "lora" and step.recipe.use_dora):
        return 0.0, 0.0
    entries = sum(target.in_features * target.out_features for target in step.targets)
    widest = max((target.in_features for target in step.targets), default=0)
    cast = step.value_bytes if step.value_bytes < 4 else 0
    return float(step.value_bytes * entries), float(widest**2 * (4 + cast))


#: Linear layers by the name of the input that they share; the output layer of attention reads what attention
#: keeps anyway.
_INPUT_OF = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}


def _osf_matrices(step: StepShape) -> tuple[float, float]:
    """Bytes of the factors (trained directions beside their start) that a block's products keep, with the
    inputs that each of them casts for itself, and of the gradients of the largest pair."""
    if step.recipe.method != "osf":
        return 0.0, 0.0
    entries = [
        2 * trained_rank(target, step.recipe.effective_rank) * (target.in_features + target.out_features)
        for target in step.targets
    ]
    own = 0
    if step.value_bytes < 4:
        inputs = {
            _INPUT_OF.get(target.role, target.role): target.in_features
            for target in step.targets
            if target.role != "o"
        }
        own = sum(target.in_features for target in step.targets) - sum(inputs.values())
    return float(step.value_bytes * (sum(entries) + own * step.tokens)), 4.0 * max(entries, default=0)


def _mask_bytes(step: StepShape, layers: float) -> float:
    """Bytes of the masks of padded rows, packed documents and sliding windows.

    A mask has a byte per pair of positions and is shared by all layers; each of ``layers`` that keep their
    attention inputs has it once more as numbers, and its keys and values repeated for every head.
    """
    shape, size = step.shape, step.value_bytes
    window, sliding_share = WINDOWS.get(shape.model_type, (0, 0.0))
    slides = bool(window) and step.length >= window and not (step.recipe.packing and not step.row_mask)
    if shape.model_type in EAGER:
        return float((2 if slides else 1) * size * step.rows * step.length**2)
    if not (step.masked or slides):
        return 0.0
    pairs = step.rows * step.length**2
    kinds = int(step.masked) + int(bool(window) and (slides or step.masked))
    # a single head of keys is broadcast as a view, several are copied
    repeated_heads = shape.heads - shape.kv_heads if shape.kv_heads > 1 else 0
    repeated = 2 * size * repeated_heads * shape.head_dim * step.tokens
    share = 1.0 if step.masked else sliding_share
    return kinds * pairs + max(share * layers, min(layers, 1)) * (size * pairs + repeated)


def _output_tiles(step: StepShape) -> tuple[float, float]:
    """Bytes of the output layer's tiles of logits, and of those of a divergence."""
    vocabulary, size = step.shape.vocabulary, step.value_bytes
    rows, entries = min(step.tokens, TILE_TOKENS), min(vocabulary, TILE_ENTRIES)
    tile = float(rows * TILE_ENTRIES)
    # float32 weights are cast tile by tile
    cast = float(entries * step.shape.hidden * size) if step.full and size < 4 else 0.0
    if step.device == "cuda":
        last_two = entries + min(max(0, vocabulary - entries), TILE_ENTRIES)
        return tile * size + cast, tile * (4 + 4) + rows * last_two * size + cast
    copy = 4.0 * rows * entries
    return tile * size + CPU_TILE_COPIES * copy + cast, 2 * tile * 4 + CPU_DIVERGENCE_COPIES * copy + cast


# --------------------------------------------------------------------------------------------------
# activations, from the table


def _activation_bytes(step: StepShape, moment: Moment) -> float:
    """Bytes that the tokens of a micro-batch keep at ``moment``, in and beside the layers."""
    layer = _bytes_per_token(step, moment, rest=False)
    return step.tokens * (step.shape.layers * layer + _bytes_per_token(step, moment, rest=True))


def _bytes_per_token(step: StepShape, moment: Moment, *, rest: bool) -> float:
    """Bytes of a token in each layer, or, with ``rest``, in all the rest of the model."""
    shape, recipe, checkpointed = step.shape, step.recipe, step.recipe.gradient_checkpointing
    profile = activations.activation_profile(recipe, step.targets)
    entry = activations.find(shape.model_type, profile, step.value_bytes, checkpointed)
    rank = recipe.init_r if recipe.method == "adalora" else recipe.adapter_rank
    if recipe.method == "osf":
        rank = _osf_rank(step)
    found = activations.bytes_per_token(entry.sizes(moment, rest=rest), shape, rank, step.length)
    # a layer's adapters are in the layer while it is kept, in the rest while it is computed again
    has_adapters = (rest and moment != "saved") if checkpointed else (not rest and moment == "saved")
    if has_adapters:
        found -= activations.absent_adapter_bytes(shape, recipe, step.targets, step.value_bytes)
    return found


def _osf_rank(step: StepShape) -> int:
    """The mean rank of OSF's products over all linear layers."""
    total = sum(2 * trained_rank(each, step.recipe.effective_rank) * each.count for each in step.targets)
    return round(total / sum(each.count for each in linears(step.shape)))
