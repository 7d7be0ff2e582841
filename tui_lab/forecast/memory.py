"""How much memory a recipe will take at its worst moment, before anything is downloaded or loaded: a closed
formula over the model's shape, instant enough for every keystroke, no torch.

What is kept is counted exactly (weights, scales, adapter, gradients, the optimiser's states). What a token
leaves behind in each layer comes from ``activations.toml``, which the memory probe
(:mod:`tui_lab.training.memory_probe`) wrote for every architecture and way of training. A step has four
moments that can be the worst: reaching the loss, leaving it, the backward pass, the optimiser's step; the
forecast is the largest. Rows count as full (``max_length``) and as trained on at every token, so that real
data takes less, never more. CUDA's context and the allocator's fragmentation are assumed, not measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tui_lab.core.errors import LabError
from tui_lab.models import target_modules
from tui_lab.models.shapes import Linear, Shape, embedding_parameters, linears, parameter_count
from tui_lab.models.trainable import trainable_count
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.rules import VIRTUAL_TOKEN_METHODS

_FILE = Path(__file__).with_name("activations.toml")

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Values that share a scale in bitsandbytes' NF4, and scales that share one with double quantisation.
NF4_BLOCK, NESTED_BLOCK = 64, 256
#: trl's fused output layer and its divergence work on tiles of so many tokens and entries of the vocabulary.
TILE_TOKENS, TILE_ENTRIES = 4096, 32768
#: Copies of a tile's logits that the output layer and the divergence make without Triton, in float32: as the
#: probe counts them for the CPU.
CPU_TILE_COPIES, CPU_DIVERGENCE_COPIES = 7.25, 9.2
#: Tokens that sliding layers look back at, and the part of layers that slide.
WINDOWS = {"gemma2": (4096, 1 / 2), "gemma3_text": (512, 5 / 6)}
#: Their attention is computed with its scores in full.
EAGER = ("gemma2",)
#: Bytes a trained parameter of the optimiser's states; 8-bit ones share a float32 scale each 256 values.
OPTIMIZER_BYTES = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "paged_adamw_32bit": 8.0,
    "adamw_8bit": 2 * (1 + 4 / 256),
    "paged_adamw_8bit": 2 * (1 + 4 / 256),
    "adafactor": 0.05,
    "sgd": 0.0,
}  # fmt: skip
#: bitsandbytes keeps the states of tensors with fewer entries than this in 32 bits.
SMALLEST_IN_8_BITS = 4096
#: What CUDA's context, cuBLAS' workspace and the kernels take on a card, bytes: least, usual, most. Assumed.
CONTEXT_BYTES = (300 << 20, 500 << 20, 900 << 20)
#: What a run's process takes on the CPU beside its tensors: Python with torch, transformers, peft, trl and
#: its data (measured on Linux with the bundled model: 500 to 640 MiB).
PROCESS_BYTES = (400 << 20, 600 << 20, 900 << 20)
#: Part of what a step takes and gives back that the caching allocator cannot use again. Assumed.
FRAGMENTATION = (0.0, 0.04, 0.12)
#: The formula's own error against the probe, as a part of the peak.
FORMULA_ERROR = 0.04

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
class Part:
    """One part of the sum, in bytes."""

    name: str
    label: str
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """``parts`` sum up to ``total_bytes`` at the worst ``moment``; the truth lies between low and high."""

    parts: tuple[Part, ...]
    total_bytes: int
    low_bytes: int
    high_bytes: int
    device: str
    moment: str = ""
    notes: tuple[str, ...] = ()

    @property
    def tensors_bytes(self) -> int:
        """What tensors take at the worst moment: what the probe counts and ``max_memory_allocated`` says."""
        return sum(part.bytes for part in self.parts if part.name not in ("context", "fragmentation"))

    def part(self, name: str) -> int:
        """Bytes of one part; 0 when there is none."""
        return next((part.bytes for part in self.parts if part.name == name), 0)


def forecast(
    shape: Shape, recipe: Recipe, resolved: Mapping[str, Any] | None = None, device: str = "cuda"
) -> Forecast:
    """The memory of a run of ``recipe`` on a model of ``shape``, on a card (``cuda``) or the CPU.

    ``resolved``: :func:`tui_lab.recipes.resolve.resolve`'s values; without them the recipe's own are taken.
    Raises LabError for an architecture whose layers are not known here.
    """
    step = _Step(shape, recipe, resolved or {}, device)
    moments = step.moments()
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    return _forecast({**step.held(), **moments[moment]}, device, moment, step.notes)


def playground(
    shape: Shape, *, quantization: str, dtype: str, rows: int, tokens: int, device: str = "cuda"
) -> Forecast:
    """What the Compare pane takes: the weights and the keys and values of ``rows`` lanes of ``tokens``."""
    size = DTYPE_BYTES.get(dtype, 4)
    width = 2 * shape.kv_heads * shape.head_dim * shape.layers
    parts = {
        "weights": weights_bytes(shape, quantization == "nf4", True, size),
        "kv_cache": rows * tokens * width * size,
        "logits": rows * shape.vocabulary * (size + 3 * 4),  # as computed, then in float32, sorted, as shares
    }
    return _forecast(parts, device, "decoding", ())


def _forecast(parts: Mapping[str, float], device: str, moment: str, notes: tuple[str, ...]) -> Forecast:
    peak = sum(parts.values())
    passing = parts.get("activations", 0) + parts.get("logits", 0)
    context, lost = (CONTEXT_BYTES, FRAGMENTATION) if device == "cuda" else (PROCESS_BYTES, (0.0, 0.0, 0.0))
    whole = {**parts, "context": context[1], "fragmentation": passing * lost[1]}
    labels = LABELS if device == "cuda" else {**LABELS, "context": "Python and libraries"}
    found = tuple(
        Part(name, label, round(whole[name])) for name, label in labels.items() if whole.get(name, 0) >= 1
    )
    return Forecast(
        parts=found,
        total_bytes=sum(part.bytes for part in found),
        low_bytes=round(peak * (1 - FORMULA_ERROR) + context[0]),
        high_bytes=round(peak * (1 + FORMULA_ERROR) + context[2] + passing * lost[2]),
        device=device,
        moment=moment,
        notes=notes,
    )


# --------------------------------------------------------------------------------------------------
# what is held


def weights_bytes(shape: Shape, nf4: bool, double: bool, size: int) -> int:
    """Bytes of a model's weights: the blocks' linear layers in NF4 with their scales where asked, the rest
    (embeddings, output layer, norms, biases) in ``size`` bytes each."""
    if not nf4:
        return parameter_count(shape) * size
    total = 0.0
    quantised = 0
    for linear in linears(shape):
        values = linear.in_features * linear.out_features
        blocks = -(-values // NF4_BLOCK)
        scales = blocks + 4 * -(-blocks // NESTED_BLOCK) + 1024 if double else 4 * blocks
        total += linear.count * (values / 2 + scales)
        quantised += linear.count * values
    return round(total) + (parameter_count(shape) - quantised) * size


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


class _Step:
    """One training step in bytes."""

    def __init__(self, shape: Shape, recipe: Recipe, values: Mapping[str, Any], device: str) -> None:
        self.shape, self.recipe, self.device = shape, recipe, device
        self.dtype = str(values.get("compute_dtype") or recipe.compute_dtype)
        if self.dtype not in DTYPE_BYTES:
            self.dtype = "bfloat16" if device == "cuda" else "float32"
        self.size = DTYPE_BYTES[self.dtype]
        self.full = recipe.method == "full"
        rows, length = recipe.per_device_train_batch_size, int(values.get("max_length") or recipe.max_length)
        virtual = recipe.num_virtual_tokens if recipe.method in VIRTUAL_TOKEN_METHODS else 0
        self.tokens = rows * (length + virtual)
        #: Documents of a packed row attend to their own: the row is one, its mask square.
        self.length = rows * length if recipe.packing else length + virtual
        self.rows = 1 if recipe.packing else rows
        self.masked = recipe.packing or rows > 1
        self.optim = str(values.get("optim") or recipe.optim)
        self.trained = trainable_count(shape, recipe)
        self.targets: list[Linear] = []
        if recipe.method in ("lora", "adalora", "loha", "ia3"):
            self.targets = target_modules.matching(shape, recipe.target_modules)
        self.notes: tuple[str, ...] = ()

    # ------------------------------------------------------------------ held all the time

    def held(self) -> dict[str, float]:
        recipe = self.recipe
        weights = weights_bytes(
            self.shape,
            recipe.quantization == "nf4",
            recipe.double_quantization,
            4 if self.full else self.size,
        )
        states = OPTIMIZER_BYTES.get(self.optim, 8.0) * self.trained
        if self.optim.endswith("8bit") and recipe.method == "lora":
            sides = [
                (side * recipe.lora_r, t.count)
                for t in self.targets
                for side in (t.in_features, t.out_features)
            ]
            small = sum(entries * count for entries, count in sides if entries < SMALLEST_IN_8_BITS)
            states += (OPTIMIZER_BYTES["adamw_torch"] - OPTIMIZER_BYTES["adamw_8bit"]) * small
        if self.full and self.optim.endswith("8bit") and not recipe.frozen_layers:
            # transformers keeps the states of embeddings in 32 bits, whatever the optimiser
            words = self.shape.vocabulary * self.shape.hidden
            states += (OPTIMIZER_BYTES["adamw_torch"] - OPTIMIZER_BYTES["adamw_8bit"]) * words
        return {
            "weights": weights,
            "adapter": 0 if self.full else 4 * self.trained,
            "optimizer": states,
            "protections": self._protections(),
        }

    def _protections(self) -> float:
        recipe, shape = self.recipe, self.shape
        copies = 0.0
        if recipe.kl_weight and self.full:
            copies += parameter_count(shape) * self.size
        if self.full and (recipe.l2_to_start or recipe.ewc_lambda):
            copies += 4 * self.trained
        if recipe.ewc_lambda:
            below = sum(t.in_features * t.out_features * t.count for t in self.targets)
            copies += 4 * (self.trained if self.full else below)
        return copies

    # ------------------------------------------------------------------ what comes and goes

    def moments(self) -> dict[str, dict[str, float]]:
        """What each moment that can be the worst holds beside :meth:`held`."""
        shape, recipe, tokens = self.shape, self.recipe, self.tokens
        checkpointed = recipe.gradient_checkpointing
        gradients = 4.0 * self.trained
        earlier = gradients if recipe.gradient_accumulation_steps > 1 else 0.0
        words = 4.0 * shape.vocabulary * shape.hidden
        head = words if self._head_is_trained() else 0.0
        casts = self._casts()
        logits, divergence = self._logits()
        saved = self._tokens_at("saved", checkpointed) + self._mask(0 if checkpointed else shape.layers)
        backward = self._tokens_at("backward", checkpointed) + self._mask(1 if checkpointed else shape.layers)
        if shape.model_type in EAGER and checkpointed:
            long = self._tokens_at("backward_long", checkpointed) + self._mask(1)
            backward = max(backward, long)
        backward += casts if not checkpointed else casts / shape.layers
        changes, unit = self._magnitudes()
        saved += 0 if checkpointed else shape.layers * changes
        backward += unit + changes * (1 if checkpointed else shape.layers)
        leaving = saved + 4.0 * tokens * shape.hidden + (casts if not checkpointed else 0)
        if self.full and (recipe.l2_to_start or recipe.ewc_lambda):
            leaving += 4.0 * self.trained + words  # the change of every weight, and its square
        found = {
            "reaching the loss": {"activations": saved + casts, "logits": logits, "gradients": earlier},
            "leaving the loss": {"activations": leaving, "logits": logits + head, "gradients": earlier},
            "backward pass": {
                "activations": max(backward, saved if not checkpointed else 0),
                "gradients": max(earlier, head),
            },
            "optimiser": {"activations": self._optimizer_work(), "gradients": gradients},
        }
        if self.full:
            last = self._rest_at("backward", checkpointed) + self._mask(1)
            found["end of the layers"] = {
                "activations": last + (words if shape.tied else 0),
                "gradients": gradients,
            }
            # the gradient of tied weights comes from both ends and is summed up into a third
            words *= 1 if not shape.tied else 3 if earlier else 2
            found["embeddings"] = {"activations": words, "gradients": gradients}
        if recipe.kl_weight or recipe.label_smoothing_factor:
            base = tokens * shape.hidden * self.size if recipe.kl_weight else 0
            found["distance from another distribution"] = {
                "activations": leaving + base, "logits": divergence + 2 * head, "gradients": earlier,
            }  # fmt: skip
        return found

    def _head_is_trained(self) -> bool:
        return self.full and (not self.recipe.frozen_layers or not self.shape.tied)

    def _casts(self) -> float:
        """Copies of trained float32 weights in the type that is computed in, which autocast keeps."""
        if self.size == 4:
            return 0.0
        if not self.full:
            return float(self.size * self.trained) if self.targets else 0.0
        blocks = parameter_count(self.shape) - embedding_parameters(self.shape)
        return float(self.size * blocks)

    def _magnitudes(self) -> tuple[float, float]:
        """DoRA's norms need each layer's low-rank change as a full matrix, which peft makes out of a unit
        matrix as wide as what goes in: bytes of the changes of a block, and of the widest unit matrix."""
        if not (self.recipe.method == "lora" and self.recipe.use_dora):
            return 0.0, 0.0
        entries = sum(target.in_features * target.out_features for target in self.targets)
        widest = max((target.in_features for target in self.targets), default=0)
        return float(self.size * entries), float(widest**2 * (4 + (self.size if self.size < 4 else 0)))

    def _mask(self, layers: float) -> float:
        """Masks of padded rows, packed documents and sliding windows: a byte for each pair of positions, for
        all layers at once; each of ``layers`` that keep what they attended with has it as numbers once more,
        and its keys and values repeated for every head."""
        shape = self.shape
        window, sliding = WINDOWS.get(shape.model_type, (0, 0.0))
        slides = bool(window) and self.length >= window
        if shape.model_type in EAGER:
            return float((2 if slides else 1) * self.size * self.rows * self.length**2)
        if not (self.masked or slides):
            return 0.0
        pairs = self.rows * self.length**2
        kinds = int(self.masked) + int(bool(window) and (slides or self.masked))
        # one head of keys is seen by all through a view, more are copied
        repeated = shape.heads - shape.kv_heads if shape.kv_heads > 1 else 0
        widened = 2 * self.size * repeated * shape.head_dim * self.tokens
        part = 1.0 if self.masked else sliding
        return kinds * pairs + max(part * layers, min(layers, 1)) * (self.size * pairs + widened)

    def _logits(self) -> tuple[float, float]:
        """Bytes of the output layer's tiles, and of those of a divergence."""
        rows = min(self.tokens, TILE_TOKENS)
        entries = min(self.shape.vocabulary, TILE_ENTRIES)
        tile = float(rows * TILE_ENTRIES)
        # float32 weights are cast tile by tile
        cast = float(entries * self.shape.hidden * self.size) if self.full and self.size < 4 else 0.0
        if self.device == "cuda":
            gradients = entries + min(max(0, self.shape.vocabulary - entries), TILE_ENTRIES)  # the last two
            return tile * self.size + cast, tile * (4 + 4) + rows * gradients * self.size + cast
        copy = 4.0 * rows * entries
        return (
            tile * self.size + CPU_TILE_COPIES * copy + cast,
            2 * tile * 4 + CPU_DIVERGENCE_COPIES * copy + cast,
        )

    def _optimizer_work(self) -> float:
        """AdamW over lists of tensors on CUDA works on a copy of them (torch's `foreach`)."""
        many = self.device == "cuda" and self.optim == "adamw_torch"
        return 4.0 * self.trained if many else 0.0

    # ------------------------------------------------------------------ what tokens leave behind

    def _way(self) -> str:
        recipe = self.recipe
        if self.full:
            return "full"
        if recipe.method == "ia3":
            return "ia3" if recipe.quantization == "none" else "ia3_nf4"
        if recipe.method == "adalora":
            return "adalora"
        if recipe.method in ("lora", "loha"):
            if recipe.use_dora:
                return "dora"
            if not any(t.role in ("gate", "up", "gate_up", "down") for t in self.targets):
                return "lora_on_attention"
            return "lora" if recipe.lora_dropout else "lora_without_dropout"
        return "frozen"

    def _entry(self, checkpointed: bool) -> dict[str, Any]:
        dtype = "float32" if self.size == 4 else "bfloat16"
        try:
            ways = _table()[self.shape.model_type]
            found: dict[str, Any] = ways[self._way()][dtype]["checkpointed" if checkpointed else "kept"]
        except KeyError:
            raise LabError(
                f"architecture {self.shape.model_type!r}: what its layers keep is not known here; "
                "the memory probe can count it"
            ) from None
        return found

    def _tokens_at(self, moment: str, checkpointed: bool) -> float:
        entry = self._entry(checkpointed)
        layer = self._bytes(entry[f"{moment}_layer"])
        if moment == "saved" and not checkpointed:
            layer -= self._missing()
        rest = self._rest_at(moment, checkpointed)
        return self.tokens * self.shape.layers * layer + rest

    def _rest_at(self, moment: str, checkpointed: bool) -> float:
        rest = self._bytes(self._entry(checkpointed)[f"{moment}_rest"])
        if moment.startswith("backward") and checkpointed:
            rest -= self._missing()
        return self.tokens * rest

    def _missing(self) -> float:
        """Bytes a token and layer that the table has for adapters which this recipe does not attach."""
        if self._way() not in ("lora", "lora_without_dropout", "lora_on_attention"):
            return 0.0
        attention = self._way() == "lora_on_attention"
        have = {target.path for target in self.targets}
        each = self.size + (1 if self.recipe.lora_dropout or attention else 0)
        counted = ("q", "k", "v", "qkv", "o")
        return sum(
            each * linear.in_features
            for linear in linears(self.shape)
            if linear.path not in have and (not attention or linear.role in counted)
        )

    def _bytes(self, sizes: Mapping[str, float]) -> float:
        """Bytes a token of a table's row."""
        shape = self.shape
        rank = self.recipe.init_r if self.recipe.method == "adalora" else self.recipe.lora_r
        units = {
            "hidden": shape.hidden,
            "inner": shape.intermediate,
            "query": shape.heads * shape.head_dim,
            "kv": shape.kv_heads * shape.head_dim,
            "heads": shape.heads,
            "length_by_heads": shape.heads * self.length,
            "length": 0,  # masks: they differ with rows and are counted apart
            "rank": rank,
            "constant": 1,
        }
        return sum(units[name] * size for name, size in sizes.items())
