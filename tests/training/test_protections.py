"""Every protection in a whole run, from its recipe to what it saves: a few steps each."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from tests.records import read_log
from tests.training.conftest import VOCABULARY
from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder
from tui_lab.runs.events import EventWriter
from tui_lab.training.attempt import open_attempt, run_attempt


def _words(chance: random.Random) -> str:
    start = chance.randrange(200)
    return " ".join(f"w{3 + (start + i * 7) % (VOCABULARY - 3)}" for i in range(14))


@pytest.fixture
def run_of(tiny_llama: Path, tmp_path: Path) -> Any:
    """Runs a recipe in this process and gives its folder and events."""
    chance = random.Random(0)
    general, data = tmp_path / "general.txt", tmp_path / "tasks.jsonl"
    general.write_text("\n\n".join(_words(chance) for _ in range(40)))
    rows = [
        {"prompt": _words(chance), "completion": f" w{i + 5} w{i + 6}", "task": "ab"[i % 2]}
        for i in range(40)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(**values: Any) -> tuple[folder.Run, list[dict[str, Any]]]:
        recipe = build(
            {
                "model": str(tiny_llama),
                "data": str(data),
                "replay_data": str(general),
                "max_length": 48,
                "max_steps": 3,
                "eval_steps": 3,
                "warmup_steps": 0,
                "learning_rate": 1e-2,
                "per_device_train_batch_size": 8,
                "gradient_accumulation_steps": 1,
                "sample_max_new_tokens": 2,
                "probe_share": 0.0,
                **values,
            }
        )
        made = folder.create(recipe, tmp_path / "runs")
        assert run_attempt(open_attempt(made, EventWriter(made.events_path))) == 0
        return made, read_log(made.events_path)

    return run


PROTECTIONS: list[dict[str, Any]] = [
    {"replay_fraction": 0.25},
    {"kl_weight": 0.5},
    {"kl_weight": 0.5, "method": "full"},
    {"l2_to_start": 0.5},
    {"ewc_lambda": 0.5},
    {"ewc_lambda": 0.5, "method": "full", "replay_fraction": 0.1},
    {"frozen_layers": 1},
    {"gradual_unfreezing": True, "method": "full"},
    {"layer_lr_decay": 0.8, "method": "full"},
    {"label_smoothing_factor": 0.1},
    {"focal_gamma": 2.0},
    {"uncertainty_weighting": True, "replay_fraction": 0.1},
    {"quantization": "nf4", "kl_weight": 0.1, "ewc_lambda": 0.1, "replay_fraction": 0.2, "focal_gamma": 1.0},
]


@pytest.mark.parametrize("values", PROTECTIONS, ids=lambda values: "+".join(values))
def test_run_with_each_protection(run_of: Any, values: dict[str, Any]) -> None:
    run, events = run_of(**values)
    by_kind = {event["kind"]: event for event in events}
    assert by_kind["end"]["state"] == "finished"
    parts = by_kind["step"].get("parts", {})
    names = {"kl_weight": "kl_to_base", "l2_to_start": "l2_to_start", "ewc_lambda": "ewc"}
    for key, name in names.items():
        assert (name in parts) == (key in values)
    assert all(value > 0 for name, value in parts.items())
    if values.get("uncertainty_weighting"):
        assert {"task a", "task b"} <= set(parts)
    if fraction := values.get("replay_fraction"):
        data = by_kind["data"]
        assert data["replay_rows"] == round(data["train_rows"] * fraction / (1 - fraction))
        assert Path(data["replay_source"]).name == "general.txt"
        assert by_kind["plan"]["rows"] == data["train_rows"] + data["replay_rows"]
    saved = run.model_path if values.get("method") == "full" else run.adapter_path
    assert any(saved.glob("*.safetensors"))
    if values.get("method") == "full":
        AutoModelForCausalLM.from_pretrained(saved)


def test_freezing_all_layers_is_refused_in_a_sentence(run_of: Any) -> None:
    with pytest.raises(LabError, match=r"frozen_layers = 2: the model has 2 layers.*use at most 1"):
        run_of(frozen_layers=2)
