"""Turns a model on torch's ``meta`` device into one of fake tensors, once trl and peft have added their
parts. Nothing is allocated; operations on it compute shapes and types only."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from torch._subclasses.fake_tensor import FakeTensorMode

from tui_lab.forecast.memory import NESTED_BLOCK, NF4_BLOCK
from tui_lab.training.torch_internals import own_tensors


def make_fake(model: torch.nn.Module, mode: FakeTensorMode) -> None:
    """Replaces every tensor on ``meta`` by a fake one on the CPU: tied weights by the same one, 4-bit weights
    by their packed bytes and scales."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        parameters, buffers = own_tensors(module)
        if isinstance(module, Linear4bit) and module.weight.is_meta:
            module.weight = _packed(module, mode)
            made[id(module.weight)] = module.weight
        if isinstance(module, Linear8bitLt) and module.weight.is_meta:
            module.weight = _int8(module, mode)
            made[id(module.weight)] = module.weight
        for name, parameter in parameters.items():
            if parameter is None or (id(parameter) in made and made[id(parameter)] is parameter):
                continue
            if id(parameter) not in made:
                fake = _fake(parameter, mode)
                made[id(parameter)] = torch.nn.Parameter(fake, requires_grad=parameter.requires_grad)
                made[id(made[id(parameter)])] = made[id(parameter)]
            parameters[name] = made[id(parameter)]
        for name, buffer in buffers.items():
            if buffer is not None:
                buffers[name] = _fake(buffer, mode)


def _fake(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    with mode:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def _packed(module: Any, mode: FakeTensorMode) -> torch.nn.Parameter:
    """A 4-bit weight: two values per byte, a scale per block; scales take a byte with double quantisation."""
    weight = module.weight
    blocks = -(-weight.numel() // NF4_BLOCK)
    with mode:
        code = torch.empty(16)
        if weight.compress_statistics:
            nested = QuantState(
                absmax=torch.empty(-(-blocks // NESTED_BLOCK)),
                blocksize=NESTED_BLOCK,
                code=torch.empty(256),
                dtype=torch.float32,
            )
            scales = torch.empty(blocks, dtype=torch.uint8)
            offset = torch.empty(())
        else:
            nested, offset = None, None
            scales = torch.empty(blocks)
        state = QuantState(
            absmax=scales,
            shape=weight.shape,
            code=code,
            blocksize=NF4_BLOCK,
            quant_type="nf4",
            dtype=weight.dtype,
            offset=offset,
            state2=nested,
        )
        data = torch.empty((-(-weight.numel() // 2), 1), dtype=torch.uint8)
        # bitsandbytes' own class of parameters cannot hold a fake tensor; its products read these alone
        made = torch.nn.Parameter(data, requires_grad=False)
        vars(made).update(quant_state=state, bnb_quantized=True)
        return made


def _int8(module: Any, mode: FakeTensorMode) -> torch.nn.Parameter:
    """An 8-bit weight of bitsandbytes with a scale for each output, as its products read them."""
    with mode:
        scale = torch.empty(module.out_features)
    made = torch.nn.Parameter(_fake(module.weight, mode), requires_grad=False)
    vars(made).update(CB=made.data, SCB=scale)
    return made


def dequantized_weight(module: Any) -> torch.Tensor:
    """Replaces peft's ``dequantize_module_weight`` for DoRA, which recognises 4-bit weights by bitsandbytes'
    class."""
    weight: torch.Tensor = module.weight
    state = getattr(weight, "quant_state", None)
    if state is not None:
        return dequantize_4bit(weight, state)
    return torch.empty(weight.shape, dtype=weight.dtype, device=weight.device) if weight.is_meta else weight


def tensors_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """All tensors of a model: parameters, buffers, scales of rounded weights."""
    found: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        found += [scale] if (scale := getattr(parameter, "SCB", None)) is not None else []
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            found += [each for each in (state.absmax, state.code, state.offset) if each is not None]
            state = state.state2
    return found
