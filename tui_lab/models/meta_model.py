"""Models without weights, on torch's ``meta`` device, quantised where wanted: for counting, not computing."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from tui_lab.models.loading import DTYPES, Precision, quantize
from tui_lab.models.shapes import Shape

#: Tokens of the sliding window of both Gemma 3 text models under 3 B; transformers assumes 4,096.
_GEMMA3_WINDOW = 512


def config_of(shape: Shape) -> PreTrainedConfig:
    """transformers' configuration for a shape."""
    values: dict[str, int | bool] = {
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
    config: PreTrainedConfig = AutoConfig.for_model(shape.model_type, **values)
    return config


def meta_model(config: PreTrainedConfig, precision: Precision, attention: str) -> PreTrainedModel:
    """The model of a configuration on ``meta``; ``attention``: implementation by transformers' name. Its
    linear layers become those of ``precision``."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=DTYPES[precision.dtype], attn_implementation=attention
        )
    model.config.use_cache = False
    if precision.quantization != "none":
        quantize(model, precision, precision.dtype)
    return model
