"""Exports of runs: transformers and peft alone load them and compute what the run does. An export that
differs from the run, or that would overwrite something, is refused with one sentence."""

from __future__ import annotations

import errno
import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.decoding.test_adapters import adapter_folder
from tests.export.conftest import check_here
from tests.training import architectures
from tui_lab.core.errors import LabError
from tui_lab.core.records import from_plain, to_json
from tui_lab.data import row_tokens, templates
from tui_lab.decoding.adapters import load_peft_model
from tui_lab.export import check as export_check
from tui_lab.export import compare, job, records, staging, weights
from tui_lab.export import source as sources
from tui_lab.export.records import ExportRequest
from tui_lab.models import catalog
from tui_lab.models.loading import ModelSource, Precision, load_model
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs import folder as runs
from tui_lab.runs import inputs

IDS = list(range(10, 40))


def exported(run: runs.Run, kind: str, **values: Any) -> dict[str, Any]:
    """The job's answer as its JSON."""
    result = job.handle(ExportRequest(run=run.id, kind=kind, **values), lambda *_: None)
    return json.loads(to_json(result))


def check(result: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in result["checks"] if one["name"] == name]
    assert found["passed"] is True
    return found


def plain_answers(folder: Path, prompts: list[str]) -> list[list[int]]:
    """Greedy answers of an exported adapter or merged model, by transformers and peft alone."""
    base = folder / "base"
    model = AutoModelForCausalLM.from_pretrained(base if base.is_dir() else folder, dtype=torch.float32)
    if base.is_dir():
        model = peft.PeftModel.from_pretrained(model, str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = GenerationConfig.from_pretrained(folder)
    answers = []
    for text in prompts:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True, return_tensors="pt", return_dict=True,
        )  # fmt: skip
        out = model.generate(**ids, generation_config=settings, max_new_tokens=24, do_sample=False)
        answers.append(out[0, ids["input_ids"].shape[1] :].tolist())
    return answers


def own_answers(run: runs.Run, prompts: list[str]) -> list[list[int]]:
    """Greedy tokens of the run, by the lab's own loading."""
    source = sources.SavedRun.open(run)
    model = sources.load_as_trained(source, sources.trained_setup(source))
    tokenizer = source.tokenizer()
    ends = row_tokens.stop_ids(tokenizer)
    found = []
    for text in prompts:
        ids = row_tokens.prompt_ids(tokenizer, [{"role": "user", "content": text}])
        found.append(export_check.greedy(model, ids, 24, stop_ids=ends, pad_id=1))
    return found


