"""The memory probe against the allocator's record of real steps, and against the committed table."""

from __future__ import annotations

import math
import random
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoConfig

from tests.benchmarks import bench_memory, memory_table
from tests.training.measured_memory import measured_peak, random_base
from tui_lab.core.errors import LabError
from tui_lab.forecast import memory
from tui_lab.forecast.jobs import JobDevice, MemoryProbeRequest
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog, shapes
from tui_lab.models.meta_model import config_of as meta_config_of
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes import presets
from tui_lab.recipes.resolve import resolve
from tui_lab.training import fake_model, memory_probe
from tui_lab.training.cuda_stand_ins import operations_of

SIZES = {
    "num_hidden_layers": 3, "hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 400, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SPECIAL = {
    "gpt_neox": {"num_key_value_heads": 8},
    "gemma2": {"head_dim": 16, "sliding_window": 64},
    "gemma3_text": {"head_dim": 16, "sliding_window": 64},
    "gpt2": {
        "n_layer": 3, "n_embd": 128, "n_head": 8, "n_inner": 352, "n_positions": 512,
        # dropout inside of attention is a kernel of its own on each device
        "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
    },
}  # fmt: skip
#: What is trained how, on the CPU, whose allocator keeps a record.
CASES = {
    "checkpointed": {"preset": "starter", "quantization": "none", "max_length": 128},
    "kept": {"preset": "starter", "quantization": "none", "max_length": 96, "gradient_checkpointing": False},
    "bfloat16": {"preset": "starter", "quantization": "none", "max_length": 96, "compute_dtype": "bfloat16"},
    "osf": {"preset": "osf", "max_length": 96, "gradient_checkpointing": True},
    "packed": {"preset": "production", "quantization": "none", "max_length": 64},
    "full": {"preset": "naive", "max_length": 64, "per_device_train_batch_size": 3},
    "full, checkpointed": {"preset": "full", "max_length": 64, "optim": "adamw_torch"},
}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles as wide as real vocabularies would hide what layers take of these small models."""
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 128)


def config_of(kind: str) -> object:
    return AutoConfig.for_model(kind, **{**SIZES, **SPECIAL.get(kind, {})})


def settled(kind: str, case: dict) -> tuple:
    changes = dict(case)
    recipe = presets.make_recipe(changes.pop("preset"), model="pocket", **changes)
    facts = SimpleNamespace(model_type=kind, parameters=10**6, context=512, label=kind, chat_template=True)
    return recipe, resolve(recipe, memory_table.CPU, facts).values


#: Compared in one layer only: their blocks differ from those above in norms, biases, windows and factors.
SMALL_KINDS = ("gemma", "gemma3_text", "mistral", "qwen2", "granite", "olmo2")
PAIRS = [
    *((kind, "checkpointed") for kind in ("llama", "qwen3", "phi", "gpt_neox", "gpt2")),
    *(("llama", case) for case in CASES if case != "checkpointed"),
    ("gemma2", "packed"),
]


@pytest.mark.parametrize(("kind", "case"), PAIRS)
def test_peak_equals_real_steps(kind: str, case: str, tmp_path: Path) -> None:
    recipe, values = settled(kind, CASES[case])
    probed = memory_probe.probe(config_of(kind), recipe, values, "cpu")
    limit = 0.03 if recipe.gradient_checkpointing else 0.09
    for _ in range(3):  # the profiler may lose records on a busy machine, never invent them
        torch.manual_seed(0)
        measured = measured_peak(random_base(config_of(kind), recipe, values), recipe, values, tmp_path)
        if probed.peak_bytes == pytest.approx(measured, rel=limit):
            break
    assert probed.peak_bytes == pytest.approx(measured, rel=limit)


@pytest.mark.parametrize("loss", ["dpo", "simpo"])
def test_both_sides_of_a_pair_are_counted(loss: str, tmp_path: Path) -> None:
    recipe, values = settled("llama", {"preset": loss, "quantization": "none", "max_length": 96})
    probed = memory_probe.probe(config_of("llama"), recipe, values, "cpu").peak_bytes
    for _ in range(3):  # as above
        measured = measured_peak(random_base(config_of("llama"), recipe, values), recipe, values, tmp_path)
        if probed == pytest.approx(measured, rel=0.1):
            break
    assert probed == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("kind", SMALL_KINDS)
def test_peak_equals_real_steps_in_one_layer(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One layer and one row, fully trained, so that all weights have gradients and states. The rows are not
    prepared by trl, which takes most of the time and no memory of a step."""
    monkeypatch.setattr("trl.SFTTrainer._prepare_dataset", lambda _, rows, *__, **___: rows)
    recipe, values = settled(kind, {**CASES["full"], "per_device_train_batch_size": 1})
    sizes = {**SIZES, "head_dim": 16, "num_hidden_layers": 1, "vocab_size": 128}  # one tile of the loss
    config = AutoConfig.for_model(kind, **sizes)
    probed = memory_probe.probe(config, recipe, values, "cpu").peak_bytes
    for _ in range(3):  # as above
        measured = measured_peak(random_base(config, recipe, values), recipe, values, tmp_path)
        if probed == pytest.approx(measured, rel=0.01):
            break
    assert probed == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(("device", "checkpointing"), [("cpu", True), ("cuda", True), ("cuda", False)])
