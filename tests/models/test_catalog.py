"""The catalog against transformers' counts and the published ones; folders and the cache, also hostile."""

import json
import os
import re
import struct
import subprocess
import sys
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from tests.paths import SHARED
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.models import catalog, checkpoint, shapes, target_modules

#: Published parameter counts, written down apart from the sizes in the catalog.
PUBLISHED = {
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen1.5-0.5B": 463_987_712,
    "Qwen/Qwen1.5-1.8B": 1_836_828_672,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "google/gemma-2b": 2_506_172_416,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-3-270m": 268_098_176,
    "google/gemma-3-1b-it": 999_885_952,
    "microsoft/phi-1_5": 1_418_270_720,
    "microsoft/phi-2": 2_779_683_840,
    "EleutherAI/pythia-70m": 70_426_624,
    "EleutherAI/pythia-160m": 162_322_944,
    "EleutherAI/pythia-410m": 405_334_016,
    "EleutherAI/pythia-1b": 1_011_781_632,
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "EleutherAI/pythia-2.8b": 2_775_208_960,
    "allenai/OLMo-2-0425-1B": 1_484_916_736,
    "ibm-granite/granite-3.1-2b-base": 2_533_531_648,
    "tiiuae/Falcon3-1B-Base": 1_669_408_768,
    "openai-community/gpt2": 124_439_808,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
}
OVER = [
    "Qwen/Qwen2.5-3B", "Qwen/Qwen3-4B", "meta-llama/Llama-3.2-3B", "meta-llama/Llama-2-7b-hf",
    "mistralai/Mistral-7B-v0.1", "microsoft/Phi-3-mini-4k-instruct", "meta-llama/Llama-3.1-8B",
]  # fmt: skip
TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 1, "vocab_size": 20,
    "max_position_embeddings": 64, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def listed() -> list[catalog.Entry]:
    return [entry for entry in catalog.load() if entry.where == "catalog"]


def safetensors(path: Path, **tensors: tuple[int, ...]) -> None:
    """A safetensors file by its public format: length, header, zeros."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 4
        for one in shape:
            size *= one
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


def folder(path: Path, config: dict | None = None, **changes: object) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    values = (TINY if config is None else config) | changes
    (path / "config.json").write_text(json.dumps(values))
    safetensors(path / "model.safetensors", weight=(3, 5))
    (path / "tokenizer.json").write_text("{}")
    (path / "tokenizer_config.json").write_text("{}")
    return path


def refusal(name: object, **options: object) -> str:
    with pytest.raises(LabError) as caught:
        catalog.find(str(name), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the listed models


def distinct_shapes() -> list[tuple[str, shapes.Shape]]:
    """Every size in the catalog once, by the first name that has it; gpt2's needs the context too."""
    found: dict[shapes.Shape, tuple[str, shapes.Shape]] = {}
    for entry in catalog._listed():
        if entry.shape:
            key = entry.shape if entry.model_type == "gpt2" else replace(entry.shape, context=0)
            found.setdefault(key, (entry.id, entry.shape))
    return list(found.values())


