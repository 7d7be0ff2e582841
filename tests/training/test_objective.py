"""Every protection through the trainer of a run: what it does to the loss, the weights, and a resume."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from tests.training.conftest import CPU, losses, recipe_for, rows, word_tokenizer
from tui_lab.models.loading import ModelSource
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.training import layers
from tui_lab.training.base_model import load_base
from tui_lab.training.build_trainer import EncodedRows, build_trainer
from tui_lab.training.trainer import LabTrainer

Make = Callable[..., LabTrainer]


def _batch(trainer: LabTrainer, count: int = 4) -> dict[str, Any]:
    return trainer.data_collator([trainer.train_dataset[i] for i in range(count)])


def _loss(trainer: LabTrainer, batch: dict[str, Any]) -> torch.Tensor:
    """The trainer's loss of a batch that is a whole step, as the Trainer asks for it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    loss: torch.Tensor = trainer.compute_loss(trainer.model, dict(batch))
    return loss


def _logits(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits.float()


def _moved(trainer: LabTrainer) -> LabTrainer:
    """With weights that differ from the start, so that terms are not zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.05)
    return trainer


def test_a_plain_recipe_has_no_objective(make_trainer: Make) -> None:
    assert make_trainer(recipe_for()).objective is None


@pytest.mark.parametrize("method", ["lora", "full"])
def test_label_smoothing_and_focal_loss(make_trainer: Make, method: str) -> None:
    for values in ({"label_smoothing_factor": 0.2}, {"focal_gamma": 2.0}):
        trainer = _moved(make_trainer(recipe_for(method=method, **values)))
        batch = _batch(trainer)
        logits = _logits(trainer.model, batch)[:, :-1].flatten(0, 1)
        labels = batch["labels"][:, 1:].flatten()
        if "focal_gamma" in values:
            each = cross_entropy(logits, labels, reduction="none", ignore_index=-100)
            wanted = ((1 - (-each).exp()) ** 2 * each).sum() / (labels >= 0).sum()
        else:
            wanted = cross_entropy(logits, labels, label_smoothing=0.2)
        torch.testing.assert_close(_loss(trainer, batch).detach(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "lora"},
        {"method": "lora", "quantization": "nf4"},
        {"method": "lora", "packing": True},
        {"method": "lora", "gradient_checkpointing": True},
        {"method": "full"},
        {"method": "full", "gradient_checkpointing": True},
        {"method": "ia3"},
        {"method": "prompt_tuning"},
        {"method": "prefix"},
    ],
    ids=lambda values: "-".join(f"{key}={value}" for key, value in values.items()),
)
def test_kl_from_the_base_is_added(make_trainer: Make, values: dict[str, Any]) -> None:
    recipe = recipe_for(kl_weight=0.5, **values)
    trainer = make_trainer(recipe)
    base = make_trainer(recipe.changed(kl_weight=0.0), folder="base")
    batch = _batch(trainer)
    assert trainer.objective is not None
    trained = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    if recipe.method in ("lora", "full", "ia3"):
        _loss(trainer, batch)
        assert trainer.objective.parts["kl_to_base"] == pytest.approx(0.0, abs=1e-5), "at the start"
    _moved(trainer)
    loss = _loss(trainer, batch)
    assert [name for name, weight in trainer.model.named_parameters() if weight.requires_grad] == trained
    found = trainer.objective.parts["kl_to_base"]
    assert found > 1e-6
    trainer.objective, objective = None, trainer.objective
    plain = _loss(trainer, batch)
    torch.testing.assert_close(loss, plain + 0.5 * found, rtol=1e-4, atol=1e-5)
    if recipe.method in ("lora", "full", "ia3") and not recipe.packing:
        untouched = base.model if recipe.method == "full" else base.model.get_base_model()
        now, before = _logits(trainer.model.eval(), batch), _logits(untouched.eval(), batch)
        each = kl_div(log_softmax(now, -1), log_softmax(before, -1), reduction="none", log_target=True)
        wanted = each.sum(-1)[batch["attention_mask"].bool()].mean()
        assert found == pytest.approx(float(wanted), rel=1e-3, abs=1e-6)
    trainer.objective = objective


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("term", ["kl_weight", "l2_to_start"])
def test_larger_kl_weight_ends_nearer_to_the_base(make_trainer: Make, method: str, term: str) -> None:
    distances = []
    for weight in (1e-6, 50.0):
        trainer = make_trainer(recipe_for(method=method, **{term: weight}), folder=f"w{weight}")
        trainer.train()
        assert trainer.objective is not None
        _loss(trainer, _batch(trainer))
        distances.append(trainer.objective.parts["kl_to_base" if term == "kl_weight" else term])
        assert any(f"part {name}" in trainer.state.log_history[0] for name in trainer.objective.parts)
    assert distances[1] < 0.5 * distances[0]


@pytest.mark.parametrize("values", [{"method": "full"}, {"quantization": "nf4"}, {}])
def test_ewc_reduces_the_change_of_important_weights(make_trainer: Make, values: dict[str, Any]) -> None:
    """Under EWC, the Fisher-weighed change is smaller than without."""
    changes = []
    for weight in (1e-6, 1.0):
        trainer = make_trainer(recipe_for(ewc_lambda=weight, **values), folder=f"w{weight}")
        assert trainer.objective is not None
        trainer.objective.measure_importance(rows(8, seed=9))
        assert set(trainer.objective.importance) == set(trainer.objective.changes)
        assert all(weight.grad is None for weight in trainer.model.parameters())
        trainer.train()
        _loss(trainer, _batch(trainer))
        changes.append(trainer.objective.parts["ewc"])
    assert changes[1] < 0.5 * changes[0]


def test_terms_do_not_depend_on_gradient_accumulation(make_trainer: Make) -> None:
    """One batch of eight and two of four make the same steps."""
    ends = []
    for size, times in ((8, 1), (4, 2)):
        recipe = recipe_for(
            method="full", kl_weight=0.3, l2_to_start=0.1, max_steps=3, learning_rate=1e-3,
            per_device_train_batch_size=size, gradient_accumulation_steps=times,
        )  # fmt: skip
        trainer = make_trainer(recipe, folder=f"b{size}")
        # rows of one length: then the mean over batches is the mean over tokens
        ids = [[3 + i + j for j in range(10)] for i in range(16)]
        dataset = trainer.train_dataset.from_dict({"input_ids": ids, "labels": ids})
        trainer.train_dataset = dataset
        trainer.train()
        ends.append(trainer.model.get_input_embeddings().weight.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# layers


@pytest.mark.parametrize("method", ["lora", "full", "ia3"])
def test_frozen_layers_do_not_change(make_trainer: Make, method: str) -> None:
    trainer = make_trainer(recipe_for(method=method, frozen_layers=1))
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    changed = {n for n, w in trainer.model.named_parameters() if not torch.equal(w, before[n])}
    assert changed and all(layers.depth_of(name, 2) == 2 or method == "full" for name in changed)
    assert not any(layers.depth_of(name, 2) <= 1 for name in changed)


@pytest.mark.parametrize("values", [{"method": "full"}, {}, {"kl_weight": 0.1}])
def test_gradual_unfreezing_begins_at_the_top(make_trainer: Make, values: dict[str, Any]) -> None:
    changed_at: dict[int, set[int]] = {}

    def record(trainer: LabTrainer) -> None:
        changed_at[trainer.state.global_step] = {
            layers.depth_of(n, 2)
            for n, w in trainer.model.named_parameters()
            if not torch.equal(w, before[n])
        }

    trainer = make_trainer(recipe_for(gradual_unfreezing=True, **values), after_step=record)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    top, below = (2, 1)
    assert top in changed_at[2] and below not in changed_at[6]
    assert below in changed_at[12]
    assert losses(trainer)[-1] < losses(trainer)[0]
    rates = sorted({group["lr"] for group in trainer.optimizer.param_groups}, reverse=True)
    assert trainer.optimizer.param_groups[0]["lr"] == rates[0]


def test_layer_rates_in_the_optimiser(make_trainer: Make) -> None:
    trainer = make_trainer(recipe_for(method="full", layer_lr_decay=0.5, learning_rate=1e-2))
    optimizer = trainer.create_optimizer()
    rates = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    for name, weight in trainer.model.named_parameters():
        wanted = {0: 0.0025, 1: 0.005, 2: 0.01, 3: 0.01}[layers.depth_of(name, 2)]
        assert rates[id(weight)] == pytest.approx(wanted)
    assert len(rates) == len(list(trainer.model.parameters()))


# --------------------------------------------------------------------------------------------------
# tasks


def _with_tasks(tiny_llama: Path, folder: Path, **values: Any) -> LabTrainer:
    recipe = recipe_for(method="full", learning_rate=1e-3, **values)
    torch.manual_seed(0)
    settled = ResolvedValues(compute_dtype="float32", optim=recipe.optim, max_length=64)
    base = load_base(ModelSource(str(tiny_llama)), recipe, CPU, settled)
    train: list[dict[str, Any]] = [{**row, "task": "rule"} for row in rows(48)]
    for row in rows(16, seed=4):  # noise: nothing to learn, so its loss stays high
        ids = [3 + (i * 7919 + 13 * len(row["input_ids"])) % 300 for i in row["input_ids"]]
        train.append({"input_ids": ids, "labels": ids, "task": "noise"})
    trainer = build_trainer(
        recipe, base, word_tokenizer(), EncodedRows(train, rows(8, seed=1)), settled,
        folder=folder, device="cpu",
    )  # fmt: skip
    trainer.args.eval_steps = trainer.args.save_steps = 1_000
    return trainer


def test_task_weights_are_learned(tiny_llama: Path, tmp_path: Path) -> None:
    trainer = _with_tasks(tiny_llama, tmp_path / "a", uncertainty_weighting=True)
    assert trainer.objective is not None and trainer.objective.tasks == ["noise", "rule"]
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(64)])
    loss = _loss(trainer, batch)
    parts = trainer.objective.parts
    # σ = 1 at the start: half of each task's own mean loss
    assert float(loss) == pytest.approx(0.5 * (parts["task noise"] + parts["task rule"]), rel=1e-4)
    plain = copy.copy(batch)
    logits = _logits(trainer.model, {k: v for k, v in plain.items() if k != "task"})[:, :-1]
    for place, name in enumerate(trainer.objective.tasks):
        of = batch["task"] == place
        wanted = cross_entropy(logits[of].flatten(0, 1), batch["labels"][of][:, 1:].flatten())
        assert parts[f"task {name}"] == pytest.approx(float(wanted), rel=1e-4)
        assert parts[f"sigma {name}"] == pytest.approx(1.0)  # where every weight starts
    trainer.train()
    assert trainer.objective.raw_sigma is not None
    assert not torch.allclose(trainer.objective.raw_sigma, trainer.objective.raw_sigma[0].detach())


def test_task_weights_are_restored_on_resume(tiny_llama: Path, tmp_path: Path) -> None:
    uninterrupted = _with_tasks(tiny_llama, tmp_path / "whole", uncertainty_weighting=True, save_steps=6)
    uninterrupted.args.save_steps = 6
    uninterrupted.train()
    again = _with_tasks(tiny_llama, tmp_path / "again", uncertainty_weighting=True)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert uninterrupted.objective is not None and again.objective is not None
    assert torch.equal(uninterrupted.objective.raw_sigma, again.objective.raw_sigma)  # type: ignore[arg-type]
    assert losses(uninterrupted)[-1] == losses(again)[-1]


def test_gradual_unfreezing_resumes_to_the_same_losses(make_trainer: Make) -> None:
    recipe = recipe_for(
        method="full", gradual_unfreezing=True, layer_lr_decay=0.8, l2_to_start=0.01, save_total_limit=9
    )
    uninterrupted = make_trainer(recipe, folder="whole", saves=True)
    uninterrupted.args.save_steps = 5
    uninterrupted.train()
    again = make_trainer(recipe, folder="again")
    again.train(resume_from_checkpoint=str(Path(str(uninterrupted.args.output_dir)) / "checkpoint-5"))
    assert losses(again)[-7:] == losses(uninterrupted)[-7:]