def test_the_formula_counts_osf(device: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 32768)
    changes = {"gradient_checkpointing": checkpointing, "max_length": 256, "effective_rank": 0.7}
    recipe = presets.make_recipe("osf", model="pocket", **changes)
    facts = memory_table.CARD if device == "cuda" else memory_table.CPU
    entry = catalog.find("pocket")
    values = resolve(recipe, facts, entry).values
    values.packed_attention, values.row_mask = "mask", True  # as the probe's rows
    said = memory.forecast(entry.shape, recipe, values, device)
    probed = memory_probe.probe(meta_config_of(entry.shape), recipe, values, device)
    assert said.tensors_bytes == pytest.approx(probed.peak_bytes, rel=0.04)
    held = said.part("weights") + said.part("adapter")
    assert held == pytest.approx(probed.weights_bytes + probed.adapter_bytes, rel=0.01)
    assert said.part("optimizer") == pytest.approx(probed.optimizer_bytes, rel=0.01)


@pytest.mark.parametrize("quantization", ["nf4", "int8", "fp8"])
def test_rounded_weights_are_counted_as_they_are_loaded(quantization: str) -> None:
    from tui_lab.models.loading import ModelSource
    from tui_lab.training.base_model import load_base

    recipe, values = settled("llama", {"preset": "starter", "max_length": 64, "quantization": quantization})
    facts = memory_table.CPU
    loaded = load_base(ModelSource(str(MODEL_DIR)), recipe, facts, values)
    loaded_bytes = sum(t.untyped_storage().nbytes() for t in fake_model.tensors_of(loaded))
    probed = memory_probe.probe(AutoConfig.from_pretrained(MODEL_DIR), recipe, values, "cpu")
    assert probed.weights_bytes == pytest.approx(loaded_bytes, rel=0.02)  # rounded up, tensor by tensor
    forecast = memory.forecast(catalog.find("pocket").shape, recipe, values, "cpu")
    assert forecast.part("weights") == pytest.approx(loaded_bytes, rel=0.01)


def test_packed_rows_without_a_mask_are_counted() -> None:
    """The kernel on fake tensors: less than with a mask by at least the mask of the whole batch."""
    recipe, values = settled("llama", {**CASES["packed"], "compute_dtype": "bfloat16", "max_length": 256})
    peaks = {}
    for way in ("mask", "varlen"):
        values.packed_attention = way
        peaks[way] = memory_probe.probe(config_of("llama"), recipe, values, "cuda").peak_bytes
    tokens = recipe.per_device_train_batch_size * 256
    assert peaks["varlen"] < peaks["mask"] - tokens**2


