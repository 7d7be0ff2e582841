"""Method × NF4 × packing × checkpointing: each cell trains correctly or is refused naming the alternative."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.training.conftest import recipe_for
from tui_lab.models.module_stats import four_bit_modules, module_stats
from tui_lab.recipes.recipe import RecipeError
from tui_lab.training.trainer import LabTrainer

METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "full": {"method": "full"},
    "ia3": {"method": "ia3", "learning_rate": 5e-2},
    "prefix": {"method": "prefix", "learning_rate": 5e-2},
    "p_tuning": {"method": "p_tuning"},
    "prompt_tuning": {"method": "prompt_tuning", "learning_rate": 5e-2},
    "adalora": {"method": "adalora", "max_steps": 12},  # it has phases
    "loha": {"method": "loha"},
    "osf": {"method": "osf"},
}
CELLS = [
    *itertools.product(METHODS, ("none", "nf4"), (False, True), (False, True)),
    *itertools.product(
        ("lora", "dora", "ia3", "adalora", "loha", "prefix"), ("int8", "fp8"), (False,), (False,)
    ),
    *itertools.product(("lora", "full"), ("int8", "fp8"), (False,), (True,)),
]


def refused(method: str, quantization: str, packing: bool, checkpointing: bool) -> bool:
    """The cells that were found broken by trying them."""
    if quantization != "none" and method in ("full", "pissa", "olora", "osf"):
        return True
    if (quantization, method) in (("nf4", "loha"), ("int8", "dora"), ("fp8", "dora")):
        return True
    if packing and method in ("prefix", "p_tuning", "prompt_tuning"):
        return True
    return checkpointing and method == "prefix"


@pytest.fixture(scope="module")
def base_loss() -> dict[str, float]:
    """The loss before training, by quantisation: the same for every cell that starts at the base."""
    return {}


@pytest.mark.parametrize(("method", "quantization", "packing", "checkpointing"), CELLS)
def test_cell(
    method: str,
    quantization: str,
    packing: bool,
    checkpointing: bool,
    make_trainer: Callable[..., LabTrainer],
    base_loss: dict[str, float],
) -> None:
    values = {
        "quantization": quantization,
        "packing": packing,
        "gradient_checkpointing": checkpointing,
        "max_steps": 6,
        **METHODS[method],
    }
    if refused(method, quantization, packing, checkpointing):
        with pytest.raises(RecipeError, match="use "):
            recipe_for(**values)
        return
    trainer = make_trainer(recipe_for(**values))
    assert (len(four_bit_modules(trainer.model)) == 14) is (quantization == "nf4")
    stats = module_stats(trainer.model)
    assert stats.quantization == ("" if quantization == "none" else quantization)
    assert stats.quantized_modules == (0 if quantization == "none" else 14)
    for module in four_bit_modules(trainer.model):
        assert module.weight.dtype == torch.uint8 and module.weight.quant_state.nested
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    at_start = trainer.validation_loss()
    if method not in ("prefix", "p_tuning", "prompt_tuning"):
        # an adapter starts at the base; packed rows do not see each other; checkpointing changes no result
        assert at_start == pytest.approx(base_loss.setdefault(quantization, at_start), abs=2e-4)
    trainer.train()
    assert trainer.validation_loss() < at_start - 1e-3
    for name, weight in trainer.model.named_parameters():
        assert weight.requires_grad or torch.equal(weight.detach(), before[name]), (
            f"{name} is frozen and moved"
        )
        assert not weight.requires_grad or weight.dtype == torch.float32, name
    moved = [
        not torch.equal(weight.detach(), before[name])
        for name, weight in trainer.model.named_parameters()
        if weight.requires_grad
    ]
    assert all(moved)
