"""Ten real steps: what is timed, what is counted, what is refused; real ones on the processor."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from msgspec import structs

from tests.training.conftest import recipe_for
from tui_lab.core import job_protocol
from tui_lab.core.errors import LabError
from tui_lab.forecast import calibration
from tui_lab.forecast import cost as costs
from tui_lab.forecast.flops import operations
from tui_lab.forecast.jobs import CalibrationRequest
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import Gpu
from tui_lab.models import catalog
from tui_lab.models.shapes import Shape, linears
from tui_lab.recipes.resolve import ResolvedValues
from tui_lab.training import calibrate
from tui_lab.training.memory_limit import LimitedStorages

CPU = DeviceFacts("cpu", "cpu", 0, True, 1)
TINY = Shape("llama", 2, 64, 128, 4, 2, 16, 320, True, 256)
GPT2 = Shape("gpt2", 2, 64, 256, 4, 4, 16, 320, True, 256)
VALUES = ResolvedValues(
    compute_dtype="float32", optim="adamw_torch", max_length=32, target_modules=["q_proj", "v_proj"]
)


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({}, 24),
        ({"quantization": "nf4", "gradient_accumulation_steps": 9}, 24),
        ({"packing": True, "method": "full", "per_device_train_batch_size": 2}, 12),
        ({"kl_weight": 0.1, "lora_dropout": 0.1, "gradient_checkpointing": True}, 24),
    ],
    ids=lambda each: "-".join(each) or "plain" if isinstance(each, dict) else "",
)
def test_ten_real_steps(changes: dict[str, Any], length: int) -> None:
    asked = recipe_for(target_modules="qv", max_length=32, **changes)
    steps: list[int] = []
    began = time.monotonic()
    found = calibrate.measure(TINY, asked, VALUES, CPU, lengths=[length], on_step=steps.append)
    elapsed_s = time.monotonic() - began
    assert sorted(set(steps)) == list(range(1, 11)) and found.steps == 8
    sequence = 32 if asked.packing else length
    assert found.length == length
    batch = asked.per_device_train_batch_size * min(asked.gradient_accumulation_steps, 4)
    tokens = 8 * batch * sequence
    # the eight steps took less than all of it, and packing may leave a little of a sequence empty
    assert found.tok_per_s > 0.7 * tokens / elapsed_s
    # packed rows share a mask here, which has the whole batch
    keys = batch_keys(asked, length)
    count = operations(TINY, asked, length, keys=keys)
    assert found.model_flops_s == pytest.approx(found.tok_per_s * count.model)
    assert found.hardware_flops_s == pytest.approx(found.tok_per_s * count.hardware)
    assert found.power_w is None


def batch_keys(asked: Any, length: int) -> int:
    return asked.per_device_train_batch_size * 32 if asked.packing else length


def test_warm_up_steps_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(calibrate.time, "monotonic", lambda: now)
    clock = calibrate._Clock(CPU, lambda step: None)
    for step in range(1, 11):
        now += 50.0 if step <= 2 else 0.5  # the first two are slow
        state = SimpleNamespace(global_step=step)
        clock.after_step(SimpleNamespace(state=state, total_train_tokens=100 * step))  # type: ignore[arg-type]
    assert (clock.tokens, clock.seconds) == (800, 4.0)


def test_mean_power_of_the_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the driver's counter of energy: 150 J in the half second, whatever power it shows."""
    began = time.monotonic()
    other = Gpu(0, "other", "GPU-b", None, None, None, None, 999.0, None, energy_j=5.0)
    ours = replace(other, index=1, uuid="GPU-a")

    def read(watch: Any) -> list[Gpu]:
        drawn = replace(ours, energy_j=1000.0 + 300.0 * (time.monotonic() - began))
        return list(watch._select([other, drawn]))

    monkeypatch.setattr(calibrate.GpuMonitor, "read", read)
    properties = SimpleNamespace(uuid="a")
    monkeypatch.setattr(calibrate.torch.cuda, "get_device_properties", lambda _: properties)
    meter = calibrate._PowerMeter()
    time.sleep(0.5)
    assert meter.stop() == pytest.approx(300.0, rel=0.05)
    assert meter.stop() is None


def test_too_long_on_a_cpu_is_refused() -> None:
    shape = catalog.find("Qwen/Qwen2.5-0.5B").shape
    assert shape is not None
    began = time.monotonic()
    with pytest.raises(LabError, match=r"minutes.*pocket"):
        calibrate.measure(shape, recipe_for(max_length=1024), structs.replace(VALUES, max_length=1024), CPU)
    assert time.monotonic() - began < 1


def test_out_of_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(calibrate, "_train", full)
    with pytest.raises(LabError, match="do not fit in memory"):
        calibrate.measure(TINY, recipe_for(max_length=32), VALUES, CPU)


