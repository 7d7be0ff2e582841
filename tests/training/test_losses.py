"""The cores of losses against torch's own over full logits, on architectures that treat them differently."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from tests.training.architectures import MAKERS, VOCABULARY, make
from tui_lab.training import losses


def _read(model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (N, H) and the model's own logits (N, V)."""
    states = model.base_model(input_ids=ids).last_hidden_state.flatten(0, 1)
    return states, model(input_ids=ids).logits.flatten(0, 1)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MAKERS)
def test_kl_and_gradients_equal_torch(name: str, ids: torch.Tensor) -> None:
    now, base = make(name), make(name, seed=1)
    states, logits = _read(now, ids)
    with torch.no_grad():
        base_states, base_logits = _read(base, ids)
    found = losses.kl_from_base(states, losses.output_head(now), base_states, losses.output_head(base))
    wanted = kl_div(log_softmax(logits, -1), log_softmax(base_logits, -1), reduction="none", log_target=True)
    wanted = wanted.sum(-1)
    assert wanted.min() > 0.001
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    weights = [p for p in now.parameters() if p.requires_grad]
    ours = torch.autograd.grad(found.sum(), weights, retain_graph=True, allow_unused=True)
    theirs = torch.autograd.grad(wanted.sum(), weights, allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_label_smoothing_equals_torch(name: str, ids: torch.Tensor) -> None:
    model = make(name)
    states, logits = _read(model, ids)
    labels = ids.flatten()
    log_probs = log_softmax(logits, -1).gather(1, labels[:, None])[:, 0]
    spread = losses.mean_negative_log_probability(states, losses.output_head(model))
    for factor in (0.0, 0.1, 0.6):
        wanted = cross_entropy(logits, labels, reduction="none", label_smoothing=factor)
        found = losses.label_smoothed(log_probs, spread, factor)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    weight = model.get_output_embeddings().weight
    [ours] = torch.autograd.grad(spread.sum(), [weight], retain_graph=True)
    [theirs] = torch.autograd.grad(-log_softmax(logits, -1).mean(-1).sum(), [weight])
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_no_tokens() -> None:
    states = torch.zeros(0, 4, requires_grad=True)
    head = losses.OutputHead(torch.ones(5, 4), None, 1.0, None)
    assert losses.mean_negative_log_probability(states, head).shape == (0,)
    losses.kl_from_base(states, head, torch.zeros(0, 4), head).sum().backward()


def test_focal_loss_by_hand() -> None:
    p = torch.tensor([0.9, 0.5, 0.1])
    found = losses.focal(p.log(), 2.0)
    wanted = torch.tensor([0.01 * -math.log(0.9), 0.25 * math.log(2), 0.81 * math.log(10)])
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(losses.focal(p.log(), 0.0), -p.log())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_gradient_is_finite_at_probability_one(gamma: float) -> None:
    log_probs = torch.tensor([0.0, -1e-12, -50.0], requires_grad=True)
    losses.focal(log_probs, gamma).sum().backward()
    assert log_probs.grad is not None and log_probs.grad.isfinite().all()


def test_uncertainty_weighting_by_hand_and_at_its_optimum() -> None:
    raw = torch.tensor([losses.raw_sigma_of(1.0), losses.raw_sigma_of(2.0)], requires_grad=True)
    values = torch.tensor([3.0, 4.0])
    found = losses.weighted_by_uncertainty(values, raw)
    assert float(found.detach()) == pytest.approx(3 / 2 + 4 / 8 + math.log(2), abs=1e-6)
    # dL/dσ = 0 where σ² = L: each task counts a half, however large its loss is
    optimizer = torch.optim.Adam([raw], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        losses.weighted_by_uncertainty(values, raw).backward()
        optimizer.step()
    sigma = torch.nn.functional.softplus(raw.detach())
    torch.testing.assert_close(sigma**2, values, rtol=1e-2, atol=1e-2)
