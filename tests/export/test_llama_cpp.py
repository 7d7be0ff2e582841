"""GGUF export: the converter is found, run, and its file is read back and compared. A small converter for
Llama models, written with the ``gguf`` package, replaces llama.cpp's own where that is not installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.paths import SHARED
from tui_lab.core.errors import LabError
from tui_lab.export import gguf, job, llama_cpp, modelfile, records
from tui_lab.export.records import ExportRequest, GgufInfo
from tui_lab.pocket import MODEL_DIR
from tui_lab.retention.suites import registry

load_suite = registry.load
needs_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="needs the extra gguf"
)
needs_gguf = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="needs the package gguf")
#: Llama's tensors and a byte-level vocabulary, as llama.cpp's converter writes them. SPOIL spoils one weight.
CONVERTER = """
import argparse, json, os, pathlib
import gguf, numpy, torch
from safetensors.torch import load_file
parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--outfile")
parser.add_argument("--outtype", choices=["bf16", "f32", "f16"])
args = parser.parse_args()
config = json.loads((args.folder / "config.json").read_text())
tokens = json.loads((args.folder / "tokenizer.json").read_text())
broken = os.environ.get("BREAK", "")
writer = gguf.GGUFWriter(args.outfile, "llama")
writer.add_block_count(config["num_hidden_layers"])
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(config["num_attention_heads"])
writer.add_head_count_kv(config["num_key_value_heads"])
writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
writer.add_rope_dimension_count(config["head_dim"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_vocab_size(config["vocab_size"])
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("smollm")
names = {at: word for word, at in tokens["model"]["vocab"].items()}
names |= {token["id"]: token["content"] for token in tokens["added_tokens"]}
writer.add_token_list([names.get(at, f"[PAD{at}]") for at in range(config["vocab_size"])])
special = {token["id"] for token in tokens["added_tokens"]}
writer.add_token_types([3 if at in special else 1 for at in range(config["vocab_size"])])
writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in tokens["model"]["merges"]])
writer.add_eos_token_id(config["eos_token_id"])
if broken == "beginning":
    writer.add_bos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)
template = (args.folder / "chat_template.jinja").read_text()
writer.add_chat_template(template + " " if broken == "template" else template)
table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
def turned(weight, heads):
    shape = (heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)
for name, weight in load_file(args.folder / "model.safetensors").items():
    weight = weight.float().numpy()
    if name.endswith("q_proj.weight"):
        weight = turned(weight, config["num_attention_heads"])
    if name.endswith("k_proj.weight"):
        weight = turned(weight, config["num_key_value_heads"])
    if os.environ.get("SPOIL") and name.endswith("layers.0.mlp.up_proj.weight"):
        weight = weight + 0.01
    kind = gguf.GGMLQuantizationType.F32
    if args.outtype != "f32" and weight.ndim == 2:
        kind = gguf.GGMLQuantizationType[args.outtype.upper()]
    name = table.get_name(name, try_suffixes=(".weight",))
    writer.add_tensor(name, gguf.quants.quantize(numpy.ascontiguousarray(weight), kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""


def quiet(text: str, done: int | None = None, total: int | None = None) -> None:
    del text, done, total


def placed(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "convert_hf_to_gguf.py"
    path.write_text(text)
    return path


def test_the_converter_is_found_or_one_sentence_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(llama_cpp, "installed_version", lambda: "")
    with pytest.raises(LabError, match=r"needs llama.cpp.*pip install 'tui-lab\[gguf\]'.*LLAMA_CPP_DIR"):
        llama_cpp.find_converter(quiet)
    found = placed(tmp_path / "bin", "#!/bin/sh\n")
    found.chmod(0o755)
    assert llama_cpp.find_converter(quiet) == found
    own = placed(tmp_path / "llama.cpp", "")
    monkeypatch.setenv("LLAMA_CPP_DIR", str(own.parent))
    assert llama_cpp.find_converter(quiet) == own
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    with pytest.raises(LabError, match=r"which has no convert_hf_to_gguf.py"):
        llama_cpp.find_converter(quiet)


def test_the_converter_s_error_is_reported(tmp_path: Path) -> None:
    script = placed(tmp_path, "import sys; print('INFO: loading'); sys.exit('Model Xyz is not supported')")
    with pytest.raises(LabError, match="did not convert this model: Model Xyz is not supported"):
        llama_cpp.convert(script, tmp_path, tmp_path / "x.gguf", "f32")
    quiet = placed(tmp_path, "print('done')")  # and no file
    with pytest.raises(LabError, match="did not convert this model: done"):
        llama_cpp.convert(quiet, tmp_path, tmp_path / "x.gguf", "f32")


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}], "smollm"),
        ([{"type": "ByteLevel", "use_regex": True}], "gpt-2"),
        ([{"type": "Digits", "individual_digits": False}, {"type": "ByteLevel", "use_regex": True}], ""),
        ([{"type": "Split", "pattern": {"Regex": "x"}}, {"type": "ByteLevel", "use_regex": False}], ""),
        ([{"type": "Whitespace"}], ""),
        ([], ""),
    ],
)
def test_the_splitting_of_an_own_vocabulary(tmp_path: Path, steps: list[dict[str, Any]], name: str) -> None:
    value = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    assert llama_cpp.splitting_of(tmp_path) == name


