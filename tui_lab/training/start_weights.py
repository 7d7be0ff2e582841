"""Training that goes on from another run: its saved weights are put into the new model, adapter or full.

A new adapter beside an earlier one (``frozen_rank``) is one LoRA adapter of both ranks, whose first ranks
are the earlier run's and stay: ΔW = s·(B₁A₁·s₁/s + BA). So the adapter switched off is the first base, and
what is saved fits it. Gradients of the first ranks are zero, and what a step of the optimiser changes there,
as weight decay does, is undone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.tensor_names import tensors
from tui_lab.decoding.adapter_files import WEIGHTS
from tui_lab.decoding.adapters import read_config
from tui_lab.models import accounting
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.runs.folder import Run
from tui_lab.training.types import Model

#: The factor of a LoRA pair that reads the input.
_A = re.compile(r"lora_(embedding_)?A")


def load_from_run(model: Model, run: Run, frozen_rank: int = 0) -> None:
    """Puts the weights that ``run`` saved into ``model``, in place; with ``frozen_rank`` into the first ranks
    of its adapter. Every tensor of either side has its counterpart in the other, of the same shape but for
    those ranks. Raises LabError."""
    if frozen_rank:
        _load_beside(model, run, frozen_rank)
    elif (run.adapter_path / "adapter_config.json").is_file():
        _load_adapter(model, run)
    else:
        _load_model(model, run)
    if problem := accounting.not_finite_problem(model):
        raise LabError(f"run {sanitize(run.id)}: {problem}")


def _load_adapter(model: Model, run: Run) -> None:
    read_config(run.adapter_path)  # refuses what is not a sound adapter
    saved = load_file(str(run.adapter_path / WEIGHTS))
    _match(saved, get_peft_model_state_dict(model), run)
    set_peft_model_state_dict(model, saved)


def _load_beside(model: Model, run: Run, rank: int) -> None:
    read_config(run.adapter_path)  # refuses what is not a sound adapter
    config: Any = PeftConfig.from_pretrained(str(run.adapter_path))
    saved = load_file(str(run.adapter_path / WEIGHTS))
    weights = get_peft_model_state_dict(model)
    first = {name: weight[_first(name, rank)] for name, weight in weights.items()}
    _match(saved, first, run)
    scale = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
    now = {layer.scaling["default"] for layer in model.modules() if isinstance(layer, LoraLayer)}.pop()
    with torch.no_grad():
        for name, weight in first.items():
            weight.copy_(saved[name] if _A.search(name) else saved[name] * (scale / now))


def _first(name: str, rank: int) -> tuple[slice, ...]:
    """The first ranks of a weight of LoRA: rows of A (r, in), columns of B (out, r)."""
    return (slice(rank),) if _A.search(name) else (slice(None), slice(rank))


class FrozenRanks:
    """Keeps the first ranks of a LoRA adapter as they are, from now on."""

    def __init__(self, model: Model, rank: int) -> None:
        self._start: list[tuple[torch.nn.Parameter, tuple[slice, ...], torch.Tensor]] = []
        for name, weight in model.named_parameters():
            if "lora_" in name:
                first = _first(name, rank)
                weight.register_hook(partial(_without, first))
                self._start.append((weight, first, weight.detach()[first].clone()))

    @property
    def parameters(self) -> int:
        """The number of weights that stay as they are."""
        return sum(start.numel() for *_, start in self._start)

    def restore(self, *_: object) -> None:
        """Undoes what a step of the optimiser changed."""
        for weight, first, start in self._start:
            weight.data[first] = start


def _without(first: tuple[slice, ...], gradient: torch.Tensor) -> torch.Tensor:
    found = gradient.clone()
    found[first] = 0
    return found


def _load_model(model: Model, run: Run) -> None:
    source = ModelSource(str(run.model_path))
    saved = load_model(source, Precision("float32", unquantized=True), device="cpu", allow_large=True)
    weights, wanted = dict(saved.named_parameters()), dict(model.named_parameters())
    _match(weights, wanted, run)
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(weights[name])


def _match(saved: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], run: Run) -> None:
    where = f"run {sanitize(run.id)} does not fit this recipe"
    if missing := sorted(wanted.keys() - saved.keys()):
        raise LabError(f"{where}: {tensors(missing)} missing from its saved weights")
    if extra := sorted(saved.keys() - wanted.keys()):
        raise LabError(f"{where}: {tensors(extra)} for no trained weight")
    if other := sorted(name for name, weight in wanted.items() if weight.shape != saved[name].shape):
        raise LabError(f"{where}: {tensors(other)} of another shape")
