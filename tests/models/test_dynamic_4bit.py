"""Layers that NF4 leaves unquantised: chosen as worked by hand, measured as bitsandbytes rounds, loaded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from tui_lab.core.errors import LabError
from tui_lab.forecast.memory import weights_bytes
from tui_lab.models import catalog, dynamic_4bit
from tui_lab.models.dynamic_4bit import LayerError
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import build
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.training import base_model, fake_model

SOURCE = ModelSource(str(MODEL_DIR))


def test_the_worst_that_fit_are_chosen() -> None:
    """A budget of 40 of 100 values: c (30) fits, a (20) would make 50, b (10) fits; d ties with b."""
    errors = [
        LayerError("a", 0.11, 20),
        LayerError("b", 0.10, 10),
        LayerError("c", 0.12, 30),
        LayerError("d", 0.10, 10),
        LayerError("e", 0.05, 30),
    ]
    found = dynamic_4bit.choose(errors, 0.4)
    assert (found.names, found.share, found.largest_rounded) == (("c", "b"), 0.4, 0.11)
    assert "2 layers with 40.0% of the weights" in str(found) and "10.00% to 12.00%" in str(found)
    assert dynamic_4bit.choose(errors, 0.05).names == ()
    assert dynamic_4bit.choose([], 0.5).names == ()


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert dynamic_4bit.names_of(tmp_path) == ()
    found = dynamic_4bit.choose([LayerError("x", 0.1, 5), LayerError("y", 0.2, 5)], 0.5)
    dynamic_4bit.write(tmp_path, found)
    assert dynamic_4bit.read(tmp_path) == found and dynamic_4bit.names_of(tmp_path) == ("y",)
    spoilt = dynamic_4bit.choose([LayerError("x", math.inf, 5), LayerError("y", 0.2, 5)], 0.5)
    dynamic_4bit.write(tmp_path, spoilt)
    assert dynamic_4bit.read(tmp_path) == spoilt and spoilt.modules[0].error == math.inf
    (tmp_path / dynamic_4bit.FILE).write_text('{"modules": 3}')
    with pytest.raises(LabError, match="delete it, and it is measured again"):
        dynamic_4bit.read(tmp_path)


def test_measured_and_loaded_as_bitsandbytes_rounds(tmp_path: Path) -> None:
    """The errors are those of the 4-bit model that transformers loads; the list is left plain in it, with the
    head, and takes the bytes that the forecast counts."""
    recipe = build({"model": "pocket", "quantization": "nf4", "unquantized_budget": 20.0})
    values = ResolvedValues(compute_dtype="float32", optim="adamw_torch", max_length=64, quantization="nf4")
    found = base_model.unquantized_modules(SOURCE, recipe, values, tmp_path)
    assert found is not None and found == dynamic_4bit.read(tmp_path) and 0.15 < found.share <= 0.2
    plain = load_model(SOURCE, Precision("float32"), device="cpu")
    rounded = load_model(SOURCE, Precision("float32", "nf4"), device="cpu")
    errors = {}
    for name, module in rounded.named_modules():
        if isinstance(module, Linear4bit):
            expected = plain.get_submodule(name).weight
            dense = dequantize_4bit(module.weight.data, module.weight.quant_state)
            errors[name] = float((dense - expected).norm() / expected.norm())
    assert len(errors) == 35
    assert {each.name: each.error for each in found.modules} == pytest.approx(
        {name: errors[name] for name in found.names}, abs=2e-6
    )
    assert min(errors[name] for name in found.names[:3]) >= max(
        error for name, error in errors.items() if name not in found.names
    )
    loaded = load_model(SOURCE, Precision("float32", "nf4", unquantized_modules=found.names), device="cpu")
    kinds = {name: type(module) for name, module in loaded.named_modules() if name in errors}
    assert {name for name, kind in kinds.items() if kind is torch.nn.Linear} == set(found.names)
    assert type(loaded.get_output_embeddings()) is torch.nn.Linear
    assert all(
        torch.equal(loaded.get_submodule(n).weight, plain.get_submodule(n).weight) for n in found.names
    )
    counted = weights_bytes(catalog.find("pocket").shape, "nf4", True, 4, found.share)
    assert counted == pytest.approx(
        sum(t.untyped_storage().nbytes() for t in fake_model.tensors_of(loaded)), rel=0.01
    )
