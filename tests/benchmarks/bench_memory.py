"""The forecast against measured peaks: the formula and the probe beside what the allocator says of two real
steps with random weights. On a GPU the shapes of four models, by ``max_memory_allocated``; without one the
bundled model's shape, by the CPU allocator's own record.

    python -m tests.benchmarks.bench_memory      writes tests/benchmarks/results/memory_<device>.md
"""

from __future__ import annotations

import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.benchmarks.figures import Figure
from tests.training.measured_memory import measured_peak, trainer_of, two_steps
from tui_lab.forecast import memory
from tui_lab.models import catalog, meta_model
from tui_lab.recipes import presets
from tui_lab.recipes.resolve import resolve
from tui_lab.training import device as devices
from tui_lab.training import memory_probe
from tui_lab.training.calibrate import random_model

GPU_MODELS = (
    "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "google/gemma-2-2b",
)  # fmt: skip
GPU_PRESETS = ("starter", "style", "pissa", "dora", "full")
CPU_PRESETS = ("minute", "naive", "starter", "keeper", "full", "production", "ia3")
MIB = 2**20


@dataclass(frozen=True)
class Pair:
    """Bytes of one model and preset."""

    model: str
    preset: str
    formula: int
    probe: int
    measured: int


def pairs(models: tuple[str, ...] = ()) -> Iterator[Pair]:
    """Measures each pair on this machine's device, of ``models`` or of those that suit it."""
    facts = devices.detect()
    on_gpu = facts.type == "cuda"
    for name in models or (GPU_MODELS if on_gpu else ("pocket",)):
        entry = catalog.find(name)
        assert entry.shape is not None
        for preset in GPU_PRESETS if on_gpu else CPU_PRESETS:
            recipe = presets.make_recipe(preset, model=name)
            values = resolve(recipe, facts, entry).values
            kind = "cuda" if on_gpu else "cpu"
            with (
                tempfile.TemporaryDirectory() as folder,
                contextlib.redirect_stderr(io.StringIO()),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                base = random_model(entry.shape, recipe, values, facts)
                if on_gpu:
                    made = trainer_of(base, recipe, values, Path(folder), "cuda")
                    torch.cuda.reset_peak_memory_stats()
                    two_steps(made, recipe, values, "cuda")
                    measured = torch.cuda.max_memory_allocated()
                    del made
                else:
                    measured = measured_peak(base, recipe, values, Path(folder))
                del base
                gc.collect()
                probed = memory_probe.probe(meta_model.config_of(entry.shape), recipe, values, kind)
            said = memory.forecast(entry.shape, recipe, values, kind).tensors_bytes
            yield Pair(name, preset, said, probed.peak_bytes, measured)


def run() -> Iterator[Figure]:
    """The worst and the mean error of the formula and of the probe, in percent."""
    found = list(pairs())
    for what in ("formula", "probe"):
        errors = [abs(getattr(pair, what) / pair.measured - 1) * 100 for pair in found]
        yield Figure(f"{what} against measured peaks, mean of {len(found)}", sum(errors) / len(errors), "%")
        yield Figure(
            f"{what} against measured peaks, worst", max(errors), "%", 10 if what == "formula" else 5
        )


def main() -> None:
    from tests.benchmarks.__main__ import machine, versions

    facts = devices.detect()
    lines = [
        "# Forecast against measured peaks",
        "",
        f"Measured on {time.strftime('%Y-%m-%d')}, {facts.name or machine()} ({facts.type}); {versions()}.",
        "Two real optimiser steps with random weights, full rows; tensors alone, in MiB.",
        "",
        "| model | preset | formula | probe | measured | formula off | probe off |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for pair in pairs():
        off = [f"{100 * (each / pair.measured - 1):+.1f}%" for each in (pair.formula, pair.probe)]
        sizes = " | ".join(f"{each / MIB:,.0f}" for each in (pair.formula, pair.probe, pair.measured))
        lines.append(f"| {pair.model} | {pair.preset} | {sizes} | {' | '.join(off)} |")
        print(lines[-1], flush=True)
    out = Path(__file__).with_name("results") / f"memory_{facts.type}.md"
    out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
