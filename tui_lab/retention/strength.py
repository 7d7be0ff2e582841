"""The strength of a tuning: W₀ + λ·ΔW, with λ from 0 (the base) over 1 (as trained) to more.

Exact for adapters whose change of the weights is proportional to one of their tensors, which is scaled: B of
LoRA and AdaLoRA, one factor of LoHa; IA3's vectors move towards 1. Whole weights are interpolated. Only
tensors change, so plain peft loads the saved adapter. All other adapters are refused with the reason. The
idea is that of WiSE-FT (Wortsman et al. 2021, arXiv 2109.01903)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.retention.strength_grid import check_strength

#: The tensor to which an adapter's change of the weights is proportional, by its name in files (… .lora_B)
#: and in models (… .lora_B.default.weight). IA3's is relative to 1.
_SCALED = re.compile(r"\.(lora_B|lora_embedding_B|hada_w1_b|ia3_l)(?:\.|$)")
#: Every part of such adapters, as files name it; a frozen base layer may lie beside them.
_PART = re.compile(r"\.(lora_[ABE]|lora_embedding_[AB]|hada_\w+|ia3_l|base_layer)(?:\.|$)")


def scale_tensor(name: str, tensor: torch.Tensor, strength: float) -> torch.Tensor:
    """A tensor (any shape) of an adapter at a strength: scaled in float32 by its name, else unchanged."""
    found = _SCALED.search(name)
    if found is None or strength == 1:
        return tensor
    if found[1] == "ia3_l":
        return 1 + strength * (tensor.float() - 1)
    return strength * tensor.float()


def scale_adapter(tensors: Mapping[str, torch.Tensor], strength: float) -> dict[str, torch.Tensor]:
    """The tensors (any shape) of an adapter file at a strength, by name. Raises LabError where they cannot be
    scaled and for an invalid strength."""
    check_strength(strength)
    if not any(_SCALED.search(name) for name in tensors):
        raise LabError("the adapter's strength cannot be changed: none of its tensors is one that is known")
    if foreign := [name for name in tensors if not _PART.search(name)]:
        raise LabError(
            f"the adapter's strength cannot be changed: {sanitize(foreign[0])[:120]} replaces weights of the "
            "base instead of adding to them"
        )
    return {name: scale_tensor(name, tensor, strength).contiguous() for name, tensor in tensors.items()}


def interpolate(base: torch.Tensor, tuned: torch.Tensor, strength: float) -> torch.Tensor:
    """W₀ + λ(W₁ − W₀) of two tensors of one shape, computed in float32, returned in the dtype of ``tuned``;
    exact at λ = 0 and 1. WiSE-FT (Wortsman et al. 2021, arXiv 2109.01903)."""
    if strength in (0, 1):
        return (tuned if strength else base).to(tuned.dtype)
    start = base.float()
    return (start + strength * (tuned.float() - start)).to(tuned.dtype)


class AdapterScale:
    """Sets the strength of a loaded model in place. Every call starts from the original weights, so repeated
    calls do not accumulate rounding errors.

    ``base`` gives the base's weights by name for a model whose weights were tuned; without it the model is a
    PeftModel. Raises LabError where the weights do not belong together."""

    def __init__(self, model: torch.nn.Module, base: Mapping[str, torch.Tensor] | None = None) -> None:
        self._base = base
        named = dict(model.named_parameters())
        if base is None:
            named = {name: value for name, value in named.items() if _SCALED.search(name)}
            if not named:
                raise LabError(
                    "the adapter's strength cannot be changed: the model has no part of it to scale"
                )
        else:
            for name, value in named.items():
                if name not in base or base[name].shape != value.shape:
                    raise LabError(
                        f"the tuned model cannot be interpolated with its base: {name} differs in shape or "
                        "name; take the base that it was tuned from"
                    )
        self._parameters = named
        self._originals = {name: value.detach().clone() for name, value in named.items()}

    def set(self, strength: float) -> None:
        """Sets the strength, a factor from 0 (the base) over 1 (as trained) to 2. Raises LabError."""
        check_strength(strength)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                original = self._originals[name]
                if self._base is None:
                    parameter.copy_(scale_tensor(name, original, strength))
                else:
                    parameter.copy_(interpolate(self._base[name].to(original.device), original, strength))
