"""A resume is exact: stopped at any step and gone on from its checkpoint, a run has the losses and the
weights of one that nobody disturbed, bit for bit. What is changed on purpose takes effect."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import losses, recipe_for
from tui_lab.runs import checkpoints
from tui_lab.runs.folder import Run
from tui_lab.training.attempt import is_finished, tokens_trained
from tui_lab.training.start_weights import load_from_run
from tui_lab.training.trainer import LabTrainer, save_weights

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
    "osf": {"method": "osf", "effective_rank": 0.5},
    "fp8": {"quantization": "fp8", "lora_dropout": 0.1},
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
def test_resumed_run_is_bit_identical(make_trainer: Callable[..., LabTrainer], name: str) -> None:
    recipe = recipe_for(**{"max_steps": STEPS, **RECIPES[name]})
    uninterrupted = make_trainer(recipe, folder="whole")
    uninterrupted.train()
    saved_at = random.randrange(1, STEPS - 1)
    resumed = make_trainer(recipe, folder="broken")
    checkpoint = broken_off(make_trainer, recipe, saved_at, "broken")
    torch.manual_seed(random.randrange(1000))  # whatever was drawn before
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert len(losses(uninterrupted)) >= STEPS
    assert losses(resumed) == losses(uninterrupted), f"saved at step {saved_at}"
    for mine, theirs in zip(weights(resumed), weights(uninterrupted), strict=True):
        assert torch.equal(mine, theirs)


def test_a_new_adapter_beside_an_earlier_one_is_resumed_exactly(
    make_trainer: Callable[..., LabTrainer], tmp_path: Path
) -> None:
    """The ranks of the earlier run stay as they are through the break, and all others are those of a run
    without one."""
    run = Run(tmp_path / "first")
    first = make_trainer(recipe_for(max_steps=2, lora_r=4))
    first.train()
    save_weights(first.model, run.adapter_path)
    make = partial(make_trainer, start=lambda model: load_from_run(model, run, 4))
    recipe = recipe_for(max_steps=STEPS, lora_r=6, lora_alpha=9, frozen_rank=4, from_run="first", seed=7)
    uninterrupted = make(recipe, folder="whole")
    earlier = [weight[:4].clone() for weight in weights(uninterrupted) if weight.shape[0] == 10]
    uninterrupted.train()
    resumed = make(recipe, folder="broken")
    checkpoint = broken_off(make, recipe, 3, "broken")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert losses(resumed) == losses(uninterrupted)
    for mine, theirs in zip(weights(resumed), weights(uninterrupted), strict=True):
        assert torch.equal(mine, theirs)
    after = [weight[:4] for weight in weights(resumed) if weight.shape[0] == 10]
    assert len(earlier) == 14 and all(map(torch.equal, after, earlier))


def test_changed_rate_and_decay_on_resume(
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


def test_best_checkpoint_on_resume_and_when_lost(
    make_trainer: Callable[..., LabTrainer], tmp_path: Path
) -> None:
    recipe = recipe_for(max_steps=6, save_total_limit=1, learning_rate=1.0, max_grad_norm=0.0, optim="sgd")

    def often(folder: str) -> LabTrainer:
        trainer = make_trainer(recipe, folder=folder, saves=True)
        trainer.args.eval_steps = trainer.args.save_steps = 2
        losses = iter([1.0, 3.0, 2.0, 4.0, 5.0, 6.0])
        trainer.validation_loss = lambda: next(losses)  # type: ignore[method-assign]
        return trainer

    often("kept").train()
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"checkpoint-2", "checkpoint-6"}  # the best and the last
    for path in (tmp_path / "kept").iterdir():
        assert checkpoints.validation_error(path) == ""

    # resumed where the best was damaged: the next best takes its place
    (tmp_path / "kept" / "checkpoint-2" / "optimizer.pt").write_bytes(b"")
    longer = often("kept")
    longer.args.max_steps = 10
    longer.train(resume_from_checkpoint=str(tmp_path / "kept" / "checkpoint-6"))
    assert longer.state.best_global_step == 8  # the first that was validated since


def test_tokens_are_counted_over_any_number_of_resumes(make_trainer: Callable[..., LabTrainer]) -> None:
    recipe = recipe_for(max_steps=STEPS)
    uninterrupted = make_trainer(recipe, folder="whole")
    uninterrupted.train()
    checkpoint: Path | None = None
    for saved_at in (2, 4, STEPS):

        def after_step(trainer: LabTrainer, last: int = saved_at) -> None:
            if trainer.state.global_step == last:
                trainer.checkpoint_now()
                trainer.control.should_training_stop = True

        part = make_trainer(recipe, after_step, folder="broken")
        if checkpoint is not None:
            part._total_train_tokens = tokens_trained(checkpoint)  # as an attempt does
        part.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        checkpoint = checkpoints.find(Path(str(part.args.output_dir))).chosen
    assert counted(part) == counted(uninterrupted)


def counted(trainer: LabTrainer) -> list[int]:
    return [int(entry["num_tokens"]) for entry in trainer.state.log_history if "num_tokens" in entry]


def test_resume_at_the_last_step_trains_nothing(make_trainer: Callable[..., LabTrainer]) -> None:
    recipe = recipe_for(max_steps=4)
    checkpoint = broken_off(make_trainer, recipe.changed(max_steps=6), 4, "broken")
    assert not is_finished(checkpoint, 6) and is_finished(checkpoint, 4)
    trainer = make_trainer(recipe, folder="broken")
    trainer.restore_finished(checkpoint)
    assert trainer.state.global_step == 4
    weight = load_file(checkpoint / "adapter_model.safetensors")
    name = next(name for name in weight if "lora_B" in name)
    mine = dict(trainer.model.named_parameters())[name.replace(".weight", ".default.weight")]
    assert torch.equal(mine, weight[name]) and mine.abs().sum() > 0


def test_early_stopping_counts_over_resumes(make_trainer: Callable[..., LabTrainer], tmp_path: Path) -> None:
    recipe = recipe_for(max_steps=20, early_stopping_patience=3)

    def watched(bad: int) -> LabTrainer:
        trainer = make_trainer(recipe, lambda t: stop(t, bad), folder="broken", saves=True)
        trainer.args.eval_steps = trainer.args.save_steps = 2
        trainer.args.load_best_model_at_end = True
        trainer.validation_loss = lambda: float(trainer.state.global_step)  # type: ignore[method-assign]
        return trainer

    def stop(trainer: LabTrainer, at: int) -> None:
        if trainer.state.global_step == at:
            trainer.control.should_training_stop = True

    watched(6).train()  # the best at 2, worse at 4 and 6
    found = checkpoints.find(tmp_path / "broken").chosen
    assert found is not None and not is_finished(found, 20)
    resumed = watched(99)
    resumed.train(resume_from_checkpoint=str(found))
    assert resumed.state.global_step == 8  # and not at 12
    found = checkpoints.find(tmp_path / "broken").chosen
    assert found is not None and checkpoints.step_of(found) == 8 and is_finished(found, 20)
