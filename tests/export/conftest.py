"""Runs that have ended with an adapter for the bundled model, and the export check in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModelForCausalLM

from tests.decoding.test_adapters import adapter_folder
from tui_lab.export import check, compare, source
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder as runs


@pytest.fixture(autouse=True)
def built() -> None:
    if not (MODEL_DIR / "model.safetensors").is_file():
        pytest.skip("the bundled model is not built yet")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes the bundled model's answers and still ends its turns."""
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32", use_safetensors=True)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]
    )
    return adapter_folder(model, config, tmp_path_factory.mktemp("adapters") / "own", seed=3)


@pytest.fixture
def make_run(runs_dir: Path, trained: Path) -> Callable[..., runs.Run]:
    """A run that has ended, on the bundled data ``support``, with an adapter."""

    def make(adapter: Path = trained, **values: Any) -> runs.Run:
        recipe = build(
            {"model": "pocket", "data": "support", "max_rows": 20, "quantization": "none", **values}
        )
        made = runs.create(recipe, name="tuned")
        shutil.copytree(adapter, made.adapter_path)
        return made

    return make


def check_here(spec: check.CheckSpec, work: Path) -> check.CheckAnswer:
    """:func:`compare.run_check` in this process, which is seconds faster and has the same figures."""
    from dataclasses import replace

    return replace(check.check(check.CheckSpec(**json.loads(json.dumps(asdict(spec))))), imported=[])


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check in this process, with few and short answers: where the answers are the subject, a test has
    them whole."""
    monkeypatch.setattr(source, "ANSWERS", 2)
    monkeypatch.setattr(source, "ANSWER_TOKENS", 4)
    monkeypatch.setattr(compare, "run_check", check_here)
