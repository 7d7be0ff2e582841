"""Loads the model of a run, quantised or not, and tells what it consists of.

Weights come from safetensors only and no code comes with them (``trust_remote_code`` is never set).
``prepare_model_for_kbit_training`` is not used: it would upcast the embedding and a tied head to
float32 (0.27 GB at 0.5 B parameters); freezing, checkpointing and input gradients are set apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from tui_lab.core.errors import LabError
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog, shapes
from tui_lab.recipes.recipe import Recipe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: a folder or a hub id with its revision."""

    location: str
    revision: str = ""

    def arguments(self) -> dict[str, Any]:
        """What every ``from_pretrained`` gets."""
        return {"revision": self.revision or "main", "trust_remote_code": False}


def _explain(source: ModelSource, error: Exception) -> LabError:
    """The true cause of a failed load in one sentence."""
    text = str(error)
    if "gated" in text.lower() or "401" in text or "403" in text:
        advice = "it is gated: accept its licence on its hub page, then log in with `hf auth login`"
    elif "safetensors" in text:
        advice = (
            "it has no safetensors weights; convert them with `save_pretrained(..., safe_serialization=True)`"
        )
    elif any(
        word in text.lower() for word in ("offline", "connect", "resolve", "couldn't find them in the cached")
    ):
        advice = (
            "it is not on this machine and the hub cannot be reached; name a folder, or download it first"
        )
    else:
        advice = text.strip().splitlines()[0][:300] if text.strip() else type(error).__name__
    return LabError(f"model {source.location} cannot be loaded: {advice}")


def weights_dtype(recipe: Recipe, compute_dtype: str) -> torch.dtype:
    """What frozen weights are kept in: the compute type; trained weights (method ``full``) stay in
    float32, since an update of 1e-5 is lost in bfloat16's eight bits."""
    return torch.float32 if recipe.method == "full" else DTYPES[compute_dtype]


def load_base(
    source: ModelSource, recipe: Recipe, device: DeviceFacts, compute_dtype: str, attention: str
) -> Any:
    """The base model, in 4 bits where the recipe asks for it. Raises LabError."""
    quantization = None
    if recipe.quantization == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=recipe.double_quantization,
            bnb_4bit_compute_dtype=DTYPES[compute_dtype],
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype=weights_dtype(recipe, compute_dtype),
            quantization_config=quantization,
            device_map={"": torch.cuda.current_device() if device.type == "cuda" else device.type},
            attn_implementation=attention,
            use_safetensors=True,
            **source.arguments(),
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _explain(source, error) from error
    model.config.use_cache = False
    if quantization is not None:
        keep_four_bits_plain(model)
    return model


def check_size(source: ModelSource, allow_large: bool) -> None:
    """Refuses a model over the lab's limit before its weights are read, for ids that the catalog does not
    know. Raises LabError."""
    try:
        config = AutoConfig.from_pretrained(source.location, **source.arguments())
        shape = shapes.from_config(config.to_dict())
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _explain(source, error) from error
    if shape is not None:
        catalog.check_size(source.location, shapes.parameter_count(shape), allow_large)


def four_bit_modules(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules whose weights are bitsandbytes' 4-bit ones."""
    from bitsandbytes.nn import Linear4bit

    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def keep_four_bits_plain(model: torch.nn.Module) -> None:
    """Keeps bitsandbytes from repacking 4-bit weights for AVX512-BF16 processors when a model goes into
    evaluation mode: a run goes back and forth, and its losses must not depend on how often it looked."""
    for module in four_bit_modules(model):
        module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def trained_in_float32(model: torch.nn.Module) -> None:
    """Casts what is trained to float32. trl casts adapters on 4-bit weights to bfloat16, where late, small
    updates are rounded away; an adapter is small, so the bytes are well spent."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def facts(model: torch.nn.Module) -> dict[str, Any]:
    """What a base model consists of: parameters (4-bit weights by their elements, tied ones once, as
    published), kinds of linear modules, how many are in 4 bits, bytes of the weights."""
    parameters = stored = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        parameters += state.shape.numel() if state is not None else parameter.numel()
        stored += parameter.numel() * parameter.element_size()
    kinds = Counter(type(module).__name__ for module in model.modules() if hasattr(module, "in_features"))
    return {
        "parameters": parameters,
        "modules": dict(kinds),
        "quantized_modules": len(four_bit_modules(model)),
        "weights_bytes": stored,
    }


def shape_of(model: Any) -> shapes.Shape | None:
    """The sizes of a loaded model; None for an architecture that is not known here."""
    try:
        return shapes.from_config(model.config.to_dict())
    except shapes.ShapeError:
        return None


def linear_names(model: torch.nn.Module) -> list[str]:
    """Full names of the modules that an adapter can sit on (GPT-2 has transposed ones)."""
    kinds = (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def trainable_count(model: torch.nn.Module) -> int:
    """Parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
