"""Freezing and learning rates by layer: frozen first blocks, rates that fall towards the input, and gradual
unfreezing from the top (Howard and Ruder 2018)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_lab.core.errors import LabError
from tui_lab.training.types import AnyOptimizer, Model

#: Stages of gradual unfreezing for a run of a single epoch; otherwise one per epoch.
STAGES = 3
#: Learning rate of each stage of gradual unfreezing, as a factor of the stage above.
STAGE_RATE = 0.5
_NUMBERED = re.compile(r"(?:^|\.)([A-Za-z_]\w*)\.(\d+)\.")


def block_count(model: Model) -> int:
    """Number of transformer blocks of a causal model, wrapped by peft or not."""
    return int(model.config.get_text_config().num_hidden_layers)


def depth_of(name: str, blocks: int, head: Iterable[str] = ("lm_head", "embed_out", "score")) -> int:
    """The depth of a parameter by its name: 0 for embeddings, 1 to ``blocks`` for the blocks from the input
    on, ``blocks`` + 1 for the final norm and the output layer."""
    for holder, number in _NUMBERED.findall(name):
        if holder in ("layers", "h", "blocks", "layer") and int(number) < blocks:
            return int(number) + 1
    parts = name.split(".")
    if any("embed" in part or part in ("wte", "wpe") for part in parts) and not any(p in head for p in parts):
        return 0
    return blocks + 1


def freeze_first(model: Model, count: int) -> None:
    """Freezes the embeddings and the first ``count`` blocks. Raises LabError when no block remains."""
    blocks = block_count(model)
    if count >= blocks:
        raise LabError(
            f"frozen_layers = {count}: the model has {blocks} layers, so none would be trained; "
            f"use at most {blocks - 1}"
        )
    for name, weight in model.named_parameters():
        if depth_of(name, blocks) <= count:
            weight.requires_grad = False


def rate_factor(depth: int, blocks: int, decay: float) -> float:
    """Factor of the learning rate at a depth: decay^(blocks − depth); 1 for the top and the output layer."""
    return float(decay ** max(0, blocks - depth))


def stage_of(depth: int, blocks: int, stages: int) -> int:
    """The stage in which a depth begins to be trained: 0 for the top, the last for the embeddings."""
    from_top = min(blocks, max(0, blocks - depth))  # 0 for the top block and what is above it
    return min(stages - 1, from_top * stages // max(1, blocks))


def stages_for(epochs: float, max_steps: int, blocks: int) -> int:
    """Number of stages: one per epoch, three for a single epoch, at most the number of blocks."""
    passes = math.ceil(epochs) if not max_steps else 1
    return max(1, min(blocks, passes if passes > 1 else STAGES))


class GradualUnfreezing(TrainerCallback):
    """Unfreezes a model stage by stage, at equal shares of the run. Frozen weights have no gradient, so
    optimisers do not change them; their rates are set by :func:`split_groups`."""

    def __init__(self, model: Model, stages: int, total_steps: int) -> None:
        blocks = block_count(model)
        self._total, self._stages = max(1, total_steps), stages
        self._parts: list[list[torch.nn.Parameter]] = [[] for _ in range(stages)]
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                self._parts[stage_of(depth_of(name, blocks), blocks, stages)].append(weight)
        self.stage = -1

    def set_step(self, step: int) -> None:
        """Sets what is trained from ``step`` (0-based) on."""
        stage = min(self._stages - 1, step * self._stages // self._total)
        if stage != self.stage:
            self.stage = stage
            for place, weights in enumerate(self._parts):
                for weight in weights:
                    weight.requires_grad = place <= stage

    @override
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.set_step(state.global_step)


def split_groups(optimizer: AnyOptimizer, model: Model, factors: dict[int, float]) -> None:
    """Splits an optimiser's parameter groups by depth, each with the rate of its depth. The highest rate
    comes first, since that is the logged one. ``factors``: rate factor by depth."""
    blocks = block_count(model)
    by_id = {id(weight): factors[depth_of(name, blocks)] for name, weight in model.named_parameters()}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        parts: dict[float, list[torch.nn.Parameter]] = {}
        for weight in group["params"]:
            parts.setdefault(by_id[id(weight)], []).append(weight)
        groups += [{**group, "params": part, "lr": group["lr"] * f} for f, part in parts.items()]
    groups.sort(key=lambda group: -group["lr"])
    optimizer.param_groups[:] = groups
