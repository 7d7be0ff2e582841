"""Liger's kernels are used where they compute the same, and taken out again where they do not.

liger-kernel needs a GPU: a stand-in with its interface replaces the forwards of modules, as it does."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama

from tests.training import architectures
from tui_lab.core.errors import LabError
from tui_lab.hardware.device import DeviceFacts
from tui_lab.recipes import resolve as resolving
from tui_lab.recipes.recipe import build
from tui_lab.training import liger

CARD = DeviceFacts("cuda", "NVIDIA A100-SXM4-80GB", 80 << 30, True, 8)


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_llama(rope: bool, swiglu: bool, rms_norm: bool, cross_entropy: bool, model: Any = None) -> None:
        """Only its parameters are read."""

    patches = types.ModuleType("liger_kernel.transformers.monkey_patch")
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": for_llama}  # type: ignore[attr-defined]
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, patches.__name__, patches)


class Patch:
    """Replaces the norms' forwards by their product with ``factor``, and the rotation by another function."""

    def __init__(self, factor: float = 1.0, error: Exception | None = None) -> None:
        self.factor, self.error, self.asked = factor, error, {}  # type: tuple[float, Exception | None, dict]

    def __call__(self, model: Any, kernels: dict[str, bool]) -> None:
        self.asked = kernels
        modeling_llama.apply_rotary_pos_emb = lambda q, k, *_, **__: (q, k)
        if self.factor == 1.0:
            modeling_llama.apply_rotary_pos_emb = ROTATION
        for module in model.modules():
            if isinstance(module, modeling_llama.LlamaRMSNorm):
                plain = module.forward
                module.forward = lambda states, plain=plain: self.factor * plain(states)  # type: ignore[assignment, misc]
        if self.error:
            raise self.error


ROTATION = modeling_llama.apply_rotary_pos_emb


def test_the_loss_stays_trls() -> None:
    patch = Patch()
    model = architectures.make("llama")
    assert liger.apply(model, patch) == ""
    assert patch.asked == {"rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False}
    assert any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(
    ("patch", "reason"),
    [(Patch(0.5), "differ by"), (Patch(error=RuntimeError("no ptxas\nmore")), "do not run here: no ptxas")],
)
def test_other_results_are_undone_and_named(patch: Patch, reason: str) -> None:
    model = architectures.make("llama")
    ids = torch.arange(8)[None]
    before = model(ids).logits
    assert reason in liger.apply(model, patch)
    assert modeling_llama.apply_rotary_pos_emb is ROTATION
    assert torch.equal(model(ids).logits, before)
    assert not any("forward" in vars(module) for module in model.modules())


def test_other_architectures_are_named() -> None:
    assert "gpt_neox" in liger.apply(architectures.make("neox"), Patch())


@pytest.mark.parametrize("installed", [True, False])
def test_the_choice_has_a_reason(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "find_spec", lambda name: object() if installed else None)
    model = SimpleNamespace(label="x", model_type="qwen2", parameters=1, context=4096, chat_template=True)

    def chosen(asked: str, device: DeviceFacts = CARD) -> bool:
        found = resolving.resolve(build({"liger_kernel": asked}), device, model)
        noted = [each for each in found.reasons if each.field == "liger_kernel"]
        assert bool(noted) == (device.type == "cuda" or asked == "on")
        return found.values.liger_kernel

    assert chosen("auto") is installed and chosen("off") is False
    assert chosen("on", DeviceFacts("cpu", "cpu", 0, True, 1)) is False
    if installed:
        assert chosen("on")
    else:
        with pytest.raises(LabError, match="pip install liger-kernel"):
            chosen("on")
