"""Every weight of a loaded model is accounted for; weights that were quantised before are read or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers.quantizers.auto import AutoHfQuantizer

from tui_lab.core.errors import LabError
from tui_lab.models import accounting, catalog, checkpoint, loading, stored_forms
from tui_lab.models.loading import ModelSource, Precision, load_model

Tensors = dict[str, torch.Tensor]
CONFIG = LlamaConfig(
    vocab_size=96, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, tie_word_embeddings=False, max_position_embeddings=64,
)  # fmt: skip
PLAIN = Precision()
IDS = torch.tensor([[1, 5, 9, 2]])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("plain")
    LlamaForCausalLM(CONFIG).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Callable[[Callable[[Tensors], object]], Path]:
    """A copy of the model whose tensors a function has changed."""

    def make(change: Callable[[Tensors], object]) -> Path:
        tensors = load_file(plain / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        for name in ("config.json", "tokenizer.json"):
            (tmp_path / name).write_text((plain / name).read_text())
        return tmp_path

    return make


def load(folder: Path, precision: Precision = PLAIN) -> LlamaForCausalLM:
    model = load_model(ModelSource(str(folder)), precision, device="cpu")
    assert isinstance(model, LlamaForCausalLM)
    return model


@torch.no_grad()
def logits(model: LlamaForCausalLM) -> torch.Tensor:
    return model(IDS).logits.float()


LAYER = "model.layers.1.mlp.up_proj.weight"
FAULTS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "a layer": (lambda t: t.pop(LAYER), f"the tensor {LAYER} is missing"),
    "the head": (lambda t: t.pop("lm_head.weight"), "the tensor lm_head.weight is missing"),
    "the embedding": (lambda t: t.pop("model.embed_tokens.weight"), "embed_tokens.weight is missing"),
    "a norm": (lambda t: t.pop("model.norm.weight"), "the tensor model.norm.weight is missing"),
    "one too many": (lambda t: t.update({LAYER.replace("1", "2"): t[LAYER].clone()}), "layers.2.mlp.up_proj"),
    "a bias": (lambda t: t.update({LAYER.replace("weight", "bias"): t[LAYER][0].clone()}), "bias is in its"),
    "another size": (lambda t: t.update({LAYER: t[LAYER][:-1].clone()}), "63×64 instead of 64×64"),
    "a NaN": (lambda t: t[LAYER].view(-1)[7].fill_(float("nan")), f"{LAYER} holds NaN or infinite"),
    "infinity": (lambda t: t["model.norm.weight"][3].fill_(float("-inf")), "model.norm.weight holds NaN"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_with_a_fault_is_refused_and_the_tensor_is_named(
    fault: str, copy: Callable[[Callable[[Tensors], object]], Path]
) -> None:
    change, sentence = FAULTS[fault]
    with pytest.raises(LabError, match=sentence):
        load(copy(change))


def test_tensors_that_no_causal_model_uses_are_no_fault(
    copy: Callable[[Callable[[Tensors], object]], Path],
) -> None:
    extra = ("model.rotary_emb.inv_freq", "vision_tower.proj.weight", "score.weight")
    load(copy(lambda t: t.update({name: torch.ones(2) for name in extra})))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda t: [t.pop(n) for n in list(t) if ".1." in n],
            "7 tensors .*layers.1.* missing from its files",
        ),
        (lambda t: t.update({LAYER.replace("1", "2"): t[LAYER].clone()}), "not in the model that its config"),
        (lambda t: t.update({LAYER: t[LAYER].to(torch.int8)}), "no quantization_config that says how"),
    ],
)
def test_what_headers_show_is_known_without_loading(
    change: Callable[[Tensors], object], sentence: str, copy: Callable[[Callable[[Tensors], object]], Path]
) -> None:
    problem = checkpoint.inspect(copy(change)).problem
    assert problem is not None
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(problem)


def test_large_float16_values_are_finite() -> None:
    module = torch.nn.Linear(2, 2, bias=False, dtype=torch.float16)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[65504.0, -65504.0], [0.0, 1.0]]))
    assert accounting.not_finite(module) == []


# --------------------------------------------------------------------------------------------------
# quantised before


@pytest.fixture(scope="module")
def quantised(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model as bitsandbytes saves it in 4 and in 8 bits."""
    found = {}
    for name, config in (
        ("bnb4", BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")),
        ("bnb8", BitsAndBytesConfig(load_in_8bit=True)),
    ):
        model = AutoModelForCausalLM.from_pretrained(
            plain, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
        )
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        (found[name] / "tokenizer.json").write_text("{}")
    return found


@pytest.mark.parametrize("form", ["bnb4", "bnb8"])
def test_weights_of_bitsandbytes_stay_as_they_are_stored(
    form: str, plain: Path, quantised: dict[str, Path], tmp_path: Path
) -> None:
    folder = quantised[form]
    assert checkpoint.inspect(folder).form == form
    exact = logits(load(plain))
    stored, dense = load(folder), load(folder, Precision(unquantized=True))
    assert type(stored.model.layers[0].mlp.up_proj).__name__ in ("Linear4bit", "Linear8bitLt")
    assert type(dense.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert dense.model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    error = (logits(dense) - exact).norm() / exact.norm()
    assert 0 < error < 0.2  # the rounding of the form and nothing more
    assert (logits(stored) - logits(dense)).norm() / exact.norm() < 0.05
    dense.save_pretrained(tmp_path)
    assert checkpoint.inspect(tmp_path).form == "plain"
    assert torch.equal(logits(load(tmp_path)), logits(dense))


def _fp8(folder: Path, plain: Path) -> Path:
    """The model as DeepSeek and Qwen store FP8: values and the inverse scales of blocks of 32×32."""
    tensors = load_file(plain / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight = tensors[name]
        blocks = weight.reshape(2, 32, -1, 32)
        scale = blocks.abs().amax(dim=(1, 3)) / 448.0
        tensors[name] = (blocks / scale[:, None, :, None]).reshape(weight.shape).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((plain / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_fp8_is_read_as_plain_weights_and_can_be_stored_in_4_bits(plain: Path, tmp_path: Path) -> None:
    folder = _fp8(tmp_path, plain)
    assert checkpoint.inspect(folder).form == "fp8"
    exact, read = logits(load(plain)), load(folder)
    assert type(read.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert (logits(read) - exact).norm() / exact.norm() < 0.1
    four_bit = load(folder, Precision(quantization="nf4"))
    assert type(four_bit.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    assert type(four_bit.lm_head) is torch.nn.Linear
    assert (logits(four_bit) - exact).norm() / exact.norm() < 0.3


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "\x1b[31mred", ""])
def test_other_forms_are_refused_with_one_sentence(
    method: str, copy: Callable[[Callable[[Tensors], object]], Path]
) -> None:
    folder = copy(lambda t: None)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    problem = checkpoint.inspect(folder, "m").problem
    assert problem is not None and "in the quantised form" in problem and "\x1b" not in problem
    with pytest.raises(LabError) as refused:
        load(folder)
    assert str(refused.value).partition(": ")[2] == problem.partition(": ")[2]


@pytest.mark.parametrize(
    ("said", "form"),
    [
        ({"load_in_4bit": True}, "bnb4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb8"),
        ({"quant_method": "fp8"}, "fp8"),
        ([], "no object"),
    ],
)
def test_plain_weights_under_the_config_of_a_stored_form_are_refused(
    said: object, form: str, copy: Callable[[Callable[[Tensors], object]], Path]
) -> None:
    """As merging into a base that was loaded in 4 bits writes them."""
    folder = copy(lambda t: None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
    problem = checkpoint.inspect(folder, "m").problem
    assert problem is not None and form in problem and "\n" not in problem
    with pytest.raises(LabError, match=form):
        catalog.find(str(folder))


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_form_is_read_where_its_packages_are_installed_and_work(
    method: str, copy: Callable[[Callable[[Tensors], object]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages that are missing here are feigned; transformers' own check of the machine decides then."""
    folder = copy(lambda t: t.update({"model.layers.0.mlp.up_proj.qweight": torch.zeros(1)}))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(stored_forms, "find_spec", lambda name: name)
    facts = checkpoint.inspect(folder, "m")
    assert facts.problem is None and facts.form == method
    with pytest.raises(LabError, match=r"requires (optimum|gptqmodel).*take the original model"):
        load(folder)  # transformers does not find them

    checked: list[object] = []
    works = SimpleNamespace(validate_environment=lambda **where: checked.append(where))
    monkeypatch.setattr(AutoHfQuantizer, "from_config", lambda *_, **__: works)
    monkeypatch.setattr(loading, "_from_files", lambda *_: (_ for _ in ()).throw(OSError("read")))
    with pytest.raises(LabError, match="cannot be loaded: read"):
        load(folder)
    assert checked == [{"device_map": {"": "cpu"}}]

    def refuse(**_: object) -> None:
        raise RuntimeError("expect N to be dividable by 16")

    refusing = torch.nn.Linear(1, 1)
    refusing.forward, refusing.device = refuse, "cpu"  # type: ignore[method-assign, assignment]
    monkeypatch.setattr(loading, "_from_files", lambda *_: (refusing, {}))
    with pytest.raises(LabError, match=r"cannot be loaded: .*expect N to be dividable by 16"):
        load(folder)
    with pytest.raises(LabError, match=f"form {method}, which cannot be turned into plain weights"):
        load(folder, Precision(unquantized=True))


def test_a_config_with_nan_is_refused(copy: Callable[[Callable[[Tensors], object]], Path]) -> None:
    folder = copy(lambda t: None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": float("nan")}))
    problem = checkpoint.inspect(folder, "m").problem
    assert problem == "m: has rms_norm_eps = NaN in its config.json, so it computes nothing; correct it"


def test_the_size_limit_is_checked_before_weights_are_read(
    copy: Callable[[Callable[[Tensors], object]], Path],
) -> None:
    folder = copy(lambda t: None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"intermediate_size": 1 << 24, "num_hidden_layers": 80})
    )
    with pytest.raises(LabError, match=r"over the lab's limit of 3 B"):
        load(folder)
