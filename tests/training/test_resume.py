"""A resume is exact: stopped at any step and gone on from its checkpoint, a run has the losses and the
weights of one that nobody disturbed, bit for bit. What is changed on purpose takes effect."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import losses, recipe_for
from tui_lab.runs import checkpoints
from tui_lab.training.trainer import LabTrainer

STEPS = 8
RECIPES: dict[str, dict[str, Any]] = {
    "dropout": {"lora_dropout": 0.3},
    "full": {"method": "full", "learning_rate": 1e-3},
    "full, 8-bit states": {"method": "full", "learning_rate": 1e-3, "optim": "adamw_8bit"},
    "packing": {"packing": True, "lora_dropout": 0.1, "per_device_train_batch_size": 2},
    "adalora": {"method": "adalora", "init_r": 8, "target_r": 4, "lora_dropout": 0.1},
    "KL": {"kl_weight": 0.5, "lora_dropout": 0.1},
    "accumulation": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "lora_dropout": 0.2},
    "nf4": {"quantization": "nf4", "lora_dropout": 0.1, "optim": "adamw_8bit"},
    "epochs": {"max_steps": 0, "num_train_epochs": 1.5, "lora_dropout": 0.1},
}


def weights(trainer: LabTrainer) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in trainer.model.parameters() if weight.requires_grad]


def broken_off(make: Callable[..., LabTrainer], recipe: Any, saved_at: int, folder: str) -> Path:
    """A training that saves after ``saved_at`` steps and goes on for one that is lost; its checkpoint."""

    def after_step(trainer: LabTrainer) -> None:
        if trainer.state.global_step == saved_at:
            trainer.checkpoint_now()
        if trainer.state.global_step == saved_at + 1:
            trainer.control.should_training_stop = True
            trainer.args.save_strategy = "no"

    trainer = make(recipe, after_step, folder=folder)
    trainer.train()
    found = checkpoints.find(Path(str(trainer.args.output_dir)))
    assert found.chosen is not None and checkpoints.step_of(found.chosen) == saved_at
    return found.chosen


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_losses_and_weights_bit_for_bit(make_trainer: Callable[..., LabTrainer], name: str) -> None:
    recipe = recipe_for(**{"max_steps": STEPS, **RECIPES[name]})
    whole = make_trainer(recipe, folder="whole")
    whole.train()
    saved_at = random.randrange(1, STEPS - 1)
    resumed = make_trainer(recipe, folder="broken")
    checkpoint = broken_off(make_trainer, recipe, saved_at, "broken")
    torch.manual_seed(random.randrange(1000))  # whatever was drawn before
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert len(losses(whole)) >= STEPS
    assert losses(resumed) == losses(whole), f"saved at step {saved_at}"
    for mine, theirs in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(mine, theirs)


def test_a_changed_rate_and_decay_take_effect_and_the_states_stay(
    make_trainer: Callable[..., LabTrainer],
) -> None:
    recipe = recipe_for(max_steps=STEPS, lr_scheduler_type="constant", warmup_steps=0)
    checkpoint = broken_off(make_trainer, recipe, 4, "broken")
    changed = recipe.changed(learning_rate=recipe.learning_rate / 4, weight_decay=0.1)
    resumed = make_trainer(changed, folder="broken")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    rates = [entry["learning_rate"] for entry in resumed.state.log_history if "learning_rate" in entry]
    assert rates == [0.01] * 4 + [0.0025] * 4
    optimizer: Any = resumed.optimizer
    assert {group["weight_decay"] for group in optimizer.param_groups} <= {0.1, 0.0}
    steps = {int(state["step"]) for state in optimizer.state.values()}
    assert steps == {STEPS}


def test_the_best_checkpoint_is_kept_and_a_lost_one_is_looked_for_anew(
    make_trainer: Callable[..., LabTrainer], tmp_path: Path
) -> None:
    recipe = recipe_for(max_steps=6, save_total_limit=1, learning_rate=1.0, max_grad_norm=0.0, optim="sgd")

    def often(folder: str) -> LabTrainer:
        trainer = make_trainer(recipe, folder=folder)
        trainer.args.eval_steps = trainer.args.save_steps = 2
        losses = iter([1.0, 3.0, 2.0, 4.0, 5.0, 6.0])
        trainer.validation_loss = lambda: next(losses)  # type: ignore[method-assign]
        return trainer

    often("kept").train()
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"checkpoint-2", "checkpoint-6"}  # the best and the last
    for path in (tmp_path / "kept").iterdir():
        assert checkpoints.what_is_wrong(path) == ""

    # resumed where the best was damaged: the next best takes its place
    (tmp_path / "kept" / "checkpoint-2" / "optimizer.pt").write_bytes(b"")
    longer = often("kept")
    longer.args.max_steps = 10
    longer.train(resume_from_checkpoint=str(tmp_path / "kept" / "checkpoint-6"))
    assert longer.state.best_global_step == 8  # the first that was validated since
