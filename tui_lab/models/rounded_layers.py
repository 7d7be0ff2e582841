"""Linear layers with rounded weights, and putting them into a loaded model in place of its own.

NF4 and LLM.int8 are bitsandbytes' (Dettmers et al. 2023 and 2022). FP8 keeps weights as e4m3 (Micikevicius et
al. 2022, "FP8 formats for deep learning") with a scale for each output and computes in the inputs' type, so
that it needs no card of its own; transformers' fine-grained FP8 cannot train without compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

E4M3 = torch.float8_e4m3fn
E4M3_MAX = torch.finfo(E4M3).max

#: Makes the layer for (name, weight of outputs × inputs, whether it has a bias); None keeps it as it is.
MakeLayer = Callable[[str, torch.Tensor, bool], torch.nn.Linear | None]


class Float8Linear(torch.nn.Linear):
    """A frozen linear layer in FP8. ``weight`` has the bytes of e4m3 numbers, which no library takes for
    values that can be cast; ``weight_scale`` has a factor for each output."""

    weight_scale: torch.Tensor

    def __init__(self, in_features: int, out_features: int, bias: bool, device: Any = None) -> None:
        super().__init__(in_features, out_features, bias=bias, device="meta")
        empty = torch.empty(out_features, in_features, dtype=torch.uint8, device=device)
        self.weight = torch.nn.Parameter(empty, requires_grad=False)
        self.register_buffer("weight_scale", torch.empty(out_features, device=device))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        device = input.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else input.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        product: torch.Tensor = _Float8Product.apply(input.to(dtype), self.weight, self.weight_scale)  # type: ignore[no-untyped-call]
        return product if bias is None else product + bias

    def dequantized(self) -> torch.Tensor:
        """The weights as float32."""
        return self.weight.view(E4M3).float() * self.weight_scale[:, None]


class _Float8Product(torch.autograd.Function):
    """inputs × weightsᵀ, whose backward pass unpacks the weights again in place of keeping them."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, scale)
        # e4m3 numbers are exact in 16 bits, so only the product is rounded
        return torch.nn.functional.linear(x, weight.view(E4M3).to(x.dtype)) * scale.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        weight, scale = ctx.saved_tensors
        (gradient,) = gradients
        return (gradient * scale.to(gradient.dtype)) @ weight.view(E4M3).to(gradient.dtype), None, None


def float8_layer(weight: torch.Tensor, bias: bool) -> Float8Linear:
    """A layer with the weights (outputs × inputs) rounded to FP8; its bias is set by the caller."""
    outputs, inputs = weight.shape
    made = Float8Linear(inputs, outputs, bias, weight.device)
    if not weight.is_meta:
        scale = weight.float().abs().amax(1) / E4M3_MAX
        scale = torch.where(scale == 0, 1.0, scale)
        made.weight.data = (weight.float() / scale[:, None]).to(E4M3).view(torch.uint8)
        made.weight_scale = scale
    return made


def nf4_layer(weight: torch.Tensor, bias: bool, compute: torch.dtype, double: bool) -> torch.nn.Linear:
    """bitsandbytes' layer with the weights (outputs × inputs) in NF4."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    outputs, inputs = weight.shape
    made = Linear4bit(
        inputs, outputs, bias, compute, compress_statistics=double, quant_type="nf4", device="meta"
    )
    packed: torch.nn.Parameter = Params4bit(
        weight.contiguous(), requires_grad=False, compress_statistics=double, quant_type="nf4", module=made
    )
    made.weight = packed.to(weight.device)
    return made


def int8_layer(weight: torch.Tensor, bias: bool) -> torch.nn.Linear:
    """bitsandbytes' layer of LLM.int8 with the weights (outputs × inputs) in 8 bits."""
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    outputs, inputs = weight.shape
    made = Linear8bitLt(inputs, outputs, bias, has_fp16_weights=False, threshold=6.0, device="meta")
    if weight.is_meta:
        made.weight = torch.nn.Parameter(weight.to(torch.int8), requires_grad=False)
    else:
        # it rounds what comes from the CPU
        stored: torch.nn.Parameter = Int8Params(
            weight.cpu().contiguous(), requires_grad=False, has_fp16_weights=False
        )
        made.weight = stored.to(weight.device)
    return made


def linears_of(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module, torch.Tensor]]:
    """Name, module and weights (outputs × inputs) of the linear layers, without the head."""
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) in (torch.nn.Linear, Conv1D) and module is not head:
            weight: torch.Tensor = module.weight.data
            yield name, module, weight.T.contiguous() if isinstance(module, Conv1D) else weight


def replace_linears(model: PreTrainedModel, make: MakeLayer) -> None:
    """Puts what ``make`` gives in place of the linear layers, one by one; the head stays as it is."""
    for name, module, weight in linears_of(model):
        bias: Any = module.bias
        layer = make(name, weight, bias is not None)
        if layer is None:
            continue
        if bias is not None:
            layer.bias = torch.nn.Parameter(bias.data, requires_grad=False)
        model.set_submodule(name, layer)
