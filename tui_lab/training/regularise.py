"""Penalties on the distance from the start: L2 and EWC on the change of each weight matrix, ΔW.

For low-rank adapters ΔW = s·BA minus its start (zero except for PiSSA and OLoRA); for full tuning it is the
weight minus its copy. On A and B separately, both would penalise changes without effect on the model. EWC
(Kirkpatrick et al. 2017) weights each entry by its Fisher information on general rows, measured with answers
sampled from the model, and divided by its mean here, so that its factor is comparable to that of L2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from tui_lab.data.rows import TokenRow
from tui_lab.training.types import Model

#: General rows for the Fisher information; one backward pass each.
FISHER_ROWS = 64
#: Tokens per such row at most: its logits are computed in full.
FISHER_TOKENS = 256
#: Matrices with at most this many entries are computed at once; larger ones by rows.
ENTRIES_AT_ONCE = 2**24


class WeightChange(Protocol):
    """The change of one weight."""

    def squared(self) -> Tensor:
        """Σ ΔW², a scalar."""

    def weighted(self, importance: Tensor) -> Tensor:
        """Σ F·ΔW², a scalar. ``importance``: F, of the shape of the weight."""


@dataclass(frozen=True)
class LowRank:
    """ΔW = s·(BA − B₀A₀), transposed where the layer stores its weight so. A (r, in), B (out, r)."""

    a: Tensor
    b: Tensor
    scale: float
    start: tuple[Tensor, Tensor] | None = None  # A₀, B₀ where B₀A₀ is not zero
    transposed: bool = False

    def _factors(self) -> tuple[Tensor, Tensor]:
        if self.start is None:
            return self.a, self.b
        a, b = self.start
        return torch.cat((self.a, a)), torch.cat((self.b, -b), dim=1)

    def squared(self) -> Tensor:
        """‖s·BA‖² = s²·Σ (BᵀB)∘(AAᵀ): r × r products, without the full matrix."""
        a, b = self._factors()
        return self.scale**2 * ((b.T @ b) * (a @ a.T)).sum()

    def weighted(self, importance: Tensor) -> Tensor:
        """Σ F·ΔW², a scalar, by rows of the full matrix. ``importance``: F (out, in), or transposed."""
        a, b = self._factors()
        fisher = importance.T if self.transposed else importance
        rows = max(1, ENTRIES_AT_ONCE // a.shape[1])
        parts = [
            (fisher[at : at + rows].to(b) * (b[at : at + rows] @ a).square()).sum()
            for at in range(0, len(b), rows)
        ]
        return self.scale**2 * torch.stack(parts).sum()


@dataclass(frozen=True)
class Dense:
    """ΔW = W − W₀."""

    weight: Tensor
    start: Tensor

    def squared(self) -> Tensor:
        """Σ ΔW², a scalar."""
        return (self.weight - self.start).square().sum()

    def weighted(self, importance: Tensor) -> Tensor:
        """Σ F·ΔW², a scalar. ``importance``: F, of the shape of the weight."""
        return (importance.to(self.weight) * (self.weight - self.start).square()).sum()


def weight_changes(model: Model, adapter: str = "default") -> dict[str, WeightChange]:
    """The change of every trained weight, by the name of its module (adapter) or parameter. The current
    weights become the start, so it is called before the first step."""
    if not hasattr(model, "peft_config"):
        trained = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
        return {name: Dense(weight, weight.detach().clone()) for name, weight in trained}
    found: dict[str, WeightChange] = {}
    for name, module in model.named_modules():
        if adapter not in getattr(module, "lora_A", {}):
            continue
        a, b = module.lora_A[adapter].weight, module.lora_B[adapter].weight
        start = (a.detach().clone(), b.detach().clone()) if b.detach().any() else None
        found[name] = LowRank(
            a, b, float(module.scaling[adapter]), start, bool(getattr(module, "fan_in_fan_out", False))
        )
    return found


def l2(changes: dict[str, WeightChange]) -> Tensor:
    """½ Σ ΔW² over all weights, a scalar."""
    return 0.5 * torch.stack([change.squared() for change in changes.values()]).sum()


def ewc(changes: dict[str, WeightChange], importance: dict[str, Tensor]) -> Tensor:
    """½ Σ F·ΔW² over all weights, a scalar."""
    return 0.5 * torch.stack([changes[name].weighted(fisher) for name, fisher in importance.items()]).sum()


# --------------------------------------------------------------------------------------------------
# Fisher information


def fisher(
    model: Model,
    changes: dict[str, WeightChange],
    rows: Sequence[TokenRow],
    seed: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of each changing weight (of its shape), divided by the mean over
    all.

    Each row gives the gradient of the log-probability of tokens sampled from the model at its trained
    positions; the squares are averaged over rows. For adapters it is that of the frozen weight below them, in
    4 bits too: from the inputs of the layer and the gradient of its outputs.
    """
    device = model.get_input_embeddings().weight.device
    generator = torch.Generator(device="cpu").manual_seed(seed)
    collector = _LayerSquares(model, changes) if hasattr(model, "peft_config") else _ParameterSquares(changes)
    counted = 0
    for row in rows[:FISHER_ROWS]:
        if cancelled():
            break
        ids = torch.tensor([row["input_ids"][:FISHER_TOKENS]], device=device)
        trained = torch.tensor(row["labels"][1:FISHER_TOKENS], device=device) >= 0
        if not trained.any():
            continue
        with torch.enable_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1][trained].float()  # (n, V)
            log_probs = logits.log_softmax(-1)
            drawn = torch.multinomial(log_probs.detach().exp().cpu(), 1, generator=generator).to(device)
            log_probs.gather(1, drawn).sum().backward()
        collector.add_row()
        counted += 1
        model.zero_grad(set_to_none=True)
    found = collector.close(max(1, counted))
    total = sum(float(value.sum()) for value in found.values())
    mean = total / max(1, sum(value.numel() for value in found.values()))
    return {name: value / mean for name, value in found.items()} if mean > 0 else found