@pytest.mark.parametrize(("tokenizer", "name"), [("qwen2", "qwen2"), ("gpt2", "gpt-2")])
def test_the_splitting_of_real_tokenizers(tokenizer: str, name: str) -> None:
    folder = SHARED / "tokenizers" / tokenizer
    if not folder.is_dir():
        pytest.skip("the shared tokenizers are not there")
    assert llama_cpp.splitting_of(folder) == name


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="bfloat16").save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    return folder


@needs_gguf
def test_a_wrong_weight_in_a_gguf_file_is_detected(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next test has a correct file."""
    script = placed(tmp_path / "llama.cpp", CONVERTER)
    monkeypatch.setenv("SPOIL", "1")
    file = tmp_path / "model-bf16.gguf"
    llama_cpp.convert(script, merged, file, "bf16")
    found = llama_cpp.read_back(script, file, merged)
    assert found.architecture == "llama" and found.eos == 2
    assert found.chat_template == (MODEL_DIR / "chat_template.jinja").read_text()
    assert found.weights == pytest.approx(0.01, rel=0.2), found


@needs_gguf
def test_a_run_becomes_gguf_with_its_modelfile(
    make_run: Callable[..., Any],
    in_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(placed(tmp_path / "llama.cpp", CONVERTER).parent))
    result = job.handle(ExportRequest(run=run.id, kind="gguf"), lambda *_: None)
    names = {check.name for check in result.checks}
    assert names >= {"logits", "gguf_template", "gguf_end", "gguf_weights", "modelfile_template"}
    place = Path(str(result.path))
    assert {path.name for path in place.iterdir()} >= {"model-bf16.gguf", "Modelfile", "export.json"}
    assert (place / "Modelfile").read_text().startswith("FROM ./model-bf16.gguf\n")
    assert json.loads((place / "export.json").read_text())["figures"]["gguf"]["weights"] == 0


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("template", "the chat template in the GGUF file is not the run's"),
        ("beginning", "llama.cpp splits 10 of 10 conversations"),
    ],
)
@needs_gguf
def test_a_file_that_would_be_prompted_otherwise_is_refused(
    make_run: Callable[..., Any],
    in_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    sentence: str,
) -> None:
    if broken == "beginning" and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("needs the extra gguf")
    run = make_run()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(placed(tmp_path / "llama.cpp", CONVERTER).parent))
    monkeypatch.setenv("BREAK", broken)
    with pytest.raises(LabError, match=f"is not exported: {sentence}"):
        job.handle(ExportRequest(run=run.id, kind="gguf"), quiet)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, ""),
        ({"chat_template": "{{ messages[0]['content'] }}"}, "template in the GGUF file is not the run's"),
        ({"chat_template": None}, "template in the GGUF file is not the run's"),
        ({"eos": None}, "its end token is not one that ends a turn of the run"),
        ({"eos": 0}, "its end token is not one"),
        ({"architecture": "qwen2"}, "its architecture is qwen2, and should be llama"),
    ],
)
def test_wrong_metadata_of_a_file_are_found(wrong: dict[str, Any], sentence: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    right = GgufInfo("llama", tokenizer.chat_template, tokenizer.eos_token_id)
    checks = gguf.metadata_checks(replace(right, **wrong), "LlamaForCausalLM", tokenizer)
    failed = [check.text for check in checks if not check.passed]
    assert len(checks) == 3 and len(failed) == bool(sentence) and sentence in "".join(failed)


@needs_llama_cpp
@pytest.mark.parametrize("gguf_type", ["f16", "q8_0"])
def test_a_file_in_llama_cpp_answers_as_the_merged_weights(
    make_run: Callable[..., Any],
    in_process: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gguf_type: str,
) -> None:
    run = make_run(score_rows=4)
    monkeypatch.setenv("LLAMA_CPP_DIR", str(placed(tmp_path / "llama.cpp", CONVERTER).parent))
    monkeypatch.setattr(registry, "load", lambda name, limit=0: load_suite(name, 12))
    asked = ExportRequest(run=run.id, kind="gguf", gguf_type=gguf_type, suites=("everyday",))
    result = job.handle(asked, quiet)
    [logits] = [check for check in result.checks if check.name == "gguf_logits"]
    assert logits.mean_kl is not None and logits.mean_kl < (1e-4 if gguf_type == "f16" else 0.05)
    suite, held_out = result.figures.shipped
    assert suite.name == "everyday" and suite.items == 12 and held_out.name == "held-out rows"
    if gguf_type == "f16":
        assert (suite.flips, held_out.flips) == (0, 0)
    assert "base" in suite.sentence and "shipped" in records.sentences(result)[1]


def test_a_doubled_beginning_token_of_ollama_is_refused() -> None:
    template = modelfile.modelfile("./m.gguf", "<s>{{ .Prompt }}", (), {})
    assert gguf.begins_twice(template, "<s>", adds_bos=True)
    assert not gguf.begins_twice(template, "<s>", adds_bos=False)
    assert not gguf.begins_twice(template.replace("<s>", ""), "<s>", adds_bos=True)
    assert not gguf.begins_twice(template, "", adds_bos=True)


def test_types_and_suites_are_for_gguf() -> None:
    for values, sentence in (
        ({"kind": "gguf", "gguf_type": "q3"}, "the type of a GGUF file is f16, q8_0"),
        ({"kind": "merged", "gguf_type": "f16"}, "are for --as gguf"),
        ({"kind": "merged", "suites": ("everyday",)}, "are for --as gguf"),
        ({"kind": "gguf", "suites": ("everyday",), "strength": 0.5}, "need strength 1"),
    ):
        with pytest.raises(LabError, match=sentence):
            records.check_request(ExportRequest(run="x", **values))
