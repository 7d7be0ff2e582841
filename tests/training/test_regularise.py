"""The change of weights against the matrices written out; Fisher information against gradients row by row."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch

from tests.training.architectures import VOCABULARY, make
from tui_lab.training import regularise
from tui_lab.training.regularise import Dense, LowRank


def _lora(name: str, **values: Any) -> Any:
    settings: dict[str, Any] = {"r": 3, "lora_alpha": 12, "target_modules": "all-linear", **values}
    return peft.get_peft_model(make(name), peft.LoraConfig(task_type="CAUSAL_LM", **settings))


def _rows(count: int = 3) -> list[dict[str, list[int]]]:
    chance = torch.Generator().manual_seed(5)
    ids = [torch.randint(2, VOCABULARY, (9,), generator=chance).tolist() for _ in range(count)]
    return [{"input_ids": row, "labels": [-100, -100, *row[2:]]} for row in ids]


@pytest.mark.parametrize("start", [False, True])
def test_low_rank_change_equals_the_full_matrix(start: bool) -> None:
    torch.manual_seed(0)
    a, b, a0, b0 = torch.randn(3, 5), torch.randn(7, 3), torch.randn(3, 5), torch.randn(7, 3)
    importance = torch.rand(7, 5)
    matrix = 0.5 * (b @ a - (b0 @ a0 if start else 0))
    change = LowRank(a, b, 0.5, (a0, b0) if start else None)
    torch.testing.assert_close(change.squared(), matrix.square().sum())
    torch.testing.assert_close(change.weighted(importance), (importance * matrix.square()).sum())
    turned = LowRank(a, b, 0.5, (a0, b0) if start else None, transposed=True)
    torch.testing.assert_close(turned.weighted(importance.T), (importance * matrix.square()).sum())


def test_large_matrices_are_weighted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    change, importance = LowRank(torch.randn(2, 6), torch.randn(10, 2), 1.0), torch.rand(10, 6)
    at_once = change.weighted(importance)
    monkeypatch.setattr(regularise, "ENTRIES_AT_ONCE", 13)
    torch.testing.assert_close(change.weighted(importance), at_once)


@pytest.mark.parametrize(
    ("name", "init"), [("llama", True), ("gpt2", True), ("neox", True), ("llama", "olora")]
)
def test_change_of_an_adapter_equals_merging(name: str, init: Any) -> None:
    model = _lora(name, init_lora_weights=init)
    changes = regularise.weight_changes(model)
    before = {n: w.clone() for n, w in _merged(model).items()}
    assert float(regularise.l2(changes).detach()) == pytest.approx(0.0, abs=1e-4)
    with torch.no_grad():
        for parameter_name, weight in model.named_parameters():
            if "lora_" in parameter_name:
                weight.add_(torch.randn_like(weight) * 0.1)
    after = _merged(model)
    wanted = 0.5 * sum(float((after[n] - before[n]).square().sum()) for n in before)
    assert float(regularise.l2(changes).detach()) == pytest.approx(wanted, rel=1e-4)
    fisher = {n: torch.rand_like(w) for n, w in after.items()}
    weighed = 0.5 * sum(float((fisher[n] * (after[n] - before[n]).square()).sum()) for n in before)
    assert float(regularise.ewc(changes, fisher).detach()) == pytest.approx(weighed, rel=1e-4)


def _merged(model: Any) -> dict[str, torch.Tensor]:
    """The weight that each adapted layer would have, by peft's own account."""
    return {
        name: module.base_layer.weight.detach() + module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and "default" in module.lora_A
    }


def test_the_change_of_full_weights() -> None:
    model = make("llama")
    changes = regularise.weight_changes(model)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    assert float(regularise.l2(changes).detach()) == pytest.approx(0.5 * model.lm_head.weight.numel())
    assert all(isinstance(change, Dense) for change in changes.values())


def _expected(model: Any, seed: int, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Squares of the gradients of drawn answers, by autograd on the weights themselves."""
    generator = torch.Generator().manual_seed(seed)
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for row in _rows():
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, 1:-1].float()
        log_probs = logits.log_softmax(-1)
        drawn = torch.multinomial(log_probs.detach().exp(), 1, generator=generator)
        found = torch.autograd.grad(log_probs.gather(1, drawn).sum(), list(weights.values()))
        for name, gradient in zip(weights, found, strict=True):
            sums[name] += gradient.square() / 3
    mean = sum(float(s.sum()) for s in sums.values()) / sum(s.numel() for s in sums.values())
    return {name: total / mean for name, total in sums.items()}


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox", "gemma2"])
def test_fisher_of_frozen_layers_equals_their_gradients(name: str) -> None:
    """The layers under an adapter are frozen (or in 4 bits): what autograd would give if they were not."""
    model = _lora(name)
    found = regularise.fisher(model, regularise.weight_changes(model), _rows(), seed=3)
    weights = {
        layer: module.base_layer.weight.requires_grad_(True)
        for layer, module in model.named_modules()
        if hasattr(module, "lora_A") and "default" in module.lora_A
    }
    wanted = _expected(model, 3, weights)
    assert set(found) == set(wanted)
    for layer, value in wanted.items():
        torch.testing.assert_close(found[layer], value, rtol=1e-3, atol=1e-4)


def test_fisher_of_full_weights() -> None:
    model = make("llama")
    changes = regularise.weight_changes(model)
    found = regularise.fisher(model, changes, _rows(), seed=3)
    wanted = _expected(model, 3, dict(model.named_parameters()))
    for layer, value in wanted.items():
        torch.testing.assert_close(found[layer], value, rtol=1e-3, atol=1e-4)
    assert all(weight.grad is None for weight in model.parameters())
