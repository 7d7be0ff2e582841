"""``tui-lab forecast`` as people and scripts call it: figures against the formula, words, and exit codes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from tests.hardware.fake_nvml import FakeDriver, install, t4
from tests.records import probe_answer
from tui_lab.cli import forecast, jobs, main
from tui_lab.forecast import calibration, memory
from tui_lab.forecast.calibration import Calibration
from tui_lab.forecast.jobs import CalibrationRequest, MemoryProbeAnswer, MemoryProbeRequest
from tui_lab.hardware import cuda_support, gpu_specs, memory_budget
from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.recipes.presets import list_presets, make_recipe
from tui_lab.recipes.recipe import build
from tui_lab.recipes.resolve import resolve
from tui_lab.recipes.schema import FILLED_KEYS

Answer = Callable[..., tuple[int, str, str]]
QWEN = "Qwen/Qwen2.5-1.5B"
AS_IT_IS = ("--set", "fill_card=false")


@pytest.fixture
def lab(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Answer:
    """The command line in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("TUI_LAB_PRICE_PER_HOUR", "TUI_LAB_CURRENCY", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_each_part_in_bytes_the_total_and_its_interval(lab: Answer) -> None:
    code, out, err = lab(
        "forecast", "--model", "qwen2.5-1.5b", "--preset", "premium", "--gpu", "T4", "--json", *AS_IT_IS
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    card = gpu_specs.find("T4")
    entry, recipe = catalog.find(QWEN), make_recipe("premium", model=QWEN, fill_card=False)
    assert entry.shape is not None
    values = resolve(recipe, card.device_facts(), entry).values
    expected = memory.forecast(entry.shape, recipe, values, "cuda")
    assert found["parts"] == {part.name: part.bytes for part in expected.parts}
    assert sum(found["parts"].values()) == found["total_bytes"] == expected.total_bytes
    assert (found["low_bytes"], found["high_bytes"]) == (expected.low_bytes, expected.high_bytes)
    assert found["free_bytes"] == card.usable_bytes and found["probe"] is None
    assert found["verdict"] == "over" and found["spare_bytes"] == card.usable_bytes - expected.total_bytes
    low, middle, high = found["cost"]["hours"]
    assert 0 < low < middle < high and found["cost"]["assumed"]
    assert found["cost"]["money"] is None and found["cost"]["kwh"][1] > 0
    assert found["playground"]["lanes"] == 6 and found["playground"]["parts"]["kv_cache"] > 0
    for remedy in found["remedies"]:
        changed = build({**recipe.model_dump(), **remedy["changes"]})
        then = memory.forecast(
            entry.shape, changed, resolve(changed, card.device_facts(), entry).values, "cuda"
        )
        assert remedy["total_bytes"] == then.total_bytes <= card.usable_bytes
    assert found["remedies"] and found["largest"]["length"] < 8192


def test_the_same_in_words(lab: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_PRICE_PER_HOUR", "0.5")
    monkeypatch.setenv("TUI_LAB_CURRENCY", "EUR")
    code, out, err = lab("forecast", "--model", QWEN, "--preset", "premium", "--gpu", "NVIDIA T4", *AS_IT_IS)
    assert (code, err) == (0, "")
    assert re.search(r"^weights +[\d,]{10,}", out, re.M) and re.search(r"^total +[\d,]{10,}", out, re.M)
    assert "does not fit:" in out and "on an empty T4" in out
    assert "to make it fit:" in out and "batch 4 → " in out and "exact: the same 8 rows a step" in out
    assert "largest safe:" in out and "playground:" in out
    assert " kWh" in out and " EUR" in out and "kg CO₂" in out and "assumed speed" in out


def test_a_setting_changes_the_forecast(lab: Answer) -> None:
    one = json.loads(lab("forecast", "--preset", "starter", "--gpu", "4090", "--json")[1])
    two = json.loads(
        lab(
            "forecast", "--preset", "starter", "--gpu", "4090", "--json",
            "--set", "per_device_train_batch_size=8",
        )[1]
    )  # fmt: skip
    assert two["total_bytes"] > one["total_bytes"]


def test_a_table_over_all_presets(lab: Answer) -> None:
    code, out, _ = lab("forecast", "--model", QWEN, "--gpu", "RTX 3090", "--json")
    assert code == 0
    rows = {row["preset"]: row for row in json.loads(out)["presets"]}
    assert rows.keys() == {preset.name for preset in list_presets()[0]}
    starter = rows["starter"]
    assert starter["low_bytes"] < starter["total_bytes"] < starter["high_bytes"]
    assert starter["verdict"] == "fits" and rows["naive"]["verdict"] == "over"
    low, _, high = starter["hours_per_1m_tokens"]
    assert 0 < low < high
    code, out, _ = lab("forecast", "--model", QWEN, "--gpu", "RTX 3090")
    lines = out.splitlines()
    assert code == 0 and "24 GiB on an empty RTX 3090" in lines[0] and len(lines) == 2 + len(rows)
    assert any(line.startswith("naive") and "does not fit" in line for line in lines)


def test_what_is_unknown_of_a_model_is_printed_once(lab: Answer) -> None:
    code, out, _ = lab("forecast", "--model", "org/model", "--gpu", "T4")
    assert code == 0 and out.count("unknown until its files are downloaded") == 1


def test_this_machine_without_a_gpu_is_its_main_memory(lab: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = DeviceFacts("cpu", "the CPU", 8 << 30, False, 2)
    monkeypatch.setattr(
        memory_budget,
        "detect",
        lambda: [memory_budget.MemoryBudget(cpu, 3 << 30, "main memory", "free now in")],
    )
    code, out, _ = lab("forecast", "--preset", "minute")
    assert code == 0 and "3 GiB free now in main memory" in out and "Python and libraries" in out
    assert "time: unknown until the speed is measured here" in out
    assert "no GPU" in out or "without an NVIDIA GPU" in out
    _, out, _ = lab("forecast", "--preset", "minute", "--json")
    found = json.loads(out)
    assert found["playground"]["parts"]["context"] == found["parts"]["context"]  # Python's, not CUDA's
    code, _, err = lab("forecast", "--gpu", "1")
    assert code == 2 and "has 0 GPUs" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "minute", "--gpu", "RTX 9999"), "unknown card 'RTX 9999'"),
        (("--preset", "minute", "--gpu", "\u00b2"), "unknown card '\u00b2'"),
        (("--preset", "minutes"), "did you mean minute"),
        (("--preset", "minute", "--set", "lora_r=0"), "lora_r = 0"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--probe",), "name it with --preset"),
        (("--preset", "minute", "--gpu", "T4", "--calibrate"), "leave out --gpu"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_status_two(
    lab: Answer, arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = lab("forecast", *arguments)
    assert code == 2 and out == "" and words in err and "Traceback" not in err


def test_the_probe_is_asked_about_this_recipe_and_card(lab: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, MemoryProbeRequest]] = []

    def job(module: str, request: MemoryProbeRequest, *, answer: object) -> MemoryProbeAnswer:
        asked.append((module, request))
        return probe_answer(5 << 30, 3.0, "loss")

    monkeypatch.setattr(jobs, "run_job", job)
    code, out, _ = lab("forecast", "--preset", "starter", "--gpu", "L4", "--probe", "--json")
    found = json.loads(out)
    assert code == 0
    [(module, request)] = asked
    assert module == "tui_lab.training.memory_probe" and request.recipe["preset"] == "starter"
    probed, starter = build(request.recipe), make_recipe("starter")
    assert probed.effective_batch_size == starter.effective_batch_size
    assert probed.changed(**{key: getattr(starter, key) for key in FILLED_KEYS}) == starter
    assert DeviceFacts(**asdict(request.device)) == gpu_specs.find("L4").device_facts()
    beside = found["parts"]["context"] + found["parts"].get("fragmentation", 0)
    assert found["probe"]["peak_bytes"] == 5 << 30 and found["probe"]["total_bytes"] == (5 << 30) + beside
    assert found["spare_bytes"] == found["free_bytes"] - found["probe"]["total_bytes"]


def test_what_was_measured_takes_the_place_of_what_is_assumed(
    lab: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = DeviceFacts("cpu", "the CPU", 8 << 30, False, 2)
    monkeypatch.setattr(
        memory_budget,
        "detect",
        lambda: [memory_budget.MemoryBudget(cpu, 3 << 30, "main memory", "free now in")],
    )

    def job(module: str, request: CalibrationRequest, environment: dict[str, str], *, answer: object) -> None:
        """Keeps a measurement where the real job does."""
        assert module == "tui_lab.training.calibrate" and environment == {}
        recipe, entry = build(request.values), catalog.find("pocket")
        assert entry.shape is not None
        found = Calibration("the processor", 1000.0, 2e10, 3e10, None, False, 8, 256, "2026-11-21")
        calibration.store(found, cpu, entry.shape, recipe, resolve(recipe, cpu, entry).values)

    monkeypatch.setattr(jobs, "run_job", job)
    code, out, _ = lab("forecast", "--preset", "minute", "--calibrate", "--json")
    found = json.loads(out)["cost"]
    assert code == 0 and not found["assumed"] and "measured on this machine" in found["basis"]
    low, middle, high = found["hours"]
    assert 0 < low < middle < high


def test_where_only_the_probe_finds_it_too_large_nobody_says_that_nothing_helps(
    lab: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe_answer(50 << 30, 3.0, "loss")
    monkeypatch.setattr(jobs, "run_job", lambda module, request, *, answer: found)
    code, out, _ = lab("forecast", "--preset", "starter", "--gpu", "L4", "--probe")
    assert code == 0 and "does not fit" in out
    assert "nothing that can be changed" not in out and "a smaller batch or shorter rows" in out


@pytest.mark.parametrize(("shown", "free_gib"), [(None, 20), ("GPU-0,GPU-1", 2)])
def test_train_tells_of_the_gpu_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, shown: str | None, free_gib: int
) -> None:
    """The freest, unless somebody said which."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown or "")
    if shown is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    device = gpu_specs.find("L4").device_facts()
    both = [
        memory_budget.MemoryBudget(device, free << 30, f"GPU {place}", "free now on", f"GPU-{place}")
        for place, free in enumerate((2, 20))
    ]
    monkeypatch.setattr(memory_budget, "detect", lambda: both)
    recipe, entry = make_recipe("minute"), catalog.find("pocket")
    lines, plain = forecast.run_forecast(recipe, entry, resolve(recipe, device, entry))
    assert f"{free_gib} GiB free now on GPU {int(shown is None)}" in lines[0]
    assert plain.free_bytes == free_gib << 30


def test_the_probe_counts_what_the_formula_predicts(lab: Answer, jobs_here: None) -> None:
    """The real job, on the bundled model."""
    code, out, _ = lab("forecast", "--preset", "minute", "--gpu", "L4", "--probe", "--json")
    found = json.loads(out)
    assert code == 0
    predicted = found["total_bytes"] - found["parts"]["context"] - found["parts"].get("fragmentation", 0)
    assert abs(predicted / found["probe"]["peak_bytes"] - 1) < 0.1


def test_train_says_it_before_it_starts(lab: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = DeviceFacts("cpu", "the CPU", 8 << 30, False, 2)
    monkeypatch.setattr(
        memory_budget,
        "detect",
        lambda: [memory_budget.MemoryBudget(cpu, 1 << 30, "main memory", "free now in")],
    )
    code, out, _ = lab("train", "--dry-run", "--preset", "minute")
    assert code == 0 and "does not fit:" in out and "--set per_device_train_batch_size=" in out
    code, out, _ = lab("train", "--dry-run", "--preset", "minute", "--json")
    found = json.loads(out)["forecast"]
    assert code == 0 and found["verdict"] == "over" and found["remedies"][0]["changes"]


def test_a_gpu_that_torch_cannot_use_is_refused_unless_the_cpu_is_chosen(
    lab: Answer, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeDriver(t4(), cuda=12_040))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(cuda_support, "installed_torch", lambda: cuda_support.TorchBuild("2.13.0", "13.0"))
    for command in (["train"], ["queue", "add"]):
        code, _, err = lab(*command, "--preset", "minute")
        assert code == 2 and "550.54.14" in err and "TORCH_INDEX=cu126" in err and "--cpu" in err
    assert not list(runs_dir.glob("*/recipe.toml"))
    code, out, _ = lab("forecast", "--preset", "minute")
    assert code == 0 and "no run can start here" in out and "Tesla T4" in out
    code, out, _ = lab("train", "--preset", "minute", "--dry-run", "--cpu")
    assert code == 0 and "device = cpu: because the recipe sets it" in out
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