def test_adapter_and_merged_model_answer_like_the_run_with_transformers_and_peft_alone(
    make_run: Callable[..., runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter is checked in a process of its own, as for users, which imports nothing of the lab, no trl
    and no bitsandbytes; the merged model in this process."""
    run = make_run()
    inputs.write_card(run.adapter_path, run.id, run.recipe(), None)
    adapter = exported(run, "adapter", with_base=True)
    monkeypatch.setattr(compare, "run_check", check_here)
    merged = exported(run, "merged", dtype="float32")
    prompts = ["What does the Ocean kite cost?", "How many legs has a spider?", "Say hello."]
    own = own_answers(run, prompts)
    assert plain_answers(Path(adapter["path"]), prompts) == own
    assert plain_answers(Path(merged["path"]), prompts) == own
    # and they are not those of the base
    base_model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32", use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ids = row_tokens.prompt_ids(tokenizer, [{"role": "user", "content": prompts[0]}])
    assert export_check.greedy(base_model, ids, 24, stop_ids=[2], pad_id=1) != own[0]

    for result in (adapter, merged):
        assert check(result, "greedy")["same"] == check(result, "greedy")["of"] == sources.ANSWERS
        assert check(result, "logits")["relative"] < 1e-4
        assert check(result, "template")["renderings"] == 2 * len(sources.CONVERSATIONS)
        assert check(result, "end_of_turn")["stop_ids"] == [2]
        path = Path(result["path"])
        assert path == run.path / "exports" / result["kind_of_export"]
        written = json.loads((path / "export.json").read_text())
        assert {**written, "path": result["path"]} == result
        # what loads it with the lab asks in the same way, and notices other weights
        asking = templates.load_for(str(MODEL_DIR), saved=path)
        question = [{"role": "user", "content": prompts[0]}]
        assert row_tokens.prompt_ids(asking, question) == row_tokens.prompt_ids(tokenizer, question)
        assert inputs.changed_beside(path) == [] and inputs.read_card(path).run == run.id  # type: ignore[union-attr]
        assert (path / "chat_template.jinja").read_text() == (MODEL_DIR / "chat_template.jinja").read_text()
        for file in [path, *path.rglob("*")]:
            assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600)
            if file.is_file() and file.suffix not in (".safetensors",) and file.name != "tokenizer.json":
                text = file.read_text()
                assert str(MODEL_DIR) not in text and str(run.path) not in text, file
            assert file.suffix not in (".bin", ".pt", ".pth")
    assert (run.path / "exports" / "adapter" / "base" / "model.safetensors").is_file()
    config = json.loads(Path(adapter["path"], "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "./base"  # no hub id: never fetched from strangers


def test_merging_a_4_bit_run_uses_unquantised_weights_and_reports_the_gap(
    make_run: Callable[..., runs.Run], trained: Path, in_process: None
) -> None:
    run = make_run(quantization="nf4")
    result = exported(run, "merged")
    path = Path(result["path"])
    base = load_file(MODEL_DIR / "model.safetensors")
    lora = load_file(trained / "adapter_model.safetensors")
    saved = load_file(path / "model.safetensors")
    # W + α/r · B·A in float32, rounded once: computed here from the files
    name = "model.layers.0.self_attn.q_proj.weight"
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    expected = base[name].float() + 2.0 * lora[f"{stem}.lora_B.weight"] @ lora[f"{stem}.lora_A.weight"]
    assert torch.equal(saved[name], expected.bfloat16())
    untouched = "model.layers.0.self_attn.k_proj.weight"
    assert torch.equal(saved[untouched], base[untouched].bfloat16())
    assert "lm_head.weight" not in saved and result["figures"]["tied"] is True
    assert json.loads((path / "config.json").read_text())["dtype"] == "bfloat16"

    gap = result["figures"]["gap"]
    own = sources.SavedRun.open(run)
    four_bit = sources.load_as_trained(own, sources.trained_setup(own))
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    asked = sources.compared_text(own, own.tokenizer())
    kl, positions, same, largest = 0.0, 0, 0, 0.0
    with torch.no_grad():
        for ids in asked.rows:
            p = four_bit(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            q = plain(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            kl += float((p.exp() * (p - q)).sum())
            positions += len(ids)
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            largest = max(largest, float((p - p.mean(-1, True) - q + q.mean(-1, True)).abs().max()))
    assert gap["positions"] == positions and gap["top1_agreement"] == pytest.approx(same / positions)
    assert gap["mean_kl"] == pytest.approx(kl / positions, rel=1e-3) and gap["mean_kl"] > 1e-4
    assert gap["max_abs"] == pytest.approx(largest, rel=1e-3)
    assert any("quantisation gap" in note for note in result["notes"])
    assert check(result, "logits")["mean_kl"] < gap["mean_kl"]


def test_an_export_that_differs_from_the_run_is_discarded(
    make_run: Callable[..., runs.Run], monkeypatch: pytest.MonkeyPatch, in_process: None
) -> None:
    run = make_run()
    plain = weights.write_model

    def spoiled(model: Any, target: Path, dtype: str) -> None:
        plain(model, target, dtype)
        tensors = load_file(target / "model.safetensors")
        tensors["model.layers.1.mlp.down_proj.weight"] *= 1.5
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(weights, "write_model", spoiled)
    with pytest.raises(LabError, match="is not exported: against the run's own weights"):
        exported(run, "merged")
    assert not list((run.path / "exports").iterdir())


def test_strength_scales_the_adapter(
    make_run: Callable[..., runs.Run], trained: Path, in_process: None
) -> None:
    run = make_run()
    result = exported(run, "adapter", strength=0.5)
    assert Path(result["path"]).name == "adapter-strength-0.5" and result["strength"] == 0.5
    own = load_file(trained / "adapter_model.safetensors")
    for name, tensor in load_file(Path(result["path"], "adapter_model.safetensors")).items():
        assert torch.equal(tensor, own[name] * (0.5 if "lora_B" in name else 1))


def test_nothing_is_overwritten_without_force(make_run: Callable[..., runs.Run], tmp_path: Path) -> None:
    """Checked before any model is loaded."""
    run = make_run()
    kept = tmp_path / "mine"
    kept.mkdir()
    (kept / "letter.txt").write_text("dear")
    for force in (False, True):
        with pytest.raises(LabError, match="is not empty and not an export"):
            exported(run, "adapter", out=str(kept), force=force)
    with pytest.raises(LabError, match="is a file"):
        exported(run, "adapter", out=str(kept / "letter.txt"))
    place = tmp_path / "export"
    place.mkdir()
    (place / "export.json").write_text("{}")
    with pytest.raises(LabError, match="--force replaces it"):
        exported(run, "adapter", out=str(place))
    assert sorted(path.name for path in kept.iterdir()) == ["letter.txt"]

    # what was there stays until the new one is whole; what a killed export left goes
    left = tmp_path / ".export.partial" / ".check-x"
    left.mkdir(parents=True)
    with pytest.raises(RuntimeError), staging.partial_folder(place, True) as partial:
        assert partial == left.parent and not list(partial.iterdir())
        (partial / "half").write_text("")
        raise RuntimeError
    assert [path.name for path in place.iterdir()] == ["export.json"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".linked.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), staging.partial_folder(tmp_path / "linked", True):
        pass  # a link that somebody has put there is not followed
    (tmp_path / ".linked.partial").unlink()
    with staging.partial_folder(place, True) as partial:
        with pytest.raises(LabError, match="being exported already"), staging.partial_folder(place, True):
            pass
        (partial / "whole").write_text("")
        staging.publish(partial, place)
    assert [path.name for path in place.iterdir()] == ["whole"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_one_sentence(
    make_run: Callable[..., runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "compared_text", full)
    with pytest.raises(LabError, match=r"^the disk of .* is full: free some space"):
        exported(run, "merged")
    assert not list((run.path / "exports").iterdir())
    said = Exception("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "is full" in staging.disk_error(said, run.path)  # as safetensors says it
    assert not staging.disk_error(ValueError("other"), run.path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"run": "tuned", "kind": "onnx"}, "one of adapter, merged, modelfile, gguf, not"),
        ({"kind": "merged"}, "no run was named"),
        ({"run": "tuned", "kind": "merged", "dtype": "int8"}, "bfloat16 or float32"),
        ({"run": "tuned", "kind": "merged", "strength": 3}, "between 0"),
        (
            {"run": "tuned", "kind": "merged", "strength": True},
            "strength must be a number, not true or false",
        ),
        ({"run": ["tuned"], "kind": "merged"}, "run must be text, not a list"),
        ({"run": "tuned", "kind": "script"}, r"script was removed: `tui-lab train --preset"),
    ],
)
def test_invalid_requests_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        records.check_request(from_plain(fields, ExportRequest, "the request"))


def test_an_adapter_names_its_base_by_hub_id_and_revision(
    make_run: Callable[..., runs.Run], tmp_path: Path
) -> None:
    """By hub id and commit; where the commit is not known, by the revision that was asked for."""
    source = sources.SavedRun.open(make_run())
    entry = catalog.find("Qwen/Qwen2.5-0.5B", cache_dir=tmp_path)
    source = replace(source, entry=entry, recipe=source.recipe.changed(revision="main"))
    for commit, expected in (("a" * 40, "a" * 40), ("", "main")):
        weights.write_adapter(source, tmp_path, commit)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "Qwen/Qwen2.5-0.5B" and config["revision"] == expected
        assert peft.PeftConfig.from_pretrained(tmp_path).r == 4


def test_runs_without_saved_weights_are_refused(make_run: Callable[..., runs.Run], in_process: None) -> None:
    run = make_run(method="full")
    lock = runs.RunLock.take(run)
    with pytest.raises(LabError, match="still in progress"):
        exported(run, "adapter")
    lock.release()
    shutil.rmtree(run.adapter_path)
    with pytest.raises(LabError, match="has saved no adapter and no model yet"):
        exported(run, "merged")
    shutil.copytree(MODEL_DIR, run.model_path)
    with pytest.raises(
        LabError, match="tuned all weights, so there is no adapter: export it with --as merged"
    ):
        exported(run, "adapter")
    result = exported(run, "merged")  # the model itself
    assert check(result, "logits")["relative"] < 0.1 and result["figures"]["tied"] is True


def test_virtual_tokens_are_exported_only_as_adapter(
    make_run: Callable[..., runs.Run], tmp_path: Path, in_process: None
) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32", use_safetensors=True)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapter = adapter_folder(model, config, tmp_path / "prompt", seed=1)
    run = make_run(adapter, method="prompt_tuning", num_virtual_tokens=4)
    for kind in ("merged", "modelfile", "gguf"):
        with pytest.raises(LabError, match=r"change no weights.*export --as adapter"):
            exported(run, kind)
    result = exported(run, "adapter")  # peft puts them in front of the text
    assert check(result, "logits")["relative"] < 1e-4


def test_differences_match_their_formulas() -> None:
    torch.manual_seed(0)
    own, other = torch.randn(7, 11), torch.randn(7, 11)
    found = export_check.Differences()
    found.add(own, other + 5.0)  # a constant changes no probability
    result = found.result()
    kl = torch.nn.functional.kl_div(other.log_softmax(-1), own.softmax(-1), reduction="batchmean")
    assert result.mean_kl == pytest.approx(float(kl), rel=1e-5)
    assert result.top1_agreement == float((own.argmax(-1) == other.argmax(-1)).float().mean())
    same = export_check.Differences()
    same.add(own, own)
    assert same.result().relative == same.result().mean_kl == 0


_LORA: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6}
_LAYERS = ["q_proj", "v_proj", "up_proj", "fc1"]


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("llama", peft.LoraConfig(**_LORA, target_modules=_LAYERS, use_dora=True)),
        ("llama", peft.LoraConfig(**_LORA, target_modules=_LAYERS, use_rslora=True)),
        ("llama", peft.LoHaConfig(task_type="CAUSAL_LM", r=3, alpha=5, target_modules=_LAYERS)),
        (
            "llama",
            peft.AdaLoraConfig(
                task_type="CAUSAL_LM", init_r=4, target_modules=_LAYERS, total_step=10, tfinal=2
            ),
        ),
        (
            "llama",
            peft.IA3Config(
                task_type="CAUSAL_LM",
                target_modules=["k_proj", "down_proj"],
                feedforward_modules=["down_proj"],
            ),
        ),
        ("llama", peft.OSFConfig(task_type="CAUSAL_LM", effective_rank=0.5, target_modules=_LAYERS)),
        ("gemma2", peft.LoraConfig(**_LORA, target_modules=_LAYERS)),
        ("granite", peft.LoraConfig(**_LORA, target_modules=_LAYERS)),
        ("phi", peft.LoraConfig(**_LORA, target_modules=_LAYERS)),
        ("neox", peft.LoraConfig(**_LORA, target_modules=["query_key_value", "dense_h_to_4h"])),
        ("gpt2", peft.LoraConfig(**_LORA, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)),
    ],
    ids=["dora", "rslora", "loha", "adalora", "ia3", "osf", "gemma2", "granite", "phi", "neox", "gpt2"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_method_and_architecture_merges(
    make_run: Callable[..., runs.Run], tmp_path: Path, architecture: str, config: Any, dtype: str
) -> None:
    """A model saved merged and read again, against the adapter beside its base."""
    base = architectures.make(architecture)
    base.save_pretrained(tmp_path / "base")
    adapter = adapter_folder(base, config, tmp_path / "adapter", seed=5)
    source = replace(sources.SavedRun.open(make_run()), path=adapter)
    ids = torch.tensor([[5, 9, 33, 70, 2, 11]])
    beside = load_peft_model(
        load_model(ModelSource(str(tmp_path / "base")), Precision("float32"), device="cpu"), adapter, "own"
    )
    plain = load_model(ModelSource(str(tmp_path / "base")), Precision("float32"), device="cpu")
    with torch.no_grad():
        own, untuned = beside(ids).logits[0], plain(ids).logits[0]
        done: list[tuple[object, ...]] = []
        merged = weights.merge(beside, source, lambda *stage: done.append(stage))
        weights.write_model(merged, tmp_path / "merged", dtype)
        read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
        found, apart = export_check.Differences(), export_check.Differences()
        found.add(own, read(ids).logits[0])
        apart.add(own, untuned)
    layers = int(str(done[0][2]))
    assert done == [("merging layers", number, layers) for number in range(layers + 1)]
    assert layers % base.config.num_hidden_layers == 0
    limit, _ = compare.TOLERANCE[dtype]
    assert found.result().relative < (1e-5 if dtype == "float32" else limit)
    assert apart.result().relative > 3 * found.result().relative
    assert (
        export_check.tied(read) == export_check.tied(plain) == (architecture in ("llama", "gpt2", "gemma2"))
    )