@pytest.mark.parametrize(("name", "shape"), distinct_shapes(), ids=lambda value: str(value)[:40])
def test_count_is_transformers_own(name: str, shape: shapes.Shape) -> None:
    if shape.model_type == "gpt2":
        values = {"n_layer": shape.layers, "n_embd": shape.hidden, "n_head": shape.heads,
                  "n_inner": shape.intermediate, "n_positions": shape.context}  # fmt: skip
    else:
        values = {"num_hidden_layers": shape.layers, "hidden_size": shape.hidden,
                  "num_attention_heads": shape.heads, "intermediate_size": shape.intermediate}  # fmt: skip
        if shape.model_type != "gpt_neox":
            values["num_key_value_heads"] = shape.kv_heads
        if shape.head_dim * shape.heads != shape.hidden:
            values["head_dim"] = shape.head_dim
        else:
            assert shape.head_dim == shape.hidden // shape.heads
            if shape.model_type in ("llama", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral"):
                values["head_dim"] = shape.head_dim
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(
        shape.model_type, vocab_size=shape.vocabulary, tie_word_embeddings=shape.tied, **values, **special
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shapes.parameter_count(shape) == model.num_parameters()
    assert shapes.from_config(config.to_dict() | {"max_position_embeddings": shape.context}) == shape


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_count_is_the_published_one(name: str, count: int) -> None:
    assert catalog.find(name, allow_large=True).parameters == count


def test_reference_table_agrees() -> None:
    shared = SHARED
    table = shared / "reference" / "models.md"
    if not table.is_file():
        pytest.skip("the reference table is not beside this checkout")
    rows = re.findall(r"^\| (\S+/\S+) \| (.*) \|$", table.read_text(), re.MULTILINE)
    assert len(rows) > 20
    for name, rest in rows:
        kind, layers, hidden, inner, heads, head_dim, vocabulary, tied, count = rest.split(" | ")
        entry = catalog.find(name)
        mine = [entry.model_type, entry.layers, entry.hidden, entry.intermediate]
        mine += [f"{entry.heads}/{entry.kv_heads}", entry.head_dim, entry.vocabulary, entry.tied]
        theirs = [
            kind,
            int(layers),
            int(hidden),
            int(inner),
            heads,
            int(head_dim),
            int(vocabulary),
            tied == "yes",
        ]
        assert f"{entry.parameters:,}" == count, name
        assert mine == theirs, name


def test_every_entry_has_its_facts() -> None:
    entries = listed()
    usable = [entry for entry in entries if not entry.refused]
    assert len(usable) >= 27
    assert len({entry.id for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.source and entry.licence and entry.gated is not None, entry.id
        assert set(entry.unverified) <= {"licence", "chat_template", "context", "gated"}, entry.id
        for name in entry.unverified:
            assert getattr(entry, name) is not None, f"{entry.id}: {name} is unverified and unknown"
        if entry.id == "Qwen/Qwen-1_8B":
            continue
        assert entry.shape and entry.context and entry.context >= 1024, entry.id
        assert target_modules.resolve(entry.shape.model_type, entry.suggested_targets)
        assert entry.parameters and (entry.parameters > 3e9) == bool(entry.refused) == entry.needs_flag


def test_toml_has_no_key_that_is_not_read() -> None:
    rows = tomllib.loads(Path(catalog.__file__).with_name("catalog.toml").read_text())["model"]
    known = {field.name for field in fields(shapes.Shape)} | set(catalog._Row.__struct_fields__)
    ids = {row["id"] for row in rows}
    for row in rows:
        assert set(row) <= known, row["id"]
        assert row.get("like", row["id"]) in ids
        assert row.get("smaller", row["id"]) in ids
        if "smaller" in row:
            assert catalog.find(row["smaller"]).refused is None


def test_pocket_comes_first() -> None:
    assert catalog.load()[0].id == "pocket"
    assert catalog.load()[0].where == "bundled"


def test_pocket_is_described_by_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_POCKET_DIR", tmp_path / "none")
    assert "tui_lab.pocket.builder.build" in refusal("pocket")
    monkeypatch.setattr(catalog, "_POCKET_DIR", folder(tmp_path / "model"))
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages }}")
    entry = catalog.find("Pocket")
    assert (entry.id, entry.on_disk, entry.chat_template, entry.context) == ("pocket", True, True, 64)
    assert entry.loadable == str(tmp_path / "model")
    assert entry.parameters == shapes.parameter_count(shapes.from_config(TINY))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("phi-2", "microsoft/phi-2"),
        ("Phi-2", "microsoft/phi-2"),
        ("gemma-2B", "google/gemma-2b"),
        ("tinyllama", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        (" qwen/qwen2.5-0.5b-INSTRUCT ", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("llama-3.2-1b", "meta-llama/Llama-3.2-1B"),
        ("GPT2", "openai-community/gpt2"),
    ],
)
def test_names_in_any_case_with_or_without_owner(name: str, found: str) -> None:
    assert catalog.find(name).id == found
    assert catalog.find(name).loadable == found


@pytest.mark.parametrize("name", OVER)
def test_over_three_billion(name: str) -> None:
    sentence = refusal(name)
    assert "over the lab's limit of 3 B" in sentence and "--allow-large" in sentence
    instead = re.search(r"such as (\S+)\)", sentence)
    assert instead and catalog.find(instead[1]).refused is None
    allowed = catalog.find(name, allow_large=True)
    assert allowed.id == name and allowed.refused is None and allowed.parameters > 3e9


@pytest.mark.parametrize("name", ["Qwen/Qwen-1_8B", "Qwen-1.8B", "qwen-1_8b"])
@pytest.mark.parametrize("allow_large", [False, True])
def test_first_qwen_points_to_its_successor(name: str, allow_large: bool) -> None:
    sentence = refusal(name, allow_large=allow_large)
    assert "remote code" in sentence and "Qwen/Qwen1.5-1.8B" in sentence
    assert catalog.find("Qwen1.5-1.8B").refused is None


def test_unknown_names() -> None:
    assert "did you mean 'HuggingFaceTB/SmolLM2-135M'" in refusal("smolm2-135m")
    assert "tui-lab models" in refusal("zzzzzzzzzzzz")
    assert "empty" in refusal("  ")
    assert "no such folder" in refusal("/does/not/exist")
    assert "no such folder" in refusal("./nothing")
    assert "no such folder" in refusal("a/b/c")


def test_any_hub_id_has_unknown_facts() -> None:
    entry = catalog.find("someone/Some-Model_1.0")
    assert (entry.id, entry.where, entry.on_disk) == ("someone/Some-Model_1.0", "hub", False)
    assert entry.parameters is entry.context is entry.licence is entry.chat_template is entry.shape is None
    assert entry.gated is None and entry.layers is None and entry.tied is None
    with pytest.raises(LabError, match=r"7\.00 B"):
        catalog.check_size("someone/x", 7_000_000_000, False)
    catalog.check_size("someone/x", 7_000_000_000, True)
    catalog.check_size("someone/x", 3_000_000_000, False)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
@example("~0")
@example("~/\0")
def test_any_name_is_an_entry_or_one_harmless_sentence(name: str) -> None:
    try:
        entry = catalog.find(name, cache_dir=Path("no-such-cache"))
        assert entry.label == sanitize(entry.label)
    except LabError as error:
        assert str(error) == sanitize(str(error))


# --- folders


def test_folder(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine")
    (path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Mine\n")
    entry = catalog.find(str(path))
    assert (entry.where, entry.label, entry.id, entry.path) == ("folder", "mine", str(path), path)
    assert (entry.on_disk, entry.context, entry.licence, entry.chat_template) == (True, 64, "mit", False)
    assert entry.parameters == shapes.parameter_count(shapes.from_config(TINY))
    assert entry.loadable == str(path)


def test_folder_of_this_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "./mine", "mine/"):
        assert catalog.find(name).path == tmp_path / "mine"
    folder(tmp_path / "phi-2")
    assert catalog.find("phi-2").where == "catalog"  # a known name wins; ./phi-2 means the folder
    assert catalog.find("./phi-2").where == "folder"


def test_unknown_architecture_is_counted_by_its_weights(tmp_path: Path) -> None:
    path = folder(tmp_path / "bloom", {"architectures": ["BloomForCausalLM"], "model_type": "bloom"})
    safetensors(path / "model.safetensors", a=(7, 11), b=(13,), c=())
    entry = catalog.find(str(path))
    assert (entry.parameters, entry.shape, entry.model_type) == (7 * 11 + 13 + 1, None, "bloom")


def test_folder_over_the_limit(tmp_path: Path) -> None:
    path = folder(tmp_path / "big", hidden_size=4096, intermediate_size=20000, num_hidden_layers=40,
                  num_attention_heads=32, vocab_size=100000)  # fmt: skip
    assert "over the lab's limit" in refusal(path)
    assert catalog.find(str(path), allow_large=True).parameters > 3e9
    (path / "model.safetensors").unlink()
    assert "no weights" in refusal(path, allow_large=True)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda p: (p / "config.json").unlink(), "no config.json"),
        (lambda p: (p / "config.json").write_text('{"a": 1,\n oops}'), "not valid JSON (line 2"),
        (lambda p: (p / "config.json").write_text(""), "config.json is empty"),
        (lambda p: (p / "config.json").write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
        (lambda p: (p / "config.json").write_text("[1, 2]"), "no JSON object"),
        (lambda p: (p / "config.json").write_text(f'{{"a": {"9" * 5000}}}'), "number that is too long"),
        (lambda p: (p / "config.json").write_text('{"a":' * 100_000), "nested too deeply"),
        (lambda p: (p / "config.json").write_text(" " * (checkpoint.MAX_JSON_BYTES + 1)), "over 16 MB"),
        (lambda p: (p / "config.json").write_text('{"hidden_size": 8}'), "no model_type"),
        (lambda p: folder(p, hidden_size="wide"), "hidden_size is not a positive whole number"),
        (lambda p: folder(p, vocab_size=-1), "vocab_size is not a positive whole number"),
        (lambda p: folder(p, architectures=["BertModel"], model_type="bert"), "not a causal language model"),
        (lambda p: folder(p, architectures=["LlamaForSequenceClassification"]),
         "LlamaForSequenceClassification"),
        (lambda p: folder(p, architectures=["LlamaModel"]), "not a causal language model"),
        (lambda p: folder(p, architectures=None, model_type="t5", is_encoder_decoder=True),
         "encoder-decoder t5"),
        (lambda p: folder(p, model_type="qwen", auto_map={"AutoModel": "m.Q"}), "remote code"),
        (lambda p: (p / "model.safetensors").unlink(), "has no weights"),
        (lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"), "save_pretrained(new_folder)"),
        (lambda p: (p / "model.safetensors").rename(p / "adapter_model.safetensors"), "has no weights"),
        (lambda p: (p / "model.safetensors").rename(p / "model.gguf"), "GGUF"),
        (lambda p: (p / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors"}}'),
         "x.safetensors of its weights is missing"),
        (lambda p: (p / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../hosts"}}'),
         "is missing"),
        (lambda p: (p / "model.safetensors.index.json").write_text("{}"), "every shard"),
        (lambda p: (p / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda p: ((p / "config.json").unlink(), (p / "adapter_config.json").write_text("{}")),
         "is an adapter"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_tuned(tmp_path: Path, break_it: object, words: str) -> None:
    path = folder(tmp_path / "model")
    break_it(path)
    sentence = refusal(path)
    assert words in sentence and sentence.startswith(f"model {path}: ")


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    path = folder(tmp_path / "model") / "model.safetensors"
    assert "is a file" in refusal(path)


def test_code_of_a_repository_is_not_needed_where_transformers_has_the_architecture(tmp_path: Path) -> None:
    remote = {"AutoModelForCausalLM": "modeling_x.X"}
    assert catalog.find(str(folder(tmp_path / "a", auto_map=remote))).refused is None
    falcon = {"architectures": ["FalconForCausalLM"], "model_type": "falcon", "auto_map": remote}
    assert catalog.find(str(folder(tmp_path / "b", falcon))).refused is None
    for kind in ("../../models", "no_such_thing", "x" * 9000):
        assert "remote code" in refusal(folder(tmp_path / "c", falcon, model_type=kind))


def test_hostile_names_are_made_visible(tmp_path: Path) -> None:
    path = folder(tmp_path / "evil\x1b[2Jname", architectures=["\x1b]0;x\x07Model"])
    sentence = refusal(path)
    assert sentence.isprintable()
    good = catalog.find(str(folder(tmp_path / "also\x1b[31mevil")))
    assert good.label.isprintable()


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("llama"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.dictionaries(st.sampled_from([*TINY, "auto_map", "head_dim", "is_encoder_decoder"]), ODD),
    index=ODD,
    header=ODD,
)
@example(config={"model_type": "bloom"}, index={"weight_map": {"a": []}}, header={})
@example(config={"model_type": "bloom"}, index=None, header={"a": {"shape": [float("inf")]}})
@example(config={"model_type": "bloom"}, index=None, header={"a": {"shape": [-7]}})
def test_any_json_is_facts_or_a_sentence(tmp_path: Path, config: dict, index: object, header: object) -> None:
    path = folder(tmp_path / "model", TINY | config)
    (path / "model.safetensors.index.json").unlink(missing_ok=True)
    if index is not None:
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    text = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    facts = checkpoint.inspect(path)
    assert facts.problem is None or facts.problem == sanitize(facts.problem)
    assert facts.parameters is None or facts.parameters > 0


# --- the hub cache


def cached(hub: Path, name: str, revision: str = "a" * 40, **changes: object) -> Path:
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    return folder(repository / "snapshots" / revision, **changes)


def test_cache(empty_cache: Path) -> None:
    snapshot = cached(empty_cache, "someone/small--thing")
    known = cached(empty_cache, "microsoft/phi-2")
    (known / "chat_template.jinja").write_text("{{ messages }}")
    (known / "README.md").write_text("---\nlicense: other\nlicense_name: 'new-licence'\n---\n")
    (empty_cache / "datasets--someone--data").mkdir()
    entries = {entry.id: entry for entry in catalog.load()}
    entry = entries["someone/small--thing"]
    assert (entry.where, entry.on_disk, entry.path) == ("cache", True, snapshot)
    assert catalog.find("small--THING").id == "someone/small--thing"
    assert entry.loadable == "someone/small--thing"
    phi = entries["microsoft/phi-2"]
    assert (phi.where, phi.on_disk, phi.path, phi.chat_template) == ("catalog", True, known, True)
    assert (phi.parameters, phi.licence) == (PUBLISHED["microsoft/phi-2"], "new-licence")
    assert phi.unverified == ()
    assert not any("data" in name for name in entries)


def test_cache_takes_main_else_the_newest(empty_cache: Path) -> None:
    cached(empty_cache, "a/b", "1" * 40, max_position_embeddings=100)
    newer = cached(empty_cache, "a/b", "2" * 40, max_position_embeddings=200)
    assert catalog.find("a/b").context == 200
    refs = empty_cache / "models--a--b" / "refs" / "main"
    refs.write_text("1" * 40)
    assert catalog.find("a/b").context == 100
    os.utime(newer, (2**31, 2**31))
    for bad in ("../../..", "x", ""):
        refs.write_text(bad)
        assert catalog.find("a/b").context == 200


def test_half_a_download_is_not_refused(empty_cache: Path) -> None:
    snapshot = cached(empty_cache, "a/half")
    (snapshot / "model.safetensors").unlink()
    entry = catalog.find("a/half")
    assert (entry.on_disk, entry.refused) == (False, None)
    (snapshot / "pytorch_model.bin").write_bytes(b"")
    assert "pickled" in refusal("a/half")


def test_damaged_cache_never_stops_the_list(empty_cache: Path) -> None:
    snapshot = cached(empty_cache, "a/broken")
    (snapshot / "config.json").write_text("{")
    (empty_cache / "models--file").write_text("")
    (empty_cache / "models--").mkdir()
    broken = next(entry for entry in catalog.load() if entry.id == "a/broken")
    assert broken.refused and broken.refused.startswith("a/broken: its config.json is not valid JSON")
    assert catalog.load(empty_cache / "none")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    for values in (
        {"HF_HUB_CACHE": str(tmp_path / "x")},
        {"HUGGINGFACE_HUB_CACHE": str(tmp_path / "y")},
        {"HF_HOME": str(tmp_path / "z")},
        {"XDG_CACHE_HOME": str(tmp_path / "xdg")},
        {},
    ):
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert str(catalog.hub_cache_dir()) == theirs.stdout.strip()


# --- light and quick


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from tui_lab.models import catalog, shapes, target_modules\n"
        "catalog.load(); catalog.find('phi-2')\n"
        "heavy = {'torch','transformers','peft','huggingface_hub','datasets','numpy','pydantic','textual'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
