"""The counts against torch's own counter, on real models of every architecture, forwards and backwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from tests.models import test_shapes
from tui_lab.forecast.flops import attention_flops, operations
from tui_lab.models import catalog, shapes, target_modules

BATCH, LENGTH = 2, 32
#: Rotary angles are a product too, of one value with each position: a few operations a token.
CLOSE = 4e-3
KINDS = [{"model_type": kind} for kind in shapes.MODEL_TYPES]


def recipe(**values: Any) -> Any:
    plain = {
        "gradient_checkpointing": False, "kl_weight": 0.0, "label_smoothing_factor": 0.0,
        "reference_passes": 0,
    }  # fmt: skip
    found = {**vars(test_shapes.recipe()), **plain, **values}
    return SimpleNamespace(**found, adapter_rank=found["lora_r"])


def model_of(variant: dict[str, Any], asked: Any) -> Any:
    """On the meta device, with attention whose products are counted one by one, and the recipe's adapter."""
    config = test_shapes.config_of(variant)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        made = test_shapes.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        if asked.method == "full":
            return made
        found = target_modules.explain(variant["model_type"], asked.target_modules)
        return get_peft_model(made, test_shapes.peft_config(asked, found))


def counted(model: Any, checkpointing: bool = False) -> float:
    """Operations a token of a forward and a backward, by torch's counter."""
    return total(model, checkpointing, BATCH) / (BATCH * LENGTH)


def total(model: Any, checkpointing: bool, batch: int) -> int:
    model.train()
    model.config.pad_token_id = None  # else its values are looked at, and there are none
    if hasattr(model, "peft_config"):
        model.enable_input_require_grads()  # as trl does; else the first block's inputs have no gradient
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.zeros((batch, LENGTH), dtype=torch.int64, device="meta")
    # a tensor without values cannot be asked whether it holds packed documents
    tracing = patch("transformers.masking_utils.is_tracing", lambda *_: True)
    with tracing, FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("variant", KINDS, ids=lambda v: v["model_type"])
@pytest.mark.parametrize("method", ["full", "lora", "ia3"])
def test_forward_and_backward(variant: dict[str, Any], method: str) -> None:
    asked = recipe(method=method)
    found = operations(test_shapes.shape_of(variant), asked, LENGTH)
    assert counted(model_of(variant, asked)) == pytest.approx(found.model, rel=CLOSE)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi3", "gpt_neox"])
def test_checkpointing_computes_the_blocks_again(kind: str, method: str) -> None:
    variant = {"model_type": kind}
    asked = recipe(method=method, gradient_checkpointing=True)
    shape = test_shapes.shape_of(variant)
    found = operations(shape, asked, LENGTH)
    tiles = 2 * shape.vocabulary * shape.hidden  # trl's output layer, which this model does not have
    again = counted(model_of(variant, asked), checkpointing=True) - found.model
    expected = found.hardware - tiles - found.model
    # torch stops as soon as it has what it needs: the last product of a block is not done again
    assert 0.7 * expected < again <= expected * (1 + CLOSE)


def test_only_blocks_above_the_frozen_ones_have_gradients() -> None:
    variant = {"model_type": "llama"}
    asked = recipe(method="full", frozen_layers=2)
    model = model_of(variant, asked)
    for name, weight in model.named_parameters():
        weight.requires_grad = "layers.2." in name or "lm_head" in name or name == "model.norm.weight"
    shape = test_shapes.shape_of(variant)
    found = operations(shape, asked, LENGTH)
    assert counted(model) == pytest.approx(found.model, rel=CLOSE)


