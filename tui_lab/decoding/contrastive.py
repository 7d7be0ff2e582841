"""Contrastive search (Su et al. 2022), as transformers 4.55 had it: of the k most probable tokens the one
with the largest (1 − α)·probability − α·(largest cosine of its hidden state to any before it), hidden
states taken after the final norm. Pure functions of tensors."""

from __future__ import annotations

import torch


def unit(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states (…, H) at length 1, in float32."""
    hidden = hidden.float()
    return hidden / hidden.norm(dim=-1, keepdim=True)


def propose(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (k,) and tokens (k,) of the k most probable continuations of logits (V,)."""
    probability, tokens = logits.softmax(-1).topk(min(k, logits.shape[-1]))
    return probability, tokens


def score(
    probability: torch.Tensor, candidates: torch.Tensor, context: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score (k,) and degeneration penalty (k,) of candidates.

    ``candidates`` (k, H) and ``context`` (t, H) are hidden states of length 1: of each candidate as the
    next token, and of all positions so far."""
    penalty = (candidates @ context.T).amax(-1)
    return (1.0 - alpha) * probability - alpha * penalty, penalty
