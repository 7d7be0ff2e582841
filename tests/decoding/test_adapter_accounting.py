"""Adapters whose tensors miss their modules, hold NaN, bring embeddings or hostile expressions."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import tokenizers
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from tests.decoding.test_adapters import adapter_folder, config_of
from tui_lab.core.errors import LabError
from tui_lab.decoding import adapter_patterns
from tui_lab.decoding.adapter_files import own_tokenizer
from tui_lab.decoding.adapters import NeedsSeparateModel, load_adapter, load_peft_model
from tui_lab.decoding.records import DecodingRequest
from tui_lab.decoding.score_tokens import score_tokens
from tui_lab.decoding.session import DecodingSession
from tui_lab.decoding.strategies import parse

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return copy.deepcopy(tiny_model("llama"))


@pytest.fixture
def adapter(model: Any, tmp_path: Path) -> Path:
    return adapter_folder(model, config_of("lora", "llama"), tmp_path / "adapter")


def change_tensors(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def change_config(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def without_first(tensors: Tensors) -> Tensors:
    return dict(sorted(tensors.items())[1:])


def with_nan(tensors: Tensors) -> Tensors:
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    return tensors


def with_embedding(rows: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: (
        tensors
        | {
            "base_model.model.model.embed_tokens.weight": torch.ones(rows, 32),
            "base_model.model.lm_head.weight": torch.ones(rows, 32),
        }
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (renamed("self_attn", "attention"), r"tensors \(.*lora_A.*\) are missing from its adapter_model"),
        (renamed("layers.0.", "layers.9."), r"layers\.0\..* are missing"),
        (renamed("base_model.model.", "model."), "are missing"),
        (without_first, "the tensor .* is missing from its adapter_model"),
        (lambda t: t | {"base_model.model.model.layers.7.mlp.up_proj.lora_A.weight": torch.ones(4, 32)},
         "layers.7.* for no module of it"),
        (with_nan, "the tensor .* has NaN or infinite values"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("load", [load_adapter, load_peft_model])
def test_a_tensor_without_its_module_is_named(
    change: Callable[[Tensors], Tensors], sentence: str, load: Any, model: Any, adapter: Path
) -> None:
    change_tensors(adapter, change)
    with pytest.raises(LabError, match=sentence):
        load(model, adapter, "tuned")


def test_an_adapter_for_this_base_is_not_told_to_load_another(model: Any, adapter: Path) -> None:
    change_tensors(adapter, renamed("layers.0.", "layers.9."))
    for base, advised in (("owner/this-model", False), ("owner/other", True)):
        change_config(adapter, base_model_name_or_path=base)
        model.config._name_or_path = "/models/this-model"
        with pytest.raises(LabError) as refused:
            load_adapter(model, adapter, "tuned")
        assert ("load that" in str(refused.value)) is advised


@pytest.mark.parametrize("added", [3, -2])
def test_the_base_is_resized_to_an_adapter_with_all_its_embeddings(
    added: int, model: Any, adapter: Path
) -> None:
    """As ``resize_token_embeddings`` and peft do: the logits of both are equal."""
    rows = model.get_input_embeddings().weight.shape[0] + added
    change_tensors(adapter, with_embedding(rows))
    plain = copy.deepcopy(model)
    with pytest.raises(NeedsSeparateModel, match="embeddings of its own"):
        load_adapter(model, adapter, "tuned")
    assert model.get_input_embeddings().weight.shape[0] == rows - added, "the shared base is as it was"
    ids = torch.tensor([[1, 5, rows - 1]])
    loaded = load_peft_model(model, adapter, "tuned")
    plain.resize_token_embeddings(rows)
    expected = PeftModel.from_pretrained(plain, adapter).eval()
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, expected(ids).logits)
    assert loaded(ids).logits.shape[-1] == rows == loaded.config.vocab_size


def test_an_adapter_with_a_part_of_its_added_tokens_is_refused(model: Any, adapter: Path) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    change_tensors(
        adapter,
        lambda t: with_embedding(rows + 3)(t) | {"base_model.model.lm_head.weight": torch.ones(rows, 32)},
    )
    for load in (load_adapter, load_peft_model):
        with pytest.raises(LabError, match="3 added tokens, but it has only a part of their weights"):
            load(model, adapter, "tuned")


def test_answers_with_added_tokens(model: Any, adapter: Path) -> None:
    """The copy with added tokens writes them by its own tokenizer; the base keeps its vocabulary."""
    rows = model.get_input_embeddings().weight.shape[0]
    words = tokenizers.models.WordLevel({f"w{n}": n for n in range(rows)}, unk_token="w0")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(words))
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens([f"<new{n}>" for n in range(3)])
    larger.save_pretrained(adapter)
    change_tensors(adapter, with_embedding(rows + 3))
    assert own_tokenizer(adapter) == adapter
    session = DecodingSession(model, tokenizer)
    session.add_adapter_or_copy("tuned", adapter, lambda: copy.deepcopy(model))
    session.use_tokenizer("tuned", larger)
    assert session.decoder("tuned")([rows]) == "<new0>"
    [asked] = session.decode(DecodingRequest((1, rows + 2), (parse("greedy on=tuned"),), 2)).values()
    assert len(asked.token_ids) == 2
    with pytest.raises(LabError, match="beyond the model's vocabulary"):
        session.decode(DecodingRequest((1, rows + 2), (parse("greedy"),), 2))
    with pytest.raises(LabError, match="tokens that base does not know"):
        score_tokens(session, [1], [rows + 2])


def test_embeddings_of_an_adapter_do_not_change_the_base(model: Any, adapter: Path) -> None:
    before = model.get_input_embeddings().weight.clone()
    change_tensors(adapter, with_embedding(len(before)))
    with pytest.raises(NeedsSeparateModel, match="embeddings of its own"):
        load_adapter(model, adapter, "tuned")
    assert torch.equal(model.get_input_embeddings().weight, before)


HOSTILE = r"(?:\w|\w\w|\w\w\w|\.)*m"


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": HOSTILE},
        {"exclude_modules": HOSTILE},
        {"rank_pattern": {HOSTILE: 4}},
        {"alpha_pattern": {HOSTILE: 4}},
        {"modules_to_save": [HOSTILE]},
        {"target_modules": "(" * 100},
        {"target_modules": "a" * 5_000},
    ],
)
def test_hostile_expressions_end_in_a_sentence(
    values: dict[str, object], model: Any, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_patterns, "DEADLINE_S", 0.2)
    change_config(adapter, **values)
    began = time.monotonic()
    with pytest.raises(LabError, match=f"its {next(iter(values))} "):
        load_peft_model(model, adapter, "tuned")
    assert time.monotonic() - began < 5


def test_expressions_mean_what_peft_makes_of_them(model: Any, tmp_path: Path) -> None:
    config = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=4,
        target_modules=r".*\.(q|k|v)_proj",
        exclude_modules=r".*\.1\.self_attn\.k_proj",
        rank_pattern={r"layers\.0\.self_attn\.(q|k)_proj": 2},
    )
    folder = adapter_folder(model, config, tmp_path / "patterns")
    wrapped = load_peft_model(model, folder, "tuned")
    own = load_file(folder / "adapter_model.safetensors")
    found = peft.get_peft_model_state_dict(wrapped)
    assert found.keys() == own.keys() and all(torch.equal(found[name], own[name]) for name in own)


@pytest.mark.parametrize("load", [load_adapter, load_peft_model])
def test_values_of_a_wrong_type_and_unknown_types_of_tensors_end_in_a_sentence(
    load: Any, model: Any, adapter: Path
) -> None:
    path = adapter / "adapter_model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"F32"', b'"F9" ', 1))
    with pytest.raises(LabError, match="tensors of type F9"):
        load(model, adapter, "tuned")
    path.write_bytes(content)
    change_config(adapter, modules_to_save=1)
    with pytest.raises(LabError, match="its modules_to_save '1' is no name of a module"):
        load_peft_model(model, adapter, "tuned")


def test_tensors_of_whole_numbers_are_no_adapter(model: Any, adapter: Path) -> None:
    change_tensors(adapter, lambda tensors: {name: (100 * t).to(torch.int8) for name, t in tensors.items()})
    with pytest.raises(LabError, match="tensors of type I8"):
        load_adapter(model, adapter, "tuned")


def test_an_infinite_scale_is_refused(model: Any, adapter: Path) -> None:
    change_config(adapter, lora_alpha=float("inf"))
    with pytest.raises(LabError, match=r"lora_alpha in its adapter_config\.json is inf"):
        load_adapter(model, adapter, "tuned")
