"""Tiny random models of every architecture in the catalog, and the two small real ones where they exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.paths import SHARED

VOCABULARY = 160
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_SLIDING = {"head_dim": 8, "sliding_window": 12}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma": {"head_dim": 16},
    "gemma2": {**_SLIDING, "query_pre_attn_scalar": 8},
    "gemma3_text": {
        **_SLIDING,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention"] * 2 + ["full_attention"],
    },
    "phi": {"num_key_value_heads": 4},
    "gpt_neox": {"num_key_value_heads": 4},
    "olmo2": {},
    "granite": {"logits_scaling": 2.0, "residual_multiplier": 0.5},
    "gpt2": {
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_inner": 64,
        "n_positions": 256,
        "num_key_value_heads": 4,
    },
}


def tiny(model_type: str, seed: int = 0, sharpness: float = 12.0, **changes: Any) -> Any:
    """A random model in float32 whose predictions are peaked enough for strategies to differ."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **{**_SIZES, **ARCHITECTURES[model_type], **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embed" not in name and "wte" not in name and "head" not in name:
                weight.mul_(sharpness / 2)
        model.get_output_embeddings().weight.mul_(sharpness)
    model.generation_config.pad_token_id = 0
    return model


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """``tiny``, each model made once."""
    made: dict[Any, Any] = {}

    def get(model_type: str, **changes: Any) -> Any:
        key = (model_type, tuple(sorted(changes.items())))
        if key not in made:
            made[key] = tiny(model_type, **changes)
        return made[key]

    return get


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    """A random prompt without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, VOCABULARY, (length,), generator=generator).tolist())


def shared_dir() -> Path | None:
    """Folder of shared test material, beside the checkout or named by TUI_LAB_SHARED."""

    place = SHARED
    return place if place.is_dir() else None


@pytest.fixture(scope="session")
def stories() -> tuple[Any, Any]:
    """Model and tokenizer of stories260K, where the shared material is."""
    from transformers import AutoTokenizer

    folder = shared_dir()
    if folder is None or not (folder / "models/stories260K/model.safetensors").is_file():
        pytest.skip("the shared stories260K model is not beside this checkout")
    place = folder / "models/stories260K"
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, use_safetensors=True).eval()
    return model, AutoTokenizer.from_pretrained(place)


@pytest.fixture(scope="session")
def pocket() -> tuple[Any, Any]:
    """Model and tokenizer that travel inside the package, once they are built."""
    from transformers import AutoTokenizer

    from tui_lab.pocket import MODEL_DIR

    if not (MODEL_DIR / "model.safetensors").is_file():
        pytest.skip("the bundled model is not built yet")
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32, use_safetensors=True).eval()
    return model, AutoTokenizer.from_pretrained(MODEL_DIR)
