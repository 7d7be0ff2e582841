"""Resolution: what is left open is settled by device and model, each with a reason that is true."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.recipes.recipe import FIELDS, build
from tui_lab.recipes.resolve import Resolution, resolve, validation_rows

CPU = DeviceFacts("cpu", "x86_64", 8_000_000_000, True, 2)
AMPERE = DeviceFacts("cuda", "RTX 3090", 24_000_000_000, True, 8)
T4 = DeviceFacts("cuda", "Tesla T4", 16_000_000_000, False, 8)
APPLE = DeviceFacts("mps", "arm", 16_000_000_000, False, 8)


@dataclass
class Model:
    """The facts of a model."""

    label: str = "org/model"
    model_type: str | None = "llama"
    parameters: int | None = 500_000_000
    context: int | None = 4096
    chat_template: bool | None = True


def resolved(device: DeviceFacts = CPU, model: Any = None, **values: Any) -> Resolution:
    return resolve(build({"model": "org/model", **values}), device, model or Model())


def reason(resolution: Resolution, field: str) -> str:
    return next(choice.reason for choice in resolution.reasons if choice.field == field)


@dataclass
class StoredModel(Model):
    """The facts of a model whose files are quantised."""

    form: str = "bnb4"


@pytest.mark.parametrize(
    ("device", "form", "values", "quantization", "said"),
    [
        (CPU, "plain", {"quantization": "nf4"}, "nf4", "saves memory, not time"),
        (AMPERE, "plain", {"quantization": "nf4"}, "nf4", "a quarter of bfloat16"),
        (
            APPLE,
            "plain",
            {"quantization": "nf4"},
            "none",
            "Apple.*plain weights are adapted in float32",
        ),
        (CPU, "bnb4", {}, "nf4", "in 4 bits by bitsandbytes and stay so"),
        (AMPERE, "bnb8", {"quantization": "nf4"}, "int8", "in 8 bits by bitsandbytes and stay so"),
        (APPLE, "bnb4", {}, "none", "become plain ones: bitsandbytes needs CUDA or a CPU"),
        (AMPERE, "gptq", {}, "nf4", "stored by GPTQ and stay so"),
        (CPU, "bnb8", {"method": "full"}, "none", "become plain ones: all are trained"),
        (CPU, "fp8", {"quantization": "nf4"}, "nf4", "saves memory"),
    ],
)
def test_the_form_of_the_weights_in_memory_is_decided_with_a_reason(
    device: DeviceFacts, form: str, values: dict[str, Any], quantization: str, said: str
) -> None:
    found = resolved(device, StoredModel(form=form), **values)
    assert found.values.quantization == quantization
    assert re.search(said, reason(found, "quantization"))
    warned = any("quantization = 'nf4' is not used" in text for text in found.warnings)
    assert warned is (device is APPLE and form == "plain")
    if form == "fp8":
        assert "read as plain weights" in reason(found, "weights")


def test_methods_that_need_plain_weights_are_refused_on_stored_4_bit_weights() -> None:
    with pytest.raises(LabError, match=r"has rounded weights.*loha"):
        resolved(CPU, StoredModel(), method="loha")
    with pytest.raises(LabError, match=r"stored by AWQ and stay so, so method = 'full' cannot train them"):
        resolved(CPU, StoredModel(form="awq"), method="full")


def test_methods_on_stored_8_bit_weights_are_those_of_int8() -> None:
    stored = StoredModel(form="bnb8")
    with pytest.raises(LabError, match=r"has rounded weights, as with quantization = 'int8'.*use_dora"):
        resolved(CPU, stored, use_dora=True)
    with pytest.raises(LabError, match=r"use_dora = true with weights in 8 bits"):
        resolved(CPU, stored, use_dora=True, quantization="int8")
    assert resolved(CPU, stored, method="loha").values.quantization == "int8"
    assert resolved(CPU, StoredModel(), use_dora=True).values.quantization == "nf4"


@pytest.mark.parametrize(
    ("device", "model_type", "dtype", "said"),
    [
        (AMPERE, "llama", "bfloat16", "bf16 because the GPU has it"),
        (T4, "llama", "float16", "no bf16"),
        (T4, "qwen2", "float16", "no bf16"),
        (T4, "gemma2", "float32", "overflows float16"),
        (CPU, "llama", "float32", "CPU"),
        (APPLE, "llama", "float32", "Apple"),
    ],
)
def test_the_compute_type_and_its_reason(device: DeviceFacts, model_type: str, dtype: str, said: str) -> None:
    found = resolved(device, Model(model_type=model_type))
    assert found.values.compute_dtype == dtype
    assert said in reason(found, "compute_dtype")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("device", [CPU, AMPERE])
def test_what_is_asked_for_is_taken(device: DeviceFacts, dtype: str) -> None:
    found = resolved(device, compute_dtype=dtype)
    assert found.values.compute_dtype == dtype
    assert reason(found, "compute_dtype") == "because the recipe sets it"
    assert not [text for text in found.warnings if "compute_dtype" in text]


def test_bfloat16_on_a_card_without_it_warns() -> None:
    assert any("Tesla T4 has no bfloat16" in text for text in resolved(T4, compute_dtype="bfloat16").warnings)


def test_float16_needs_cuda() -> None:
    assert resolved(T4, compute_dtype="float16").values.compute_dtype == "float16"
    with pytest.raises(LabError, match="needs a CUDA GPU"):
        resolved(CPU, compute_dtype="float16")


def test_nf4_says_what_it_gives_where() -> None:
    assert "saves memory, not time" in reason(resolved(CPU, quantization="nf4"), "quantization")
    assert "quarter" in reason(resolved(AMPERE, quantization="nf4"), "quantization")
    single = resolved(AMPERE, quantization="nf4", double_quantization=False)
    assert "double" not in reason(single, "quantization")
    assert "quantization" not in [choice.field for choice in resolved(CPU).reasons]


@pytest.mark.parametrize("optim", FIELDS["optim"].choices)
def test_optimisers_are_as_asked_on_cuda_and_never_paged_elsewhere(optim: str) -> None:
    assert resolved(AMPERE, optim=optim).values.optim == optim
    for device in (CPU, APPLE):
        found = resolved(device, optim=optim)
        assert not found.values.optim.startswith("paged")
        if found.values.optim != optim:
            assert reason(found, "optim") != "because the recipe sets it"
    assert resolved(CPU, optim="paged_adamw_8bit").values.optim == "adamw_8bit"


def test_attention_is_eager_only_where_logits_are_capped() -> None:
    assert resolved(model=Model(model_type="gemma2")).values.attn_implementation == "eager"
    for model_type in ("llama", "qwen2", "gemma", "gemma3_text", "phi", "gpt_neox", None):
        assert resolved(model=Model(model_type=model_type)).values.attn_implementation == "sdpa"


def test_rows_are_cut_to_the_context_with_a_warning() -> None:
    assert resolved(max_length=4096).values.max_length == 4096
    long = resolved(max_length=4097)
    assert long.values.max_length == 4096
    assert any("max_length = 4097" in text for text in long.warnings)
    virtual = resolved(max_length=4096, method="prompt_tuning", num_virtual_tokens=20)
    assert virtual.values.max_length == 4076
    unknown = resolved(model=Model(context=None), max_length=131_072)
    assert unknown.values.max_length == 131_072


def test_virtual_tokens_that_leave_no_room_are_refused() -> None:
    with pytest.raises(LabError, match=r"num_virtual_tokens = 60 leaves 4 .* use at most 48"):
        resolved(model=Model(context=64), method="prefix", num_virtual_tokens=60)


def test_targets_become_module_names() -> None:
    llama = resolved(target_modules="qv")
    assert llama.values.target_modules == ["q_proj", "v_proj"]
    fused = resolved(model=Model(model_type="gpt_neox"), target_modules="qv")
    assert fused.values.target_modules == ["query_key_value"]
    assert "in one layer" in reason(fused, "target_modules")
    scales = resolved(method="ia3", target_modules="k_proj,v_proj,down_proj")
    assert scales.values.feedforward_modules == ["down_proj"]
    with pytest.raises(LabError, match="q_prj"):
        resolved(target_modules="q_prj")


def test_layers_of_an_unknown_architecture_are_looked_up_when_it_is_loaded() -> None:
    found = resolved(model=Model(model_type=None, parameters=None, context=None), target_modules="qv")
    assert found.values.target_modules == []
    assert "when it is loaded" in reason(found, "target_modules")


@pytest.mark.parametrize("method", ["full", "prefix", "p_tuning", "prompt_tuning"])
def test_methods_without_layers_name_none(method: str) -> None:
    assert resolved(method=method, target_modules="nonsense").values.target_modules == []


def test_a_large_model_on_a_cpu_is_warned_of() -> None:
    assert any("uses no GPU" in text for text in resolved(CPU).warnings)
    assert not any("uses no GPU" in text for text in resolved(AMPERE).warnings)


def test_a_model_without_a_template_gets_one_and_it_is_said() -> None:
    assert "none" in reason(resolved(model=Model(chat_template=False)), "chat_template")
    assert "chat_template" not in [choice.field for choice in resolved().reasons]


def test_advice_of_the_recipe_comes_along() -> None:
    assert any("learning_rate" in text for text in resolved(learning_rate=1e-2).warnings)


@pytest.mark.parametrize("device", [CPU, AMPERE, T4, APPLE], ids=lambda device: device.name)
def test_every_model_of_the_catalog_resolves_on_every_device(device: DeviceFacts) -> None:
    for entry in catalog.load():
        if entry.model_type is None:
            continue
        found = resolve(build({"model": entry.id, "max_length": 512}), device, entry)
        assert found.values.target_modules, entry.id
        assert found.values.compute_dtype != "auto"
        assert all(choice.reason for choice in found.reasons)


@pytest.mark.parametrize(
    ("held_out", "trained", "changes", "rows"),
    [
        (747, 4_800.0, {}, 256),  # a tenth of 4,800 rows of two passes, over nine validations, is 106
        (747, 22_419.0, {}, 498),  # 0.1 * 2 * 22,419 / 9
        (9_000, 90_000.0, {}, 2_000),  # 0.1 * 2 * 90,000 / 9
        (9_000, 90_000.0, {"eval_steps": 100}, 314),  # 56.25 validations of 16 rows a step, and one before
        (747, 4_800.0, {"validation_rows": 100}, 100),
        (130, 4_800.0, {"validation_rows": 500}, 130),
        (130, 640.0, {}, 130),
    ],
)
def test_rows_of_a_validation_worked_by_hand(
    held_out: int, trained: float, changes: dict[str, object], rows: int
) -> None:
    recipe = build({"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, **changes})
    assert validation_rows(recipe, held_out, trained) == rows


def test_it_needs_no_torch() -> None:
    code = "import sys, tui_lab.recipes.resolve; "
    code += "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
