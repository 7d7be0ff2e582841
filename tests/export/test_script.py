"""The training script that an export writes: carried out alone it makes the run's rows and the run's losses,
and what it cannot do stands at its head."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl import SFTConfig

from tui_lab.export import job, script
from tui_lab.export.source import Source
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder
from tui_lab.runs.events import EventTail, EventWriter
from tui_lab.training.adapters import peft_config
from tui_lab.training.attempt import Attempt
from tui_lab.training.trainer import training_arguments

TARGETS = ["k_proj", "v_proj", "down_proj"]


def silent(*_: Any, **__: Any) -> None: ...


@pytest.mark.slow
def test_its_losses_are_the_run_s(runs_dir: Path, tmp_path: Path, in_process: None) -> None:
    """Chats of several turns, packed, with dropout and accumulation, begun from the weights' own directions:
    what is saved is turned into an adapter for the base as it was."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What comes after {at}?"},
                {"role": "assistant", "content": f"{at + 1} comes"},
                {"role": "user", "content": "And before?"},
                {"role": "assistant", "content": f"{at - 1} does"},
            ]
        }
        for at in range(60)
    ]
    data = tmp_path / "numbers.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    recipe = make_recipe(
        "minute", data=str(data), quantization="none", lora_dropout=0.1, max_steps=3, max_length=128,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, score_rows=0, probe_share=0.0,
        eval_steps=3, packing=True, sample_max_new_tokens=1, init_lora_weights="pissa",
    )  # fmt: skip
    run = folder.create(recipe)
    assert Attempt(run, EventWriter(run.events_path)).run_to_end() == 0
    own = [event["loss"] for event in EventTail(run.events_path).read_all() if event["kind"] == "step"]
    assert len(own) == 3
    result = job.handle({"run": run.id, "kind": "script", "with_base": True}, silent)
    [rows] = result["checks"]
    assert rows["name"] == "rows" and rows["as_tokens"] is False
    place = Path(result["path"])
    done = subprocess.run(
        [sys.executable, "-P", str(place / "train.py"), "--out", str(run.path / "again")],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((run.path / "again" / "losses.json").read_text()) == pytest.approx(own, rel=1e-5)
    own_tensors, again = (
        load_file(folder / "adapter_model.safetensors") for folder in (run.adapter_path, run.path / "again")
    )
    assert own_tensors.keys() == again.keys()
    for name, tensor in own_tensors.items():
        assert torch.allclose(tensor, again[name], atol=1e-4), name
    # the adapter that leaves the lab stands on the base as it was, and begins nothing anew
    adapter = job.handle({"run": run.id, "kind": "adapter"}, silent)
    config = json.loads((Path(adapter["path"]) / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True and config["r"] == 2 * recipe.lora_r
    for path in place.glob("*.*"):
        assert str(run.path) not in path.read_text()


def test_rows_that_plain_code_does_not_encode_alike_are_written_as_tokens(
    make_run: Callable[..., folder.Run], tmp_path: Path
) -> None:
    """A long text is cut into windows."""
    data = tmp_path / "book.txt"
    data.write_text("\n\n".join(f"Chapter {at}. " + "The sea was calm that day. " * 40 for at in range(12)))
    run = make_run(data=str(data), max_length=64, focal_gamma=2.0)
    result = job.handle({"run": run.id, "kind": "script"}, silent)
    [rows] = result["checks"]
    assert rows["as_tokens"] is True and rows["rows"] > 12
    first = json.loads((Path(result["path"]) / "train.jsonl").read_text().splitlines()[0])
    assert len(first["input_ids"]) == len(first["labels"]) == 64
    assert any("focal loss" in note for note in result["notes"])
    head = (Path(result["path"]) / "train.py").read_text().split('"""')[1]
    assert "lacks" in head and "- the focal loss (focal_gamma)" in head and "tokens with their labels" in head


@pytest.mark.parametrize(
    "values",
    [
        {"use_dora": True, "lora_r": 4},
        {"use_rslora": True, "lora_r": 4, "lora_alpha": 3.0},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.0},
        {"method": "adalora", "max_steps": 40},
        {"method": "loha", "lora_r": 3},
        {"method": "ia3"},
        {"method": "prefix", "num_virtual_tokens": 7},
        {"method": "p_tuning"},
        {"method": "prompt_tuning"},
        {"method": "full"},
    ],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_its_adapter_is_the_run_s(make_run: Callable[..., folder.Run], values: dict[str, Any]) -> None:
    """The script is executed as far as its functions; its configuration is peft's for the recipe."""
    run = make_run()
    recipe = build({"model": "pocket", "data": "support", **values})
    source = replace(Source.of(run), recipe=recipe, whole=recipe.method == "full")
    source.config.update(target_modules=TARGETS, feedforward_modules=["down_proj"], encoder_hidden_size=256)
    rows = script.Rows([], [], [], [], "<|end|>")
    text = script.text_of(source, source.tokenizer(), rows, False)
    assert "@" not in text.replace("@property", "") and max(map(len, text.splitlines())) <= 120
    names: dict[str, Any] = {"__name__": "script", "__file__": str(run.path / "train.py")}
    exec(compile(text, "train.py", "exec"), names)
    made = names["adapter"]()
    if recipe.method == "full":
        assert made is None
        return
    expected = peft_config(recipe, sorted(TARGETS), ["down_proj"], 256, recipe.max_steps or 1)
    assert type(made) is type(expected) and made.to_dict() == expected.to_dict()
    assert ("path_initial_model_for_weight_conversion" in text) == (recipe.init_lora_weights == "pissa")
    assert ("AdaLoRA's" in text) == (recipe.method == "adalora")


def test_every_field_of_a_recipe_that_changes_the_loss_is_named() -> None:
    plain = build({"model": "pocket"})
    assert script.left_out(plain) == []
    for field, value in {
        "label_smoothing_factor": 0.1, "focal_gamma": 2.0, "uncertainty_weighting": True, "kl_weight": 0.1,
        "l2_to_start": 0.1, "ewc_lambda": 1.0, "frozen_layers": 1, "gradual_unfreezing": True,
        "layer_lr_decay": 0.9, "early_stopping_patience": 2, "stop_on_retention": True,
    }.items():  # fmt: skip
        [words] = script.left_out(plain.changed(**{field: value}))
        assert field in words


def test_its_arguments_are_those_of_a_run(make_run: Callable[..., folder.Run], tmp_path: Path) -> None:
    """All of trl's fields but those of checkpoints and validation during the run, which a script lacks."""
    recipe = build(
        {
            "model": "pocket", "data": "support", "packing": True, "gradient_checkpointing": True, "seed": 7,
            "weight_decay": 0.03, "max_grad_norm": 0.5, "warmup_steps": 9, "num_train_epochs": 2.5,
            "lr_scheduler_type": "linear", "gradient_accumulation_steps": 3, "optim": "adafactor",
        }
    )  # fmt: skip
    source = replace(Source.of(make_run()), recipe=recipe)
    values = {"compute_dtype": "float32", "max_length": recipe.max_length, "optim": recipe.optim}
    own = training_arguments(recipe, tmp_path, device="cpu", values=values).to_dict()
    made = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", **script._arguments(source)
    ).to_dict()
    apart = {name for name, value in own.items() if made[name] != value}
    assert apart <= {
        "eval_steps", "eval_strategy", "do_eval", "save_strategy", "save_total_limit", "disable_tqdm",
        "metric_for_best_model", "greater_is_better", "logging_nan_inf_filter", "dataloader_pin_memory",
        "report_to", "run_name", "project", "trackio_static_space_id",
        "restore_callback_states_from_checkpoint",
    }, apart  # fmt: skip
