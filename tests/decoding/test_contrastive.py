"""Contrastive search against a slow version written from its definition: no cache, no batch, one forward
over the whole text for every candidate."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.decoding.conftest import ARCHITECTURES, prompt_of
from tests.decoding.test_parity import lockstep
from tui_lab.decoding.strategies import Contrastive, Greedy, Sample


@torch.no_grad()
def states(model: Any, ids: list[int]) -> torch.Tensor:
    """Hidden states after the final norm of all positions (T, H)."""
    inner = getattr(model, model.base_model_prefix)(torch.tensor([ids]), use_cache=False)
    return inner.last_hidden_state[0]


@torch.no_grad()
def next_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of the next token (V,)."""
    return model(torch.tensor([ids]), use_cache=False).logits[0, -1]


def slow_contrastive(
    model: Any, prompt: tuple[int, ...], alpha: float, k: int, new: int, stops: frozenset[int]
) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + new:
        context = states(model, ids)
        probabilities = torch.softmax(next_logits(model, ids).double(), 0)
        ranked = sorted(range(len(probabilities)), key=lambda v: -float(probabilities[v]))[:k]
        scores = []
        for candidate in ranked:
            state = states(model, [*ids, candidate])[-1].double()
            likeness = max(float(state @ past / (state.norm() * past.norm())) for past in context.double())
            scores.append((1 - alpha) * float(probabilities[candidate]) - alpha * likeness)
        ids.append(ranked[max(range(k), key=lambda i: scores[i])])
        if ids[-1] in stops:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_equals_the_definition(tiny_model: Any, model_type: str) -> None:
    model = tiny_model(model_type)
    prompt = prompt_of(15, 3)
    stops = frozenset({7, 40})
    for alpha, k in ((0.6, 4), (0.3, 3)):
        fast = lockstep(
            model, prompt, Greedy(), Contrastive(alpha, k), Sample(), max_new_tokens=6, stop_ids=stops
        )
        assert list(fast[1].token_ids) == slow_contrastive(model, prompt, alpha, k, 6, stops)


@pytest.mark.parametrize("alpha", [0.2, 0.6, 1.0])
def test_equals_the_definition_on_stories(stories: tuple[Any, Any], alpha: float) -> None:
    model, tokenizer = stories
    prompt = tuple(tokenizer("Once upon a time")["input_ids"])
    fast = lockstep(model, prompt, Contrastive(alpha, 4), max_new_tokens=16, stop_ids=frozenset({1, 2}))[0]
    assert list(fast.token_ids) == slow_contrastive(model, prompt, alpha, 4, 16, frozenset({1, 2}))


def test_candidates_are_recorded(tiny_model: Any) -> None:
    result = lockstep(tiny_model("llama"), prompt_of(9), Contrastive(0.6, 5), max_new_tokens=8, inspect=3)[0]
    assert len(result.tokens) == 8
    for token in result.tokens:
        assert len(token.candidates) == 5
        best = max(token.candidates, key=lambda c: c.score)
        assert best.token_id == token.token_id
        for c in token.candidates:
            assert c.score == pytest.approx(0.4 * c.confidence - 0.6 * c.degeneration_penalty, abs=1e-5)
            assert -1.0001 <= c.degeneration_penalty <= 1.0001


def test_more_candidates_than_tokens(tiny_model: Any) -> None:
    """k beyond the vocabulary takes the whole vocabulary."""
    model = tiny_model("llama", vocab_size=12)
    prompt = (3, 4, 5, 6)
    wide, all_of_it = lockstep(model, prompt, Contrastive(0.5, 20), Contrastive(0.5, 12), max_new_tokens=10)
    assert wide.token_ids == all_of_it.token_ids
