"""Recipes of other tools: every key is taken, the same here, or refused with its reason."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.recipes import other_tools
from tui_lab.recipes.other_tools import ImportedRecipe, convert, read
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.recipe import FIELDS, check_values

AXOLOTL = """
base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
load_in_4bit: true
strict: false
datasets:
  - path: teknium/GPT4-LLM-Cleaned
    type: alpaca
val_set_size: 0.1
output_dir: ./outputs/qlora-out
adapter: qlora
sequence_len: 2048
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_modules: [gate_proj, down_proj, up_proj, q_proj, v_proj, k_proj, o_proj]
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
tf32: false
gradient_checkpointing: true
flash_attention: true
warmup_ratio: 0.1
evals_per_epoch: 4
weight_decay: 0.0
special_tokens:
  pad_token: "<|end_of_text|>"
"""
FACTORY = """
model_name_or_path: meta-llama/Llama-3.2-1B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
preprocessing_num_workers: 16
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
val_size: 0.1
eval_steps: 500
"""
SCRIPT = """
import os
from unsloth import FastLanguageModel
raise SystemExit("this must not run")
max_seq_length = 2048
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name = "unsloth/Qwen3-0.6B", max_seq_length = max_seq_length, load_in_4bit = True,
    token = os.environ["HF_TOKEN"],
)
model = FastLanguageModel.get_peft_model(
    model, r = 16,
    target_modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    lora_alpha = 16, lora_dropout = 0, bias = "none",
    use_gradient_checkpointing = "unsloth", random_state = 3407,
    use_rslora = False, loftq_config = None,
)
trainer = SFTTrainer(model = model, tokenizer = tokenizer,
    train_dataset = load_dataset("yahma/alpaca-cleaned", split = "train"),
    args = SFTConfig(per_device_train_batch_size = 2, gradient_accumulation_steps = 4,
        warmup_ratio = 0.1, max_steps = 60, learning_rate = 2e-4, optim = "adamw_8bit",
        weight_decay = 0.001, lr_scheduler_type = "linear", seed = 3407, report_to = "none"))
