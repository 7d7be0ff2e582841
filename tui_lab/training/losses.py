"""Losses besides plain cross-entropy: pure functions over per-token values.

What needs the whole vocabulary (label smoothing, KL divergence from the base) uses trl's chunked divergence,
which computes on hidden states and the output layer in tiles: the logits of a batch never exist in full, in
neither direction. Sources: label smoothing (Szegedy et al. 2016), focal loss (Lin et al. 2017),
uncertainty weighting (Kendall et al. 2018), KL from the base as in Li and Hoiem 2016."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus
from transformers import PreTrainedConfig
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from tui_lab.training.types import Model

#: trl's code for KL(teacher ‖ student).
_FORWARD = 0.0


@dataclass(frozen=True)
class OutputHead:
    """An output layer over hidden states of width H: weight (V, H), bias (V,); the architecture turns its
    logits into ``softcap · tanh(scale · logits / softcap)``."""

    weight: Tensor
    bias: Tensor | None
    scale: float
    softcap: float | None


def output_head(model: Model) -> OutputHead:
    """The current output layer of a causal model (not wrapped by peft)."""
    config, layer = model.config.get_text_config(), model.get_output_embeddings()
    return OutputHead(
        layer.weight, layer.bias, _scale(config), getattr(config, "final_logit_softcapping", None) or None
    )


def _scale(config: PreTrainedConfig) -> float:
    """The factor of the logits: some architectures multiply (Cohere, Falcon-H1), some divide (Granite)."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (value := getattr(config, name, None)) is not None:
            return float(value)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / float(divisor)


def kl_from_base(states: Tensor, head: OutputHead, base_states: Tensor, base: OutputHead) -> Tensor:
    """KL(base ‖ now) of each position (N,), in nats, from both models' hidden states (N, H)."""
    return _divergence(states, head, base_states, base)


def mean_negative_log_probability(states: Tensor, head: OutputHead) -> Tensor:
    """Mean over the vocabulary of −log p for each position (N,), from hidden states (N, H): the cross-entropy
    with a uniform target, which is the divergence from the uniform distribution plus log V."""
    vocabulary = head.weight.shape[0]
    zeros = states.new_zeros(len(states), 1)  # a teacher of width 1 whose logits are all zero
    uniform = OutputHead(head.weight.new_zeros(vocabulary, 1), None, 1.0, None)
    return _divergence(states, head, zeros, uniform) + math.log(vocabulary)


def _divergence(states: Tensor, head: OutputHead, teacher_states: Tensor, teacher: OutputHead) -> Tensor:
    if not len(states):
        return states.sum(-1).float()  # (0,), part of the graph
    result: Any = ChunkedDivergenceFunction.apply(
        states,
        head.weight,
        head.bias,
        teacher_states.detach(),
        teacher.weight.detach(),
        None if teacher.bias is None else teacher.bias.detach(),
        _FORWARD,
        1.0,
        head.scale,
        head.softcap,
        teacher.scale,
        teacher.softcap,
    )
    loss: Tensor = result[0]
    return loss


def label_smoothed(log_probs: Tensor, mean_negative: Tensor, factor: float) -> Tensor:
    """Cross-entropy with label smoothing (N,): ``factor`` of the target is spread evenly over the vocabulary.
    ``log_probs`` (N,) of the labels; ``mean_negative`` (N,): see :func:`mean_negative_log_probability`."""
    return (1 - factor) * -log_probs + factor * mean_negative


def focal(log_probs: Tensor, gamma: float) -> Tensor:
    """Focal loss (1 − p)^γ · −log p of each token (N,), from the labels' log-probabilities (N,)."""
    missing = -torch.expm1(log_probs)  # 1 − p, exact for p near 1
    # the slope of x^γ at 0 is infinite for γ < 1, and its product with 0 no number
    return missing.clamp(min=torch.finfo(missing.dtype).tiny) ** gamma * -log_probs


def weighted_by_uncertainty(losses: Tensor, raw_sigma: Tensor, counted: Tensor | None = None) -> Tensor:
    """Σ L_i / (2σ_i²) + log σ_i over K tasks, a scalar that may be negative. ``losses`` and ``raw_sigma``
    (K,) with σ = softplus(raw_sigma); ``counted`` (K,): shares of the tasks, for the losses of a part of a
    batch."""
    sigma = softplus(raw_sigma)
    terms = losses / (2 * sigma**2) + sigma.log()
    return terms.sum() if counted is None else (counted * terms).sum()


def raw_sigma_of(sigma: float) -> float:
    """The raw value whose softplus is ``sigma``."""
    return math.log(math.expm1(sigma))
