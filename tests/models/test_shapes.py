"""The formulas against transformers' and peft's own counts: every architecture × method × target spec."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    OSFConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import AutoConfig, AutoModelForCausalLM

from tui_lab.core.errors import LabError
from tui_lab.models import catalog, shapes, target_modules, trainable

#: Sizes in which no two dimensions are equal by chance, so that a formula that mixes them up fails.
SIZES = {
    "num_hidden_layers": 3, "hidden_size": 48, "intermediate_size": 72, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 101, "max_position_embeddings": 37,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {
    "n_layer": 3, "n_embd": 48, "n_head": 6, "vocab_size": 101, "n_positions": 37,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
WIDE_HEADS = ("qwen3", "gemma", "gemma2", "gemma3_text", "llama", "mistral")
VARIANTS = [
    *({"model_type": kind} for kind in shapes.MODEL_TYPES),
    *({"model_type": kind, "head_dim": 16} for kind in WIDE_HEADS),
    *(
        {"model_type": kind, "tie_word_embeddings": True}
        for kind in ("llama", "qwen2", "granite", "gpt_neox")
    ),
    *(
        {"model_type": kind, "attention_bias": True}
        for kind in ("llama", "qwen3", "gemma", "olmo2", "granite")
    ),
    *({"model_type": kind, "mlp_bias": True} for kind in ("llama", "granite")),
    {"model_type": "gpt_neox", "attention_bias": False},
    {"model_type": "phi", "qk_layernorm": True},
    {"model_type": "gpt2", "n_inner": 100},
    {"model_type": "gemma", "tie_word_embeddings": False},
]
METHODS = {
    "lora": {"method": "lora"},
    "dora": {"method": "lora", "use_dora": True},
    "adalora": {"method": "adalora"},
    "loha": {"method": "loha"},
    "ia3": {"method": "ia3"},
    "osf": {"method": "osf"},
}


def config_of(variant: dict) -> object:
    values = dict(GPT2 if variant["model_type"] == "gpt2" else SIZES) | variant
    kind = values.pop("model_type")
    if kind == "gpt_neox":
        values.pop("num_key_value_heads")
    if kind not in WIDE_HEADS:
        values.pop("head_dim", None)
    return AutoConfig.for_model(kind, **values)


def model_of(variant: dict, device: str = "meta") -> torch.nn.Module:
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config_of(variant))


def shape_of(variant: dict) -> shapes.Shape:
    shape = shapes.from_config(config_of(variant).to_dict())
    assert shape is not None
    return shape


def recipe(**changes: object) -> SimpleNamespace:
    values = {
        "method": "lora", "lora_r": 5, "use_dora": False, "init_r": 7, "num_virtual_tokens": 11,
        "target_modules": "all", "frozen_layers": 0, "effective_rank": 0.7,
    }  # fmt: skip
    return SimpleNamespace(**(values | changes))


def peft_config(made: SimpleNamespace, found: target_modules.Targets) -> object:
    common = {"task_type": "CAUSAL_LM"}
    modules = list(found.modules)
    match made.method:
        case "lora":
            return LoraConfig(r=made.lora_r, target_modules=modules, use_dora=made.use_dora, **common)
        case "adalora":
            return AdaLoraConfig(
                init_r=made.init_r, target_r=3, total_step=10, target_modules=modules, **common
            )
        case "loha":
            return LoHaConfig(r=made.lora_r, target_modules=modules, **common)
        case "osf":
            return OSFConfig(effective_rank=made.effective_rank, target_modules=modules, **common)
        case "ia3":
            return IA3Config(target_modules=modules, feedforward_modules=list(found.feedforward), **common)
    raise AssertionError(made.method)


def trained(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(str(x) for x in v.values()))
def test_parameters_are_those_of_transformers(variant: dict) -> None:
    assert shapes.parameter_count(shape_of(variant)) == model_of(variant).num_parameters()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(shapes.MODEL_TYPES),
    layers=st.integers(1, 3),
    head=st.sampled_from([2, 4, 6]),
    kv=st.integers(1, 3),
    groups=st.integers(1, 3),
    inner=st.integers(1, 90),
    vocabulary=st.integers(5, 300),
    tied=st.booleans(),
)
def test_parameters_hold_for_any_sizes(
    kind: str, layers: int, head: int, kv: int, groups: int, inner: int, vocabulary: int, tied: bool
) -> None:
    heads = kv * groups
    if kind == "gpt2":
        values = {"n_layer": layers, "n_embd": heads * head, "n_head": heads, "n_inner": inner}
    else:
        values = {
            "num_hidden_layers": layers, "hidden_size": heads * head, "intermediate_size": inner,
            "num_attention_heads": heads,
        }  # fmt: skip
        if kind != "gpt_neox":
            values["num_key_value_heads"] = kv
        if kind in WIDE_HEADS:
            values["head_dim"] = head
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, tie_word_embeddings=tied, **values, **special)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = shapes.from_config(config.to_dict())
    assert shape is not None
    assert shapes.parameter_count(shape) == model.num_parameters()


@pytest.mark.parametrize("kind", shapes.MODEL_TYPES)
def test_linears_are_the_models_own(kind: str) -> None:
    model = model_of({"model_type": kind})
    own: dict[str, tuple[int, int, int, bool]] = {}
    for name, module in model.named_modules():
        if type(module).__name__ not in ("Linear", "Conv1D") or name == "lm_head":
            continue
        path = ".".join(name.split(".")[-2:])
        inner, outer = module.weight.shape if type(module).__name__ == "Conv1D" else module.weight.shape[::-1]
        count = own.get(path, (0, 0, 0, False))[2] + 1
        own[path] = (inner, outer, count, module.bias is not None)
    ours = {
        linear.path: (linear.in_features, linear.out_features, linear.count, linear.bias)
        for linear in shapes.linears(shape_of({"model_type": kind}))
    }
    assert ours == own


@pytest.mark.parametrize("spec", ["qv", "qkv", "qkvo", "mlp", "all"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", shapes.MODEL_TYPES)
def test_trainable_is_what_peft_makes(kind: str, method: str, spec: str) -> None:
    made = recipe(**METHODS[method], target_modules=spec)
    if kind == "gpt2" and method in ("loha", "osf"):
        with pytest.raises(LabError, match="use method = 'lora'"):
            trainable.trainable_count(shape_of({"model_type": kind}), made)
        if method == "osf":  # peft leaves such layers as they are
            return
        with pytest.raises(TypeError, match="Conv1D"):  # when peft learns it, so should the formula
            get_peft_model(
                model_of({"model_type": kind}, "cpu"), peft_config(made, target_modules.explain(kind, spec))
            )
        return
    variant = {"model_type": kind, "head_dim": 16} if kind in WIDE_HEADS else {"model_type": kind}
    # AdaLoRA and DoRA look at the weights while they are made, so those need real ones
    model = model_of(variant, "cpu")
    found = target_modules.explain(kind, spec)
    tuned = get_peft_model(model, peft_config(made, found))
    assert trainable.trainable_count(shape_of(variant), made) == trained(tuned)


@pytest.mark.parametrize("kind", shapes.MODEL_TYPES)
def test_virtual_tokens_and_full(kind: str) -> None:
    variant = {"model_type": kind, "head_dim": 16} if kind in WIDE_HEADS else {"model_type": kind}
    shape = shape_of(variant)
    common = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 11}
    prefix = get_peft_model(model_of(variant, "cpu"), PrefixTuningConfig(**common))
    assert trainable.trainable_count(shape, recipe(method="prefix")) == trained(prefix)
    projected = get_peft_model(model_of(variant, "cpu"), PrefixTuningConfig(prefix_projection=True, **common))
    assert trainable.prefix_parameters(shape, 11, projection=True) == trained(projected)
    encoder = PromptEncoderConfig(encoder_hidden_size=shape.hidden, **common)
    encoded = get_peft_model(model_of(variant, "cpu"), encoder)
    assert trainable.trainable_count(shape, recipe(method="p_tuning")) == trained(encoded)
    prompt = get_peft_model(model_of(variant, "cpu"), PromptTuningConfig(**common))
    assert trainable.trainable_count(shape, recipe(method="prompt_tuning")) == trained(prompt)
    assert trainable.trainable_count(shape, recipe(method="full")) == trained(model_of(variant))


@pytest.mark.parametrize("kind", shapes.MODEL_TYPES)
def test_frozen_layers_are_not_counted(kind: str) -> None:
    from tui_lab.training.layers import freeze_first

    variant = {"model_type": kind, "head_dim": 16} if kind in WIDE_HEADS else {"model_type": kind}
    shape = shape_of(variant)
    whole = model_of(variant, "cpu")
    freeze_first(whole, 1)
    assert trainable.trainable_count(shape, recipe(method="full", frozen_layers=1)) == trained(whole)
    made = recipe(frozen_layers=1)
    tuned = get_peft_model(model_of(variant, "cpu"), peft_config(made, target_modules.explain(kind, "all")))
    freeze_first(tuned, 1)
    assert trainable.trainable_count(shape, made) == trained(tuned)


@pytest.mark.parametrize("init", ["gaussian", "pissa", "pissa_niter_16", "olora"])
def test_initialisation_and_scale_change_no_count(init: str) -> None:
    config = LoraConfig(
        r=5, target_modules=target_modules.resolve("llama", "all"), init_lora_weights=init, use_rslora=True,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    tuned = get_peft_model(model_of({"model_type": "llama"}, "cpu"), config)
    assert trainable.trainable_count(shape_of({"model_type": "llama"}), recipe()) == trained(tuned)


def test_named_layers_count_as_peft_matches_them() -> None:
    for kind, spec in (("llama", "q_proj, down_proj"), ("gpt2", "c_proj"), ("gpt2", "mlp.c_proj,c_attn")):
        config = LoraConfig(r=5, target_modules=target_modules.resolve(kind, spec), task_type="CAUSAL_LM")
        tuned = get_peft_model(model_of({"model_type": kind}), config)
        made = recipe(target_modules=spec)
        assert trainable.trainable_count(shape_of({"model_type": kind}), made) == trained(tuned), (kind, spec)


@pytest.mark.parametrize("kind", shapes.MODEL_TYPES)
def test_defaults_of_a_short_config_are_those_of_transformers(kind: str) -> None:
    values = dict(GPT2 if kind == "gpt2" else SIZES)
    values.pop("head_dim", None)
    if kind == "gpt_neox":
        values.pop("num_key_value_heads")
    config = AutoConfig.for_model(kind, **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = shapes.from_config({"model_type": kind, **values})
    assert shape is not None
    assert shapes.parameter_count(shape) == model.num_parameters()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": -3}, "num_hidden_layers"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"intermediate_size": True}, "intermediate_size"),
        ({"hidden_size": 10**30}, "hidden_size"),
        ({"num_key_value_heads": 5}, "num_key_value_heads"),
        ({"num_attention_heads": 96, "num_key_value_heads": 96, "head_dim": None}, "num_attention_heads"),
    ],
)
def test_impossible_sizes_are_named(change: dict, key: str) -> None:
    with pytest.raises(shapes.ShapeError, match=key):
        shapes.from_config({"model_type": "llama", **SIZES} | change)


def test_unknown_architecture_and_method() -> None:
    assert shapes.from_config({"model_type": "mamba", "hidden_size": 4}) is None
    assert shapes.from_config({"model_type": ["llama"]}) is None
    with pytest.raises(LabError, match="mamba"):
        shapes.linears(shapes.Shape("mamba", 1, 1, 1, 1, 1, 1, 1, True))
    with pytest.raises(LabError, match="vera"):
        trainable.trainable_count(shape_of({"model_type": "llama"}), recipe(method="vera"))


@pytest.mark.parametrize(
    ("name", "count"),
    [("Qwen2.5-0.5B", 8_798_208), ("Llama-3.2-1B", 11_272_192), ("TinyLlama", 12_615_680)],
)
def test_counts_that_others_report(name: str, count: int) -> None:
    """Trainable parameters of rank 16 on all layers, as public training logs of these models print them."""
    shape = catalog.find(name).shape
    assert shape is not None
    assert trainable.trainable_count(shape, recipe(lora_r=16)) == count
