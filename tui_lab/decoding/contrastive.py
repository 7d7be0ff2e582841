"""Contrastive search (Su et al. 2022, as implemented in transformers 4.55): of the k most probable tokens it
takes the one with the largest (1 − α)·probability − α·(largest cosine similarity of its hidden state to any
earlier one). Hidden states are taken after the final norm. Pure functions of tensors."""

from __future__ import annotations

import torch


def unit(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states (…, H) scaled to length 1, in float32."""
    hidden = hidden.float()
    length: torch.Tensor = hidden.norm(dim=-1, keepdim=True)
    return hidden / length


def propose(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (k,) and tokens (k,) of the k most probable continuations of logits (V,).

    A vocabulary smaller than k is padded with its last token at probability −1, which never wins."""
    size = min(k, logits.shape[-1])
    probability, tokens = logits.softmax(-1).topk(size)
    if size < k:
        tokens = torch.cat((tokens, tokens[-1:].expand(k - size)))
        probability = torch.nn.functional.pad(probability, (0, k - size), value=-1.0)
    return probability, tokens


def score(
    probability: torch.Tensor,
    candidates: torch.Tensor,
    context: torch.Tensor,
    alpha: float,
    unused: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score (k,) and degeneration penalty (k,) of the candidates.

    ``candidates`` (k, H): unit hidden state of each candidate as the next token; ``context`` (t, H): unit
    hidden states of all earlier positions, without those where ``unused`` (t,) is true."""
    similarity = candidates @ context.T
    if unused is not None:
        similarity = similarity.masked_fill(unused, -torch.inf)
    penalty = similarity.amax(-1)
    return (1.0 - alpha) * probability - alpha * penalty, penalty
