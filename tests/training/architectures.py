"""Tiny random models of architectures that treat their output layer each in its own way."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

VOCABULARY = 97
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


def _llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**_SIZES, num_key_value_heads=1, tie_word_embeddings=True))


def _neox() -> Any:  # its backbone is not called model, its output layer not lm_head
    return GPTNeoXForCausalLM(GPTNeoXConfig(**_SIZES))


def _gemma2() -> Any:  # caps its logits; a low cap, so that leaving it out shows
    return Gemma2ForCausalLM(
        Gemma2Config(**_SIZES, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5)
    )


def _phi() -> Any:  # its output layer has a bias
    return PhiForCausalLM(PhiConfig(**_SIZES))


def _granite() -> Any:  # divides its logits
    return GraniteForCausalLM(GraniteConfig(**_SIZES, num_key_value_heads=1, logits_scaling=4.0))


def _gpt2() -> Any:  # keeps its weights transposed
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=3,
            n_head=2,
            n_positions=64,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


MAKERS = {"llama": _llama, "neox": _neox, "gemma2": _gemma2, "phi": _phi, "granite": _granite, "gpt2": _gpt2}


def make(name: str, seed: int = 0) -> Any:
    """A model whose logits are far from flat."""
    torch.manual_seed(seed)
    model = MAKERS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
        head = model.get_output_embeddings()
        if head.bias is not None:
            head.bias.normal_()
    model.config.use_cache = False
    return model