def test_osf_multiplies_its_directions_and_their_start() -> None:
    variant, asked = {"model_type": "llama"}, recipe(method="osf")
    found = operations(test_shapes.shape_of(variant), asked, LENGTH)
    model = model_of(variant, asked)
    more = (total(model, False, 8) - total(model, False, 4)) / (4 * LENGTH)
    assert more == pytest.approx(found.model, rel=CLOSE)
    # 2r(in + out) of 30 % of the smaller side, peft rounding the frozen part down
    shape = test_shapes.shape_of(variant)
    byhand = sum(
        2 * (min(i, o) - int(0.7 * min(i, o))) * (i + o) * each.count
        for each in shapes.linears(shape)
        for i, o in [(each.in_features, each.out_features)]
    )
    assert found.adapter == byhand


def test_a_loha_multiplies_its_whole_change() -> None:
    variant, asked = {"model_type": "llama"}, recipe(method="loha")
    found = operations(test_shapes.shape_of(variant), asked, LENGTH)
    model = model_of(variant, asked)
    # ΔW itself is computed once a batch, however many tokens that has
    more = (total(model, False, 8) - total(model, False, 4)) / (4 * LENGTH)
    assert more == pytest.approx(found.model, rel=CLOSE)


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "pocket"])
def test_models_of_the_catalog(name: str) -> None:
    """The published sizes: here nothing is a trifle, and all of it is counted."""
    shape = catalog.find(name).shape
    assert shape is not None
    variant = {
        "model_type": shape.model_type, "hidden_size": shape.hidden, "num_hidden_layers": shape.layers,
        "intermediate_size": shape.intermediate, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied, "head_dim": shape.head_dim,
    }  # fmt: skip
    asked = recipe(lora_r=16)
    assert counted(model_of(variant, asked)) == pytest.approx(
        operations(shape, asked, LENGTH).model, rel=1e-3
    )


def test_the_formula_of_an_adapter() -> None:
    """4N + 6n + 3A and 6N + 3A, with the numbers of Qwen2.5-0.5B from its published sizes."""
    shape = catalog.find("Qwen/Qwen2.5-0.5B").shape
    assert shape is not None
    n = 8_798_208  # peft's own count at rank 16 on all layers
    weights, attention = 357_826_560 + 151_936 * 896, 4 * 24 * 14 * 64 * 1024
    adapter = operations(shape, recipe(lora_r=16), 1024)
    assert (adapter.weights, adapter.adapter) == (weights, n)
    assert adapter.model == 4 * weights + 6 * n + 3 * attention
    assert adapter.formula.startswith("4N + 6n + 3A")
    full = operations(shape, recipe(method="full"), 1024)
    assert full.model == 6 * weights + 3 * attention
    assert operations(shape, recipe(), 1024, causal=True).attention == attention / 2


def test_what_is_not_trained_on_needs_no_logits() -> None:
    shape = catalog.find("pocket").shape
    assert shape is not None
    whole, half = (operations(shape, recipe(), 64, head_share=share) for share in (1.0, 0.5))
    assert whole.model - half.model == 4 * shape.vocabulary * shape.hidden / 2


def test_what_a_recipe_adds() -> None:
    shape = catalog.find("pocket").shape
    assert shape is not None
    plain = operations(shape, recipe(), 64)
    kl = operations(shape, recipe(kl_weight=0.1), 64)
    # the base reads every token: at least one more forward of the blocks, and both output layers
    assert kl.model - plain.model > plain.forward - 2 * plain.adapter
    assert operations(shape, recipe(label_smoothing_factor=0.1), 64).model > plain.model
    prompt = operations(shape, recipe(method="prompt_tuning", num_virtual_tokens=64), 64)
    bare = operations(shape, recipe(method="ia3"), 64)
    blocks = bare.weights - shape.vocabulary * shape.hidden
    more = 4 * blocks + 3 * (2 * attention_flops(shape, 128) - attention_flops(shape, 64))
    assert prompt.model - bare.model == pytest.approx(more)
    prefix = operations(shape, recipe(method="prefix", num_virtual_tokens=64), 64)
    assert prefix.model - bare.model == pytest.approx(3 * attention_flops(shape, 64))
