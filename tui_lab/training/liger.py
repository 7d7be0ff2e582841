"""Liger kernels (liger-kernel, optional) for a model's norms, rotations and feed-forward, in this process.

transformers' own switch would also replace the loss, which trl computes in tiles already. The model is
compared with itself before: kernels that compute something else are taken out again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.liger import apply_liger_kernel

from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.core.sanitize import first_line
from tui_lab.training.types import Model

#: Which kernels are used. The loss is trl's.
KERNELS = {
    "rope": True,
    "rms_norm": True,
    "swiglu": True,
    "geglu": True,
    "layer_norm": True,
    "cross_entropy": False,
    "fused_linear_cross_entropy": False,
}
#: The largest difference of hidden states, as a share of the largest: rounding of 16 bits, and of 32.
MOST_DIFFERENCE = {torch.float32: 1e-3}
MOST_DIFFERENCE_16 = 0.03
#: Tokens of the comparison.
_TOKENS = 64
#: The function that Liger replaces in the module of an architecture, for all its models.
_ROTATION = "apply_rotary_pos_emb"


def apply(model: Model, patch: Callable[[Model, dict[str, bool]], None] = apply_liger_kernel) -> str:
    """Uses Liger's kernels in ``model``; returns why not, "" where they are used."""
    supported = _accepted(model)
    if not supported:
        return f"liger-kernel has none for models of type {model.config.model_type}"
    before = _states(model)
    forwards = {id(module): vars(module).get("forward") for module in model.modules()}
    module = sys.modules[type(model).__module__]
    rotation = getattr(module, _ROTATION, None)
    try:
        patch(model, supported)
        difference = float((_states(model) - before).abs().max() / before.abs().max().clamp(min=1e-6))
        limit = MOST_DIFFERENCE.get(model.dtype, MOST_DIFFERENCE_16)
        reason = (
            ""
            if difference <= limit
            else f"its kernels compute hidden states that differ by {difference:.1%}"
        )
    except Exception as error:  # a kernel may fail to compile in as many ways as there are compilers
        if is_out_of_memory(error):
            raise
        reason = f"its kernels do not run here: {first_line(error)}"
    if reason:
        _take_out(model, forwards)
        if rotation is not None:
            setattr(module, _ROTATION, rotation)
    return reason


def _accepted(model: Model) -> dict[str, bool]:
    """Those of :data:`KERNELS` that Liger has for the architecture."""
    import inspect

    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    function: Any = MODEL_TYPE_TO_APPLY_LIGER_FN.get(model.config.model_type)
    if function is None:
        return {}
    accepted = inspect.signature(function).parameters
    return {name: value for name, value in KERNELS.items() if name in accepted}


def _states(model: Model) -> Tensor:
    """Hidden states (1, T, H) of a row of tokens, in float32."""
    config = model.config.get_text_config()
    ids = torch.arange(_TOKENS, device=model.device)[None] % config.vocab_size
    with torch.no_grad():
        return model.base_model(input_ids=ids, use_cache=False).last_hidden_state.float()  # type: ignore[no-any-return]


def _take_out(model: Model, forwards: dict[int, object]) -> None:
    for module in model.modules():
        own = forwards.get(id(module))
        if own is None:
            vars(module).pop("forward", None)
        else:
            vars(module)["forward"] = own
