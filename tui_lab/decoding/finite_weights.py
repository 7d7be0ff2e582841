"""Finds weights with NaN or infinite values, in one pass over a model and one transfer from its device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


@torch.no_grad()
def not_finite(model: torch.nn.Module, wanted: Callable[[str], bool] = lambda _name: True) -> list[str]:
    """Names of the ``wanted`` parameters with a value that is not finite; of quantised ones the scales are
    checked."""
    names: list[str] = []
    extremes: list[torch.Tensor] = []
    scales = ((name, each) for name, each in model.named_buffers() if name.endswith(".weight_scale"))
    for name, parameter in (*model.named_parameters(), *scales):
        if not wanted(name):
            continue
        for tensor in _checked_tensors(parameter):
            if tensor.numel():
                low, high = torch.aminmax(tensor)  # either is NaN where a value is
                names.append(name)
                extremes.append((high * 0 + low * 0).float())  # NaN for an infinite value, too
    if not extremes:
        return []
    # one transfer from the device
    bad = (~torch.isfinite(torch.stack([value.to(extremes[0].device) for value in extremes]))).tolist()
    return list(dict.fromkeys(name for name, is_bad in zip(names, bad, strict=True) if is_bad))


def _checked_tensors(parameter: torch.Tensor) -> Iterable[torch.Tensor]:
    state = getattr(parameter, "quant_state", None)
    scales: list[Any] = [getattr(parameter, "SCB", None)]
    if state is not None:
        nested = getattr(state, "state2", None)
        scales += [state.absmax, *([nested.absmax, state.offset] if nested is not None else [])]
    for tensor in (parameter, *scales):
        is_float = isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
        if is_float and tensor.element_size() > 1 and tensor.device.type != "meta":
            yield tensor
