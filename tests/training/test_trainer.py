"""The trainer on top of trl's: validation by hand, packing, AdaLoRA, checkpoints, undisturbed losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import trl.kernels.chunked_logprob as logprob
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tests.training.conftest import losses, recipe_for, rows
from tui_lab.decoding.generate import generate_answers
from tui_lab.training import trainer as trainer_module
from tui_lab.training import trainer_seams
from tui_lab.training.adapters import orthogonality
from tui_lab.training.rng import preserve_rng_state
from tui_lab.training.trainer import LabTrainer, save_weights

Make = Callable[..., LabTrainer]


def loss_by_hand(model: Any, data: list[dict[str, list[int]]]) -> float:
    """The token-weighted mean negative log-likelihood, one row at a time through the plain logits."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in data:
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].float()
            labels = torch.tensor(row["labels"][1:])
            total += float(cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
            tokens += int((labels != -100).sum())
    return total / tokens


@pytest.mark.parametrize("packing", [False, True])
def test_validation_loss_does_not_depend_on_batching(
    make_trainer: Make, tiny_llama: Path, packing: bool
) -> None:
    trainer = make_trainer(recipe_for(packing=packing, per_device_train_batch_size=3))
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()
    assert trainer.validation_loss() == pytest.approx(loss_by_hand(plain, rows(16, seed=1)), abs=1e-5)


def test_evaluation_leaves_losses_bit_identical(make_trainer: Make) -> None:
    """With dropout on, every training loss is the same to the last bit, however often one looks."""
    recipe = recipe_for(lora_dropout=0.3, num_train_epochs=2, max_steps=0)

    def evaluate(trainer: LabTrainer) -> None:
        trainer.validation_loss()
        with preserve_rng_state(trainer.model):
            generate_answers(
                trainer.model, trainer.processing_class, [[3, 10], [5]], stop_ids=[1], max_new_tokens=3
            )
            torch.rand(3)

    blind = make_trainer(recipe)
    blind.train()
    watched = make_trainer(recipe, after_step=evaluate, folder="watched")
    watched.args.eval_steps = 2
    evaluate(watched)
    watched.train()
    assert losses(watched) == losses(blind)
    assert len(losses(blind)) == 16


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"])
def test_every_optimiser_learns(make_trainer: Make, optim: str) -> None:
    rate = 0.5 if optim == "sgd" else 1e-2
    trainer = make_trainer(recipe_for(optim=optim, learning_rate=rate))
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0] - 0.1


def test_nf4_state_is_restored(make_trainer: Make) -> None:
    """On AVX512-BF16 processors bitsandbytes repacks weights in evaluation mode; a run must not."""
    trainer = make_trainer(recipe_for(quantization="nf4"))
    loss = trainer.validation_loss()
    stored = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    for _ in range(2):
        trainer.model.train()
        trainer.model.eval()
        assert trainer.validation_loss() == loss
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, stored[name])


def test_adalora_prunes_to_its_target_and_counts_its_regulariser(make_trainer: Make) -> None:
    recipe = recipe_for(method="adalora", init_r=6, target_r=3, max_steps=40)
    trainer = make_trainer(recipe)
    config = trainer.model.peft_config["default"]
    batch = trainer.data_collator([dict(row) for row in rows(4)])
    trainer.model.eval()
    bare = float(trainer.compute_loss(trainer.model, dict(batch)))
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    with_term = float(trainer.compute_loss(trainer.model, dict(batch)))
    term = config.orth_reg_weight * float(orthogonality(trainer.model))
    assert term > 0.1
    assert with_term == pytest.approx(bare + term, rel=1e-4)
    trainer.train()
    ranks = [
        int((weight.abs() > 0).sum()) for name, weight in trainer.model.named_parameters() if "lora_E" in name
    ]
    assert len(ranks) == 14
    assert sum(ranks) == 14 * recipe.target_r


def test_orthogonality_of_a_known_matrix() -> None:
    class Pair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lora_A = torch.nn.ParameterDict({"default": torch.nn.Parameter(torch.eye(2, 4) * 2)})
            self.lora_B = torch.nn.ParameterDict({"default": torch.nn.Parameter(torch.eye(4, 2))})

    # A Aᵀ − I = 3·I(2), norm √18; BᵀB − I = 0; their mean
    assert float(orthogonality(Pair())) == pytest.approx(math.sqrt(18) / 2)


@pytest.mark.parametrize(
    "values", [{}, {"use_dora": True}, {"method": "adalora"}, {"method": "ia3"}, {"method": "loha"}]
)
def test_saved_adapter_loads_with_plain_peft(
    make_trainer: Make, tiny_llama: Path, tmp_path: Path, values: Any
) -> None:
    trainer = make_trainer(recipe_for(**values, max_steps=20))
    trainer.train()
    save_weights(trainer.model, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert loss_by_hand(loaded, rows(16, seed=1)) == pytest.approx(trainer.validation_loss(), abs=1e-4)


def test_checkpoints_hold_no_pickled_arguments_and_resume_bit_equal(make_trainer: Make) -> None:
    recipe = recipe_for(lora_dropout=0.2)
    uninterrupted = make_trainer(recipe)
    uninterrupted.train()
    broken = make_trainer(
        recipe,
        after_step=lambda t: (
            t.state.global_step == 5
            and (t.checkpoint_now(), t.control.__setattr__("should_training_stop", True))
        ),
        folder="broken",
    )
    broken.train()
    [checkpoint] = Path(broken.args.output_dir).glob("checkpoint-*")
    names = {path.name for path in checkpoint.iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= names
    assert "training_args.bin" not in names and "tokenizer.json" not in names
    resumed = make_trainer(recipe, folder="broken")
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert losses(resumed) == losses(uninterrupted)


def test_only_trained_positions_reach_the_output_layer_on_a_processor(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses as with all positions, from fewer logits."""
    scored: list[int] = []
    fold = logprob._forward_tile

    def counting(tile: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        scored.append(len(tile))
        return fold(tile, *args, **kwargs)

    monkeypatch.setattr(logprob, "_forward_tile", counting)
    found = []
    for context in (trainer_seams.trained_positions_only, nullcontext):
        monkeypatch.setattr(trainer_module, "trained_positions_only", context)
        scored.clear()
        trainer = make_trainer(recipe_for(max_steps=3))
        trainer.train()
        found.append((losses(trainer), sum(scored)))
    (chosen, few), (whole, many) = found
    assert chosen == pytest.approx(whole, rel=1e-6)
    assert few < many