def test_steps_that_fit_only_in_parts_are_no_result() -> None:
    asked = recipe_for(target_modules="qv", max_length=32, per_device_train_batch_size=8)
    with LimitedStorages() as counted:
        calibrate.measure(TINY, asked, VALUES, CPU)
    with (
        LimitedStorages(counted.peak_bytes * 3 // 4) as limited,
        pytest.raises(LabError, match="do not fit in memory"),
    ):
        calibrate.measure(TINY, asked, VALUES, CPU)
    assert limited.refusals


@pytest.mark.parametrize("shape", [TINY, GPT2], ids=lambda shape: shape.model_type)
def test_a_random_model_in_four_bits(shape: Shape) -> None:
    """Every linear layer of the blocks, of its size, and nothing else; it computes what dense ones would."""
    asked = recipe_for(quantization="nf4")
    model = calibrate.random_model(shape, asked, VALUES, CPU)
    packed = {name: each for name, each in model.named_modules() if isinstance(each, Linear4bit)}
    sizes = sorted((each.in_features, each.out_features) for each in packed.values())
    wanted = [(each.in_features, each.out_features) for each in linears(shape) for _ in range(each.count)]
    assert sizes == sorted(wanted)
    assert model.get_output_embeddings().weight.dtype == torch.float32
    for each in packed.values():
        weight = dequantize_4bit(each.weight.data, each.weight.quant_state)
        assert weight.shape == (each.out_features, each.in_features)
        assert 0.005 < float(weight.std()) < 0.2
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_random_rows_have_the_given_lengths_and_trained_share() -> None:
    asked = recipe_for(max_steps=10, per_device_train_batch_size=3)
    rows = calibrate.random_rows(50, asked, 32, [20], 0.25)
    assert len(rows) == 10 * 3 and {len(row["input_ids"]) for row in rows} == {20}
    assert all(sum(label >= 0 for label in row["labels"]) == 5 for row in rows)
    assert all(0 <= token < 50 for row in rows for token in row["input_ids"])
    packed = calibrate.random_rows(50, recipe_for(packing=True, per_device_train_batch_size=3), 32, [20], 1.0)
    assert sum(len(row["input_ids"]) for row in packed) >= 10 * 3 * 32


def test_padding_is_not_counted_as_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 4 mixed with rows of 28: every batch is as long as its longest, and only real tokens count."""
    asked = recipe_for(target_modules="qv", max_length=32)
    counted: list[float] = []
    after_step = calibrate._Clock.after_step

    def note(clock: Any, trainer: Any) -> None:
        after_step(clock, trainer)
        counted.append(clock.tokens)

    monkeypatch.setattr(calibrate._Clock, "after_step", note)
    found = calibrate.measure(TINY, asked, VALUES, CPU, lengths=[4, 28])
    assert found.length == 16
    assert 0.75 < counted[-1] / (8 * 8 * 16) < 1.25  # not 8 × 8 × 28, as with padding counted


# --------------------------------------------------------------------------------------------------
# the job


def asked_of_the_job(request: dict[str, Any]) -> list[dict[str, Any]]:
    out = io.StringIO()
    job_protocol.run(calibrate.handle, io.StringIO(json.dumps(request)), out, CalibrationRequest)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.usefixtures("runs_dir")
def test_job_stores_its_result() -> None:
    """On the bundled model, as the lab would ask; its forecast is then measured, for this work alone."""
    recipe = recipe_for(model="pocket", per_device_train_batch_size=2, max_length=24, probe_share=0.0)
    lines = asked_of_the_job({"values": recipe.model_dump()})
    assert {line["kind"] for line in lines[:-1]} == {"progress"} and lines[-2]["done"] == 10
    assert lines[-1]["kind"] == "result", lines[-1]
    result = lines[-1]["answer"]
    assert result["tok_per_s"] > 0 and result["mfu"] is None and "4N + 6n + 3A" in result["formula"]

    entry = catalog.find("pocket")
    assert entry.shape is not None
    lab = DeviceFacts("cpu", "the CPU", 1 << 30, False, 4)  # as the lab knows the same machine
    from tui_lab.recipes.resolve import resolve

    values = resolve(recipe, replace(lab, bf16=False), entry).values
    found = calibration.find(lab, entry.shape, recipe, values)
    assert found is not None and found.tok_per_s == result["tok_per_s"]
    cost = costs.estimate(entry.shape, recipe, values, lab, 1000.0, measured=found)
    assert cost.hours is not None and not cost.assumed and "measured on this machine" in cost.basis
    assert cost.hours.value * 3600 == pytest.approx(1000 / result["tok_per_s"])
    longer = recipe.model_copy(update={"per_device_train_batch_size": 4})
    assert calibration.find(lab, entry.shape, longer, values) is None


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"values": [1]},
        {"values": {"lora_r": -1}},
        {"values": {}, "lengths": "long"},
        {"values": {}, "lengths": [0]},
        {"values": {}, "lengths": [10, True]},
        {"values": {}, "trained_share": 2},
        {"values": {"model": "no/such-model-at-all"}},
    ],
)
def test_unmeasurable_requests_are_refused(request_: dict[str, Any]) -> None:
    [line] = asked_of_the_job(request_)
    assert line["kind"] == "error" and "unexpectedly" not in line["message"]
