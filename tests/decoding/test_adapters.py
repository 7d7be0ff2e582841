"""Adapters and their base in one batch against peft's own models, each run alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from tests.decoding.conftest import ARCHITECTURES, prompt_of
from tests.decoding.test_parity import STOPS, generate, numbers
from tui_lab.core.errors import LabError
from tui_lab.decoding.adapters import NeedsSeparateModel, load_adapter, load_in_place
from tui_lab.decoding.records import DecodingRequest
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import Beam, Contrastive, Greedy, Lane, Sample

#: Suffixes of every linear module, and those whose input IA3 scales.
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS: dict[str, tuple[list[str], list[str]]] = {
    "phi": (["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"], ["fc2"]),
    "gpt_neox": (["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"], ["dense_4h_to_h"]),
    "gpt2": (["c_attn", "c_proj", "c_fc"], ["c_proj"]),
}


class NoText:
    """A tokenizer that only numbers its tokens."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return numbers(ids)


def adapter_folder(model: Any, config: Any, folder: Path, seed: int = 0) -> Path:
    """Saves an adapter whose every parameter is random, so that it changes the model much."""
    torch.manual_seed(seed)
    wrapped = peft.get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if weight.requires_grad:
                if "ia3" in name or "magnitude" in name:
                    weight.mul_(torch.rand_like(weight) + 0.5)
                else:
                    weight.add_(torch.randn_like(weight) * (1.0 if "prompt_encoder" in name else 0.3))
    wrapped.save_pretrained(folder)
    return folder


def config_of(method: str, model_type: str) -> Any:
    linear, feedforward = TARGETS.get(model_type, (LINEAR, ["down_proj"]))
    task = peft.TaskType.CAUSAL_LM
    match method:
        case "lora":
            return peft.LoraConfig(task_type=task, r=4, lora_alpha=6, target_modules=linear)
        case "rslora":
            pattern = {"rank_pattern": {linear[0]: 2}, "alpha_pattern": {linear[1]: 3}}
            return peft.LoraConfig(
                task_type=task,
                r=4,
                lora_alpha=2,
                use_rslora=True,
                target_modules=linear,
                lora_bias=True,
                **pattern,
            )
        case "dora":
            return peft.LoraConfig(task_type=task, r=4, lora_alpha=8, use_dora=True, target_modules=linear)
        case "adalora":
            return peft.AdaLoraConfig(
                task_type=task, init_r=4, target_r=2, target_modules=linear, total_step=10
            )
        case "ia3":
            return peft.IA3Config(task_type=task, target_modules=linear, feedforward_modules=feedforward)
        case "loha":
            return peft.LoHaConfig(task_type=task, r=3, alpha=3, target_modules=linear)
        case "osf":
            return peft.OSFConfig(task_type=task, effective_rank=0.7, target_modules=linear)
        case "prefix":
            return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=5)
        case "p_tuning":
            return peft.PromptEncoderConfig(task_type=task, num_virtual_tokens=4, encoder_hidden_size=16)
        case "prompt_tuning":
            return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=4)
    raise AssertionError(method)


def alone(model: Any, folder: Path) -> Any:
    """peft's own model with the adapter."""
    return peft.PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()


def tokens_of(
    wrapped: Any, prompt: tuple[int, ...], new: int, stops: frozenset[int], **kwargs: Any
) -> list[int]:
    """What peft's own model generates."""
    ids = torch.tensor([prompt])
    out = wrapped.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=sorted(stops),
        pad_token_id=0,
        **kwargs,
    )
    return out[0, len(prompt) :].tolist()


def compare(model: Any, folders: dict[str, Path], prompt: tuple[int, ...]) -> None:
    """Base and adapters in one batch, lanes mixed, against each alone."""
    stops, new = frozenset({5, 17}), 12
    lanes, expected = [], []
    single = {name: alone(model, folder) for name, folder in folders.items()}
    for strategy, kwargs in ((Greedy(), {}), (Beam(3), {"num_beams": 3})):
        for name, wrapped in single.items():
            lanes.append(Lane(strategy, on=name))
            expected.append(tokens_of(wrapped, prompt, new, stops, **kwargs))
        lanes.append(Lane(strategy))
        expected.append(generate(model, prompt, new, stops, **kwargs))
    lanes += [Lane(Contrastive()), Lane(Sample(), 3, next(iter(folders)))]
    stage = DecodingSession(model, NoText())
    for name, folder in folders.items():
        stage.add_adapter(name, folder)
    results = stage.decode(DecodingRequest(prompt, tuple(lanes), new, stops))
    for lane, result, wanted in zip(lanes, results.values(), expected, strict=False):
        assert list(result.token_ids) == wanted, lane.text
    assert expected[0] != expected[len(folders)], "the adapter changes nothing, so nothing is tested"


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_lora_shares_the_batch_on_every_architecture(
    tiny_model: Any, tmp_path: Path, model_type: str
) -> None:
    model = tiny_model(model_type)
    folder = adapter_folder(model, config_of("lora", model_type), tmp_path / "lora")
    compare(model, {"lora": folder}, prompt_of(15))


