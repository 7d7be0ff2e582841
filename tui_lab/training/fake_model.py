"""A model without weights: built from a configuration on torch's ``meta`` device, in 4 bits where the recipe
asks, and turned into fake tensors once trl and peft have put their parts on. Nothing is downloaded or
allocated; operations on it tell shapes and types only."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear

from tui_lab.forecast.memory import NESTED_BLOCK, NF4_BLOCK
from tui_lab.models.shapes import Shape

#: What both Gemma 3 text models under 3 B look at in their sliding layers, not transformers' 4,096.
_GEMMA3_WINDOW = 512


def config_of(shape: Shape) -> Any:
    """transformers' configuration of a shape."""
    values: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if shape.model_type == "gpt2":
        values |= {
            "n_layer": shape.layers,
            "n_embd": shape.hidden,
            "n_head": shape.heads,
            "n_inner": shape.intermediate,
            "n_positions": shape.context,
        }
    else:
        values |= {
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.hidden,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.intermediate,
            "max_position_embeddings": shape.context,
            "attention_bias": shape.attention_bias,
        }
        if shape.model_type != "gpt_neox":
            values["num_key_value_heads"] = shape.kv_heads
        if shape.model_type in ("llama", "granite"):
            values["mlp_bias"] = shape.mlp_bias
        if shape.model_type == "phi":
            values["qk_layernorm"] = shape.qk_layernorm
        if shape.model_type in ("llama", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral"):
            values["head_dim"] = shape.head_dim
        if shape.model_type == "gemma3_text":
            values["sliding_window"] = _GEMMA3_WINDOW
    return AutoConfig.for_model(shape.model_type, **values)


def meta_model(
    config: Any, dtype: torch.dtype, attention: str, *, nf4: bool, double: bool, compute: torch.dtype
) -> Any:
    """The model on ``meta``, frozen where it is in 4 bits. ``dtype``: of the weights; ``compute``: of NF4's
    products."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    model.config.use_cache = False
    if nf4:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=double,
            bnb_4bit_compute_dtype=compute,
        )
        head = [name for name, module in model.named_modules() if module is model.get_output_embeddings()]
        replace_with_bnb_linear(model, modules_to_not_convert=head, quantization_config=quantization)
        model.config.quantization_config = quantization
        model.is_loaded_in_4bit = model.is_quantized = True
        model.hf_quantizer = Trainable()
    return model


class Trainable:
    """What the Trainer asks of a quantised model before it trains an adapter on it."""

    is_trainable = True
    is_qat_trainable = False
    is_compileable = False


def make_fake(model: torch.nn.Module, mode: FakeTensorMode) -> None:
    """Replaces every tensor on ``meta`` by a fake one on the CPU, tied weights by the same one, 4-bit weights
    by their packed bytes and scales."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, Linear4bit) and module.weight.is_meta:
            module.weight = _packed(module, mode)
            made[id(module.weight)] = module.weight
        for name, parameter in module._parameters.items():
            if parameter is None or (id(parameter) in made and made[id(parameter)] is parameter):
                continue
            if id(parameter) not in made:
                fake = _fake(parameter, mode)
                made[id(parameter)] = torch.nn.Parameter(fake, requires_grad=parameter.requires_grad)
                made[id(made[id(parameter)])] = made[id(parameter)]
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _fake(buffer, mode)


def _fake(tensor: torch.Tensor, mode: FakeTensorMode) -> torch.Tensor:
    with mode:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def _packed(module: Any, mode: FakeTensorMode) -> torch.nn.Parameter:
    """Two values a byte, a scale for each block; the scales in a byte each with double quantisation."""
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
        made: Any = torch.nn.Parameter(data, requires_grad=False)
        made.quant_state, made.bnb_quantized = state, True
        return made


def dequantized_weight(module: Any) -> torch.Tensor:
    """What peft's function of a like name does for DoRA, which knows 4-bit weights by bitsandbytes' class."""
    weight: torch.Tensor = module.weight
    state = getattr(weight, "quant_state", None)
    if state is not None:
        return dequantize_4bit(weight, state)
    return torch.empty(weight.shape, dtype=weight.dtype, device=weight.device) if weight.is_meta else weight


def tensors_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """Everything that a model holds in memory: parameters, buffers, scales of 4-bit weights."""
    found: list[torch.Tensor] = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            found += [each for each in (state.absmax, state.code, state.offset) if each is not None]
            state = state.state2
    return found
