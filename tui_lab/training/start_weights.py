"""Training that goes on from another run: its saved weights are put into the new model, adapter or full."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.core.tensor_names import tensors
from tui_lab.decoding.adapters import WEIGHTS, read_config
from tui_lab.models import accounting
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.runs.folder import Run
from tui_lab.training.types import Model


def load_from_run(model: Model, run: Run) -> None:
    """Puts the weights that ``run`` saved into ``model``, in place. Every tensor of either side has its
    counterpart of the same shape in the other. Raises LabError."""
    if (run.adapter_path / "adapter_config.json").is_file():
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