@pytest.mark.parametrize("method", ["rslora", "dora", "adalora", "ia3", "loha", "osf"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_variants_of_lora_share_the_batch(
    tiny_model: Any, tmp_path: Path, method: str, model_type: str
) -> None:
    if model_type == "gpt2" and method in ("loha", "osf"):
        pytest.skip("peft's LoHa and OSF do not take GPT-2's transposed modules")
    model = tiny_model(model_type)
    folder = adapter_folder(model, config_of(method, model_type), tmp_path / method)
    compare(model, {method: folder}, prompt_of(9))


def test_osf_needs_whole_weights(tiny_model: Any, tmp_path: Path) -> None:
    folder = adapter_folder(tiny_model("llama"), config_of("osf", "llama"), tmp_path / "osf")
    rounded = copy.deepcopy(tiny_model("llama"))
    layer = rounded.model.layers[0].self_attn.q_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(LabError, match="load the base without quantisation"):
        DecodingSession(rounded, NoText()).add_adapter("osf", folder)


def test_several_adapters_in_one_batch(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("qwen3")
    folders = {
        method: adapter_folder(model, config_of(method, "qwen3"), tmp_path / method, seed)
        for seed, method in enumerate(("lora", "ia3", "dora"))
    }
    compare(model, folders, prompt_of(9))


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen2"])
def test_virtual_tokens_as_second_pass(tiny_model: Any, tmp_path: Path, method: str, model_type: str) -> None:
    model = tiny_model(model_type)
    lora = adapter_folder(model, config_of("lora", model_type), tmp_path / "lora")
    virtual = adapter_folder(model, config_of(method, model_type), tmp_path / method)
    compare(model, {method: virtual, "lora": lora}, prompt_of(9))


def test_adapters_that_change_base_weights_need_a_separate_model(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("llama")
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=4, init_lora_weights="pissa", target_modules=LINEAR
    )
    folder = adapter_folder(model, config, tmp_path / "pissa")
    stage = DecodingSession(model, NoText())
    with pytest.raises(NeedsSeparateModel, match="pissa"):
        stage.add_adapter("pissa", folder)
    stage.add_model("pissa", load_in_place(copy.deepcopy(model), folder, "pissa"))
    prompt, stops = prompt_of(9), frozenset({5})
    tuned, base = stage.decode(DecodingRequest(prompt, (Lane(on="pissa"), Lane()), 16, stops)).values()
    assert list(tuned.token_ids) == tokens_of(alone(model, folder), prompt, 16, stops)
    assert list(base.token_ids) == generate(model, prompt, 16, stops)


def test_lanes_that_end_do_not_shift_the_split(tiny_model: Any, tmp_path: Path) -> None:
    """Base rows that leave the batch move the adapter's rows forward."""
    model = tiny_model("llama", sharpness=6.0)
    folder = adapter_folder(model, config_of("lora", "llama"), tmp_path / "lora")
    lanes = tuple(
        Lane(s, seed, on)
        for seed, s in enumerate((Sample(), Beam(2), Sample()))
        for on in ("lora", "base", "")
    )
    stage = DecodingSession(model, NoText())
    stage.add_adapter("lora", folder)
    together = list(stage.decode(DecodingRequest(prompt_of(8), lanes, 24, STOPS)).values())
    assert len({len(r.token_ids) for r in together}) > 2
    for lane, result in zip(lanes, together, strict=True):
        assert (
            stage.decode(DecodingRequest(prompt_of(8), (lane,), 24, STOPS))[0].token_ids == result.token_ids
        )


def test_base_is_unchanged(tiny_model: Any, tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_model("llama"))
    names, weights = [n for n, _ in model.named_modules()], copy.deepcopy(model.state_dict())
    for method in ("lora", "dora", "prefix"):
        load_adapter(
            model, adapter_folder(tiny_model("llama"), config_of(method, "llama"), tmp_path / method), method
        )
    stranger = adapter_folder(tiny_model("gpt2"), config_of("lora", "gpt2"), tmp_path / "gpt2")
    wide = adapter_folder(
        tiny_model("llama", hidden_size=48, num_attention_heads=6),
        config_of("lora", "llama"),
        tmp_path / "wide",
    )
    for folder in (stranger, wide):
        with pytest.raises(LabError, match="does not fit this llama model"):
            load_adapter(model, folder, folder.name)
    assert [n for n, _ in model.named_modules()] == names
    assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("method", ["prefix", "prompt_tuning"])
def test_virtual_tokens_of_another_size_are_refused(tiny_model: Any, tmp_path: Path, method: str) -> None:
    other = tiny_model("llama", hidden_size=48, num_attention_heads=6, num_key_value_heads=3)
    folder = adapter_folder(other, config_of(method, "llama"), tmp_path / method)
    with pytest.raises(LabError, match="does not fit"):
        load_adapter(tiny_model("llama"), folder, method)


def test_invalid_adapter_folders(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("llama")
    with pytest.raises(LabError, match=r"no adapter_config\.json"):
        load_adapter(model, tmp_path, "x")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"')
    with pytest.raises(LabError, match="not valid JSON"):
        load_adapter(model, tmp_path, "x")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(LabError, match="only safetensors are read"):
        load_adapter(model, tmp_path, "x")


def test_lane_on_an_unknown_adapter(tiny_model: Any) -> None:
    stage = DecodingSession(tiny_model("llama"), NoText())
    with pytest.raises(LabError, match=r"lane 1 runs on 'a'.*lane 2 runs on 'b'"):
        stage.decode(DecodingRequest((3, 4), (Lane(on="a"), Lane(on="b"))))
    with pytest.raises(LabError, match="vocabulary"):
        stage.add_model("other", tiny_model("llama", vocab_size=99))
    with pytest.raises(LabError, match="is taken"):
        stage.add_model("base", tiny_model("llama"))
