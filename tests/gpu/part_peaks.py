"""The memory of training: two real steps of each recipe against the forecast and the stored probe."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import memory_table
from tests.gpu.bench import Bench, PartLog
from tests.training.measured_memory import trainer_of, two_steps
from tui_lab.core.format import size
from tui_lab.forecast import memory
from tui_lab.hardware import gpu
from tui_lab.training import calibrate

MODELS = ("Qwen/Qwen2.5-0.5B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "Qwen/Qwen2.5-1.5B", "google/gemma-2-2b")
PRESETS = ("starter", "production", "dora")
#: The forecast's goal: within this share of the measured peak.
TOLERANCE = 0.05


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    with log.case("bytes of a context"):
        context(bench, log)
    stored = {(row["model"], row["recipe"]): row for row in memory_table.load()["rows"]}
    cases = [(model, preset) for model in MODELS for preset in PRESETS]
    cases.insert(3, ("Qwen/Qwen2.5-0.5B", "full"))
    for model, preset in bench.pick(cases, cases[:1]):
        name = f"{model.rpartition('/')[2]}, {preset}"
        if log.has_time(name):
            with log.case(name):
                _peak(bench, log, name, model, preset, stored.get((model, preset), {}))
    with log.case("expandable segments"):
        _expandable_segments(bench, log)
    bench.free_memory()


def context(bench: Bench, log: PartLog) -> None:
    """Bytes that the driver counts for this process beyond what torch has reserved."""
    mine = [
        process.used_bytes
        for card in gpu.sample()
        for process in card.processes or ()
        if process.pid == os.getpid() and process.used_bytes is not None
    ]
    if not bench.is_cuda or not mine:
        return log.missing("bytes of a context", "the driver lists no process here")
    log.figure("bytes of a context", (sum(mine) - torch.cuda.memory_reserved()) / 2**20, "MiB")


def _steps(bench: Bench, model: str, preset: str) -> tuple[int, int]:
    """Bytes that two steps of a recipe allocate and reserve at most."""
    recipe = bench.recipe(model, preset)
    values = bench.resolved(recipe)
    bench.free_memory()
    base = calibrate.random_model(bench.shape(model), recipe, values, bench.facts)
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        made = trainer_of(base, recipe, values, Path(folder), bench.facts.type)
        bench.free_memory()
        two_steps(made, recipe, values, bench.facts.type)
    peaks = bench.peak_bytes(), bench.reserved_bytes()
    del base, made
    bench.free_memory()
    return peaks


def _peak(bench: Bench, log: PartLog, name: str, model: str, preset: str, stored: Mapping[str, Any]) -> None:
    allocated, reserved = _steps(bench, model, preset)
    recipe = bench.recipe(model, preset)
    forecast = memory.forecast(bench.shape(model), recipe, bench.resolved(recipe), bench.facts.type)
    log.figure(f"{name}: peak", allocated / 2**20, "MiB")
    log.figure(f"{name}: reserved", reserved / 2**20, "MiB")
    log.figure(f"{name}: forecast", forecast.total_bytes / 2**20, "MiB")
    compare(log, name, allocated, forecast.tensors_bytes, stored, bench.is_cuda)


def compare(
    log: PartLog, name: str, peak: float, forecast: float, stored: Mapping[str, Any], on_card: bool
) -> None:
    """Checks a peak against the forecast (bytes) and against the stored probe of the same recipe."""
    if not on_card:
        return log.missing(f"{name}: against the forecast", "resident memory is not what a card allocates")
    within = abs(forecast - peak) <= TOLERANCE * peak
    log.check(f"{name}: forecast", within, f"{size(forecast)} forecast, {size(peak)} measured")
    if "peak_bytes" in stored:
        probed = stored["peak_bytes"]
        within = abs(probed - peak) <= TOLERANCE * peak
        log.check(f"{name}: stored probe", within, f"{size(probed)} probed, {size(peak)} measured")


def _expandable_segments(bench: Bench, log: PartLog) -> None:
    """What torch reserves with segments that grow, and without."""
    model, preset = MODELS[0], "starter"
    set_allocator = getattr(torch.cuda.memory, "_set_allocator_settings", None)
    if not bench.is_cuda or set_allocator is None:
        return log.missing("expandable segments", "only torch's allocator on a card has them")
    for on in (False, True):
        set_allocator(f"expandable_segments:{on}")
        allocated, reserved = _steps(bench, model, preset)
        log.figure(f"reserved, expandable segments {'on' if on else 'off'}", reserved / 2**20, "MiB")
        log.figure(f"unused share of it, {'on' if on else 'off'}", 1 - allocated / reserved, "")
