"""What a checkpoint of AdaLoRA (Zhang et al. 2023) needs besides what peft saves. peft omits the rows of
ranks that the budget has dropped, so that its file fits no fresh model, and the running means of the
importance of each weight, from which the next allocation of ranks is computed. With all of it saved here, a
resumed run prunes exactly as an uninterrupted one.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tui_lab.training.types import Model

_FILE = "adalora_state.safetensors"
#: Running means of peft's rank allocator, by the names it gives them.
_MEANS = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def save(model: Model, folder: Path) -> None:
    """Writes the weights of every rank, the allocator's running means and the current ranks."""
    tensors = {f"weight {name}": weight for name, weight in _weights(model).items()}
    allocator = model.base_model.rankallocator
    for means in _MEANS:
        tensors |= {f"{means} {name}": value for name, value in getattr(allocator, means).items()}
    pattern = model.peft_config["default"].rank_pattern
    save_file(
        {name: value.detach().contiguous().cpu().clone() for name, value in tensors.items()},
        folder / _FILE,
        metadata={"rank_pattern": json.dumps(pattern)},
    )


def load(model: Model, folder: Path) -> None:
    """Restores them into ``model``. Raises OSError when the checkpoint has none."""
    weights, allocator = _weights(model), model.base_model.rankallocator
    with safe_open(folder / _FILE, "pt") as file:
        pattern = json.loads((file.metadata() or {})["rank_pattern"])
        for means in _MEANS:
            getattr(allocator, means).clear()
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            what, _, name = key.partition(" ")
            value = file.get_tensor(key)
            if what == "weight":
                with torch.no_grad():
                    weights[name].copy_(value)
            else:
                getattr(allocator, what)[name] = value.to(weights[name].device)
    model.peft_config["default"].rank_pattern = pattern


def _weights(model: Model) -> dict[str, torch.Tensor]:
    """The adapter's weights, of every rank."""
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name}
