"""Adapters for the bundled model, and one for another, as peft saves them; runs that have ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModelForCausalLM

from tests.decoding.conftest import tiny
from tests.decoding.test_adapters import adapter_folder
from tui_lab.export import check, compare
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder as runs


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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that makes the bundled model say something else and still end its turns."""
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32", use_safetensors=True)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]
    )
    return adapter_folder(model, config, tmp_path_factory.mktemp("adapters") / "own", seed=3)


@pytest.fixture
def make_run(runs_dir: Path, trained: Path) -> Callable[..., runs.Run]:
    """A run that has ended, on the bundled data ``support``, with an adapter."""

    def make(adapter: Path = trained, **values: Any) -> runs.Run:
        recipe = build({"model": "pocket", "data": "support", "quantization": "none", **values})
        made = runs.create(recipe, name="tuned")
        shutil.copytree(adapter, made.adapter_path)
        return made

    return make


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of an export here, not in a process of its own: seconds quicker, and the same figures."""

    def run_check(spec: dict[str, Any], work: Path) -> dict[str, Any]:
        return {**check.check(json.loads(json.dumps(spec))), "imported": []}

    monkeypatch.setattr(compare, "run_check", run_check)
