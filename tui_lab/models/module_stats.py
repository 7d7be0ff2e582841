"""What a loaded model consists of: parameters, 4-bit modules, linear layers, trainable weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tui_lab.models import shapes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ModuleStats:
    """``parameters``: 4-bit weights by their elements and tied ones once, as model cards state them;
    ``modules``: number of linear modules by class, ``quantized_modules`` of them with rounded weights;
    ``weights_bytes``: bytes of all parameters as stored."""

    parameters: int
    modules: dict[str, int]
    quantized_modules: int
    quantization: str  # of these modules
    weights_bytes: int


#: Classes of linear modules with rounded weights.
_ROUNDED = {"nf4": "Linear4bit", "int8": "Linear8bitLt", "fp8": "Float8Linear"}


def module_stats(model: torch.nn.Module) -> ModuleStats:
    """Counts the parameters and linear modules of a base model."""
    parameters = stored = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        parameters += state.shape.numel() if state is not None else parameter.numel()
        stored += parameter.numel() * parameter.element_size()
    kinds = Counter(type(module).__name__ for module in model.modules() if hasattr(module, "in_features"))
    # peft calls its own modules by the same names
    names = [type(module).__name__ for module in model.modules() if not hasattr(module, "base_layer")]
    kind = next((kind for kind, name in _ROUNDED.items() if name in names), "")
    return ModuleStats(parameters, dict(kinds), names.count(_ROUNDED.get(kind, "")), kind, stored)


def four_bit_modules(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules whose weights bitsandbytes stores in 4 bits."""
    from bitsandbytes.nn.modules import Linear4bit

    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def disable_cpu_repacking(model: torch.nn.Module) -> None:
    """Keeps bitsandbytes from repacking 4-bit weights for AVX512-BF16 processors when a model goes into
    evaluation mode: it computes in bfloat16 from then on, but not once an adapter is added, so that a base
    and the same base with an adapter of no effect differ (logits of the bundled model by 0.13), and the
    losses of a run would depend on how often it was evaluated."""
    for module in four_bit_modules(model):
        module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def cast_trainable_to_float32(model: torch.nn.Module) -> None:
    """Casts trainable weights to float32. trl casts adapters on 4-bit weights to bfloat16, where small late
    updates are rounded away; an adapter is small, so float32 costs little."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def count_trainable(model: torch.nn.Module) -> int:
    """Number of parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def shape_of(model: PreTrainedModel) -> shapes.Shape | None:
    """The sizes of a loaded model; None for an architecture whose formulas are not known."""
    try:
        return shapes.from_config(model.config.to_dict())
    except shapes.ShapeError:
        return None


def linear_names(model: torch.nn.Module) -> list[str]:
    """Full names of the modules that an adapter can be attached to (GPT-2 has transposed ones)."""
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]
