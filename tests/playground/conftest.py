"""Adapters for the bundled model, and one for another, as peft saves them."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
from transformers import AutoModelForCausalLM

from tests.decoding.conftest import tiny
from tests.decoding.test_adapters import adapter_folder
from tui_lab.pocket import MODEL_DIR


@pytest.fixture(autouse=True)
def built() -> None:
    if not (MODEL_DIR / "model.safetensors").is_file():
        pytest.skip("the bundled model is not built yet")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``own`` fits the bundled model, ``other`` a model of other sizes."""
    folder = tmp_path_factory.mktemp("adapters")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    pocket = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32", use_safetensors=True)
    return {
        "own": adapter_folder(pocket, config, folder / "own", seed=3),
        "other": adapter_folder(tiny("llama"), config, folder / "other"),
    }