class _ParameterSquares:
    """Sums the squared gradients of trained parameters."""

    def __init__(self, changes: dict[str, WeightChange]) -> None:
        self._weights = {name: change.weight for name, change in changes.items() if isinstance(change, Dense)}
        self._sums = {name: torch.zeros_like(weight) for name, weight in self._weights.items()}

    def add_row(self) -> None:
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self._sums[name] += weight.grad.square()

    def close(self, count: int) -> dict[str, Tensor]:
        return {name: total / count for name, total in self._sums.items()}


class _LayerSquares:
    """Sums the squared gradients that the frozen weights of adapted layers would have: (out, in), or
    transposed where the layer stores it so."""

    def __init__(self, model: Model, changes: dict[str, WeightChange]) -> None:
        self._sums: dict[str, Tensor] = {}
        self._row: dict[str, Tensor] = {}
        self._inputs: dict[str, list[Tensor]] = {}
        self._handles: list[RemovableHandle] = []
        self._transposed = {n: c.transposed for n, c in changes.items() if isinstance(c, LowRank)}
        # otherwise nothing below the first adapter has a gradient
        embeddings = model.get_input_embeddings()
        self._handles.append(embeddings.register_forward_hook(lambda _, __, out: out.requires_grad_(True)))
        for name, module in model.named_modules():
            if name in changes:
                layer = module.base_layer
                self._handles.append(layer.register_forward_hook(self._forward(name)))

    def _forward(self, name: str) -> Callable[..., None]:
        def hook(_module: Any, args: tuple[Any, ...], output: Tensor) -> None:
            if not output.requires_grad:
                return
            states = args[0].detach()

            def back(gradient: Tensor) -> None:
                x, g = states.flatten(0, -2).float(), gradient.flatten(0, -2).float()
                part = x.T @ g if self._transposed[name] else g.T @ x
                self._row[name] = self._row[name] + part if name in self._row else part

            output.register_hook(back)

        return hook

    def add_row(self) -> None:
        for name, gradient in self._row.items():
            square = gradient.square()
            self._sums[name] = self._sums[name] + square if name in self._sums else square
        self._row = {}

    def close(self, count: int) -> dict[str, Tensor]:
        for handle in self._handles:
            handle.remove()
        return {name: total / count for name, total in self._sums.items()}