"""


def imported(tmp_path: Path, text: str, name: str = "recipe.yml") -> ImportedRecipe:
    (tmp_path / name).write_text(text)
    return read(str(tmp_path / name))


def outcomes(found: ImportedRecipe) -> dict[str, str]:
    return {key.key: key.outcome for key in found.keys}


def test_axolotl(tmp_path: Path) -> None:
    found = imported(tmp_path, AXOLOTL)
    assert found.tool == "axolotl" and not found.problems
    assert found.values == {
        "model": "NousResearch/Llama-3.2-1B", "quantization": "nf4", "data": "teknium/GPT4-LLM-Cleaned",
        "validation_fraction": 0.1, "method": "lora", "max_length": 2048, "packing": True, "lora_r": 32,
        "lora_alpha": 16.0, "lora_dropout": 0.05, "target_modules": "all", "gradient_accumulation_steps": 4,
        "per_device_train_batch_size": 2, "num_train_epochs": 1.0, "optim": "adamw_8bit",
        "lr_scheduler_type": "cosine", "learning_rate": 2e-4, "gradient_checkpointing": True,
        "weight_decay": 0.0,
    }  # fmt: skip
    cannot = {key.key: key.reason for key in found.keys if key.outcome == "cannot"}
    assert list(cannot) == ["warmup_ratio"] and "set warmup_steps" in cannot["warmup_ratio"]


def test_llama_factory(tmp_path: Path) -> None:
    found = imported(tmp_path, FACTORY)
    assert found.tool == "llamafactory"
    assert found.values["compute_dtype"] == "bfloat16" and found.values["max_rows"] == 1000
    assert found.values["learning_rate"] == 1e-4 and found.values["target_modules"] == "all"
    cannot = {key.key: key.reason for key in found.keys if key.outcome == "cannot"}
    assert set(cannot) == {"dataset", "warmup_ratio"} and "dataset_info.json" in cannot["dataset"]


def test_several_sets_become_a_mixture(tmp_path: Path) -> None:
    text = AXOLOTL.replace("val_set", "  - path: json\n    data_files: own.jsonl\nval_set")
    found = imported(tmp_path, text)
    assert found.values["data"] == "teknium/GPT4-LLM-Cleaned:1 + own.jsonl:1"
    [data] = [key for key in found.keys if key.to == "data"]
    assert data.outcome == "taken" and "equal shares" in data.reason
    (tmp_path / "data").mkdir()
    info = {"identity": {"file_name": "identity.json"}, "alpaca_en_demo": {"hf_hub_url": "org/alpaca"}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    mixed = FACTORY + "mix_strategy: interleave_over\ninterleave_probs: 0.75,0.25\n"
    found = imported(tmp_path, mixed)
    first = tmp_path / "data" / "identity.json"
    assert found.values["data"] == f"{first}:0.75 + org/alpaca:0.25"
    assert found.values["mixture_sampling"] == "up"
    for shares, reason in (("0.5", "not one share"), ("a,b", "shares above 0"), ("0,1", "shares above 0")):
        made = imported(tmp_path, FACTORY + f"interleave_probs: {shares}\n")
        assert reason in next(key.reason for key in made.keys if key.key == "dataset")
    unknown = imported(tmp_path, FACTORY.replace("identity,", "other,"))
    assert "names no file" in next(key.reason for key in unknown.keys if key.key == "dataset")


def test_a_preference_stage_is_a_preference_loss(tmp_path: Path) -> None:
    found = imported(
        tmp_path, FACTORY.replace("sft", "dpo") + "pref_loss: simpo\npref_beta: 2.0\npref_ftx: 1.0\n"
    )
    assert found.values["preference_loss"] == "simpo" and found.values["preference_beta"] == 2.0
    assert found.values["chosen_weight"] == 1.0
    assert "preference_loss" not in imported(tmp_path, FACTORY).values
    reward = imported(tmp_path, FACTORY.replace("stage: sft", "stage: rm"))
    assert "stage rm is not offered" in next(key.reason for key in reward.keys if key.key == "stage")


def test_a_script_is_read_and_not_run(tmp_path: Path) -> None:
    found = imported(tmp_path, SCRIPT, "train.py")
    assert found.tool == "trl"
    assert found.values["model"] == "unsloth/Qwen3-0.6B" and found.values["data"] == "yahma/alpaca-cleaned"
    assert found.values["max_length"] == 2048 and found.values["warmup_steps"] == 6
    assert found.values["target_modules"] == "all" and found.values["gradient_checkpointing"] is True
    assert "HF_TOKEN" not in found.to_toml("train.py")
    assert {key for key, outcome in outcomes(found).items() if outcome == "cannot"} == {"token"}


@pytest.mark.parametrize("text", [AXOLOTL, FACTORY])
def test_every_key_is_accounted_for_and_the_preset_is_a_recipe(tmp_path: Path, text: str) -> None:
    found = imported(tmp_path, text)
    assert all(key.to in FIELDS if key.outcome == "taken" else key.reason for key in found.keys)
    preset = tmp_path / "made.toml"
    preset.write_text(found.to_toml("recipe.yml"))
    assert tomllib.loads(preset.read_text())["title"] == "recipe"
    recipe = make_recipe(str(preset))
    assert {key: getattr(recipe, key) for key in found.values} == found.values


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("a: [", "r.yml", "r.yml, line 1: this is no valid YAML"),
        ("- 1", "r.yml", "keys and values at its top level"),
        ("colour: red", "r.yml", "neither axolotl's nor LLaMA-Factory's nor trl's keys"),
        ("base_model: ''\nadapter: ''", "r.yml", "no key of this axolotl recipe can be taken over"),
        ("def (", "r.py", "no valid Python"),
        ("print(1)", "r.py", "no call of from_pretrained"),
        ("!!python/object/apply:os.system ['false']", "r.yml", "no valid YAML"),
        ("[" * 5_000, "r.yml", "no valid YAML"),
        ("(" * 5_000, "r.py", "no valid Python"),
    ],
)
def test_what_is_no_recipe_is_one_sentence(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(LabError, match=said) as caught:
        imported(tmp_path, text, name)
    assert "\n" not in str(caught.value)


def test_values_without_counterpart_are_refused_by_name() -> None:
    keys = {
        "optim": "lion_8bit", "lr_scheduler_type": "polynomial", "r": 0, "quantization_bit": 3,
        "max_steps": -1, "eval_steps": 0.1, "save_steps": 50, "learning_rate": "fast", "push_to_hub": True,
        "model": "pocket",
    }  # fmt: skip
    found = convert(keys, "trl")
    assert found.values == {"save_steps": 50, "model": "pocket"}
    reasons = {key.key: key.reason for key in found.keys}
    assert "lion_8bit is not offered" in reasons["optim"] and "from 1 to 1024" in reasons["r"]
    assert "3 bits are not offered; nf4 is 4 bits" in reasons["quantization_bit"]
    one = next(key for key in convert({**keys, "quantization_bit": 1}, "trl").keys if "bit" in key.key)
    assert one.reason == reasons["quantization_bit"].replace("3 bits", "1 bits")
    assert outcomes(found)["max_steps"] == "same"


_KEYS = sorted({key for tool in other_tools._tables().values() for table in tool.values() for key in table})
_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-10, 10**9)
    | st.floats()
    | st.text(max_size=8)
    | st.lists(
        st.text(max_size=4) | st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        max_size=3,
    )
)


@given(
    st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=6), _VALUES, max_size=6),
    st.sampled_from(["axolotl", "llamafactory", "trl"]),
)
def test_any_values_are_judged(values: dict[str, Any], tool: Any) -> None:
    try:
        found = convert(values, tool)
    except LabError:
        return
    assert [key.key for key in found.keys] == list(values)
    assert not [
        each for key, value in found.values.items() for each in check_values({key: value}) if each.key == key
    ]
    assert tomllib.loads(found.to_toml("x")) is not None


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"load_in_8bit": True, "load_in_4bit": False}, "int8"),
        ({"load_in_8bit": False, "load_in_4bit": True}, "nf4"),
        ({"load_in_8bit": False}, None),
        ({"quantization_bit": 8}, "int8"),
        ({"quantization_bit": 4}, "nf4"),
        ({"quantization_bit": 1}, None),
    ],
)
def test_weights_in_8_bits_are_taken(keys: dict[str, object], kind: str | None) -> None:
    tool = "llamafactory" if "quantization_bit" in keys else "axolotl"
    found = convert({"base_model": "pocket", "model_name_or_path": "pocket", **keys}, tool)
    assert found.values.get("quantization") == kind