def test_three_rows_of_the_table() -> None:
    """Others each week, so that all are looked at now and then, and the same within a day's runs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 32768)
        table = memory_table.load()
        quick = [row for row in table["rows"] if "refused" not in row and row["seconds"] < 4]
        for row in random.Random(len(quick)).sample(quick, 3):
            again = memory_table.measure(row["model"], row["recipe"], row["device"])
            assert again["peak_bytes"] == pytest.approx(row["peak_bytes"], rel=1e-3), row["recipe"]


def test_shapes_round_trip() -> None:
    for kind in shapes.MODEL_TYPES:
        config = config_of(kind)
        shape = shapes.from_config(config.to_dict())
        assert shape is not None
        rebuilt = shapes.from_config(meta_config_of(shape).to_dict())
        assert rebuilt == shape


def test_the_job_answers() -> None:
    """As a child it is started by tests/cli/test_forecast.py."""
    answer = memory_probe.handle(request({"model": "pocket"}, memory_table.CPU), lambda *_: None)
    assert answer.peak_bytes == max(answer.peaks.values()) == answer.peaks[answer.phase]
    parts = answer.weights_bytes + answer.adapter_bytes + answer.optimizer_bytes
    assert parts < answer.peak_bytes < 100 * parts


def request(recipe: dict[str, Any], device: DeviceFacts) -> MemoryProbeRequest:
    return MemoryProbeRequest(recipe, JobDevice(**asdict(device)))


def test_unknown_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LabError, match="not on this machine and the hub cannot be reached"):
        memory_probe.handle(request({"model": "nobody/nothing"}, memory_table.CARD), lambda *_: None)


def test_longer_rows_take_more_memory() -> None:
    peaks = []
    for length in (64, 256):
        recipe, values = settled("llama", {**CASES["kept"], "max_length": length})
        peaks.append(memory_probe.probe(config_of("llama"), recipe, values, "cuda").peak_bytes)
    assert peaks == sorted(peaks) and not math.isclose(peaks[0], peaks[1], rel_tol=0.2)


def test_memory_is_linear_in_layers() -> None:
    recipe, values = settled("llama", {**CASES["checkpointed"], "max_length": 64})
    probed = {
        layers: msgspec.structs.asdict(
            memory_probe.probe(
                AutoConfig.for_model("llama", **{**SIZES, "num_hidden_layers": layers}),
                recipe,
                values,
                "cuda",
            )
        )
        for layers in (1, 2, 4)
    }
    drawn = memory_table.straight(probed[1], probed[2], 1, 2, 4)
    assert drawn["peak_bytes"] == pytest.approx(probed[4]["peak_bytes"], rel=2e-3)
    assert drawn["saved_bytes"] == pytest.approx(probed[4]["saved_bytes"], rel=2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", bench_memory.GPU_MODELS)
def test_peak_on_a_gpu(model: str) -> None:
    """``max_memory_allocated`` of two real steps with random weights."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 32768)
        for pair in bench_memory.pairs((model,)):
            assert pair.probe == pytest.approx(pair.measured, rel=0.05), pair.preset
            assert pair.formula == pytest.approx(pair.measured, rel=0.1), pair.preset


@pytest.mark.parametrize(("device", "seen"), [("cuda", True), ("cpu", False)])
def test_adapters_see_the_autocast_of_their_device(device: str, seen: bool) -> None:
    """peft's layers for 4-bit weights cast to float32 unless torch says, without an argument, that CUDA's
    autocast is on: with a card they do not, and the cast is not counted."""
    with operations_of(device), torch.autocast("cpu", torch.bfloat16):
        assert torch.is_autocast_enabled() is seen and torch.is_autocast_enabled("cpu")
    with operations_of(device):
        assert not torch.is_autocast_enabled()
