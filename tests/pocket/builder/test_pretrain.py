"""Pre-training: the packing, the loss, the schedule, and a build that goes on where it was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tui_lab.pocket.builder import pretrain
from tui_lab.pocket.builder.tokenizer import Encoder, load_tokenizer


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(load_tokenizer())


def test_windows_are_full_and_documents_whole(encoder: Encoder) -> None:
    plan = pretrain.Plan(seed=3, steps=100)
    for _, (ids, weights) in zip(range(2), pretrain.batches(encoder, plan, 0), strict=False):
        assert ids.shape == weights.shape == (pretrain.TOKENS_A_STEP // 256, 256)
        assert (ids == encoder.pad).float().mean() < 0.05
        assert (weights[ids == encoder.pad] == 0).all()
        assert (weights[ids == encoder.separator] == 0).all()
        assert 0.2 < weights.mean() < 1


def test_a_block_depends_on_seed_and_number_alone(encoder: Encoder) -> None:
    def first(seed: int, block: int) -> torch.Tensor:
        return next(pretrain.batches(encoder, pretrain.Plan(seed=seed, steps=200), block))[0]

    assert torch.equal(first(1, 1), first(1, 1))
    assert not torch.equal(first(1, 1), first(1, 2))
    assert not torch.equal(first(1, 1), first(2, 1))


def test_the_last_part_is_long() -> None:
    plan = pretrain.Plan(steps=1900)
    windows = [plan.window(step) for step in range(plan.steps)]
    assert windows[0] == 256 and {1024, 2048} <= set(windows)
    assert 0.1 < sum(window >= 1024 for window in windows) / len(windows) < 0.2
    for block in range(0, plan.steps, pretrain.BLOCK_STEPS):
        assert len(set(windows[block : block + pretrain.BLOCK_STEPS])) == 1


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    plan = pretrain.Plan(steps=1000)
    assert plan.rate(0) < 0.1 < plan.rate(10) < plan.rate(25) == plan.rate(399) == 1.0
    assert plan.rate(700) == pytest.approx(0.5)
    assert plan.rate(999) < 0.01


def test_the_weighted_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1 / 3, 1 / 3, 1 / 3]]]))
    ids, weights = torch.tensor([[2, 0, 1]]), torch.tensor([[9.0, 1.0, 3.0]])
    by_hand = -(1.0 * torch.log(torch.tensor(0.5)) + 3.0 * torch.log(torch.tensor(0.8))) / 4.0
    assert pretrain.weighted_loss(logits, ids, weights).item() == pytest.approx(by_hand.item(), abs=1e-6)


def small_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama as the shipped one, of one layer."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, **sizes))


def test_a_cut_off_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "new_model", small_model)
    monkeypatch.setattr(pretrain, "BLOCK_STEPS", 2)
    monkeypatch.setattr(pretrain, "TOKENS_A_STEP", 2048)
    tokenizer, plan = load_tokenizer(), pretrain.Plan(seed=2, steps=4)
    said: list[str] = []
    whole, facts = pretrain.train(plan, tokenizer, tmp_path / "a.pt", said.append, compiled=False)
    assert facts.steps == 4

    class Cut(Exception):
        pass

    def cut_after_one_block(line: str) -> None:
        # The progress of a block is saved after its report: the second report comes when one block is safe.
        if line.startswith("step 4"):
            raise Cut

    with pytest.raises(Cut):
        pretrain.train(plan, tokenizer, tmp_path / "b.pt", cut_after_one_block, compiled=False)
    again, _ = pretrain.train(plan, tokenizer, tmp_path / "b.pt", said.append, compiled=False)
    assert "going on after step 2" in said
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
