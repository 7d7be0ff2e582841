"""Makes the table of probe figures that the forecast's formula is tested against: every shape of the catalog
with every preset, on a 24 GB card with bfloat16, and the bundled model on the CPU.

    python -m tests.benchmarks.memory_table            goes on where it stopped; half an hour on one core
    python -m tests.benchmarks.memory_table --anew     measures everything again

Nothing is downloaded and no GPU is needed. Results: ``tests/benchmarks/results/memory_probe.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from tui_lab.hardware.device import DeviceFacts
from tui_lab.models import catalog
from tui_lab.recipes import presets
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import resolve

RESULTS = Path(__file__).with_name("results") / "memory_probe.json"
CARD = DeviceFacts("cuda", "a card of 24 GB", 24 << 30, True, 8)
CPU = DeviceFacts("cpu", "a processor", 24 << 30, False, 1)
MEASURED = ("torch", "transformers", "trl", "peft", "bitsandbytes")
#: Recipes beside the presets: one field at a time, on a few models of different build.
VARIED: dict[str, dict[str, Any]] = {
    "starter x4": {"preset": "starter", "per_device_train_batch_size": 4},
    "starter without checkpointing": {"preset": "starter", "gradient_checkpointing": False},
    "starter 512": {"preset": "starter", "max_length": 512},
    "starter bf16": {"preset": "starter", "quantization": "none"},
    "starter packed": {"preset": "starter", "packing": True, "per_device_train_batch_size": 2},
    "starter AdamW": {"preset": "starter", "optim": "adamw_torch", "lora_r": 64},
    "starter without dropout": {"preset": "starter", "lora_dropout": 0.0, "gradient_checkpointing": False},
    "starter float32": {"preset": "starter", "compute_dtype": "float32"},
    "style without checkpointing": {
        "preset": "style", "gradient_checkpointing": False, "per_device_train_batch_size": 4,
    },
    "full float32": {"preset": "full", "compute_dtype": "float32", "max_length": 512},
    "naive checkpointed": {"preset": "naive", "gradient_checkpointing": True},
    "starter smoothed": {"preset": "starter", "label_smoothing_factor": 0.1},
    "full KL": {"preset": "naive", "kl_weight": 0.1, "per_device_train_batch_size": 2},
    "full L2": {"preset": "naive", "l2_to_start": 0.1, "per_device_train_batch_size": 2},
}  # fmt: skip
#: Presets that had a paged optimiser when they were measured.
MEASURED_IN_8_BITS = (
    "adalora", "dora", "keeper", "multi-task", "production", "reasoning", "starter", "style",
)  # fmt: skip
#: Presets that the table leaves out: tests/training/test_memory_probe.py compares osf with the probe, and a
#: step of the others is one of plain LoRA.
NOT_IN_TABLE = ("mixture", "osf", "sdft")
#: Models of at least so many layers are measured by two of fewer (sliding layers come in cycles of six).
DEEP = 16
SHALLOW = {"gemma3_text": (6, 12)}
VARIED_MODELS = (
    "Qwen/Qwen2.5-0.5B", "HuggingFaceTB/SmolLM2-135M", "google/gemma-3-270m", "EleutherAI/pythia-160m",
    "microsoft/phi-1_5", "openai-community/gpt2",
)  # fmt: skip


def models() -> list[str]:
    """One name for each shape of the catalog, architectures in turn so that a part of the table has all."""
    seen: dict[Any, str] = {}
    for entry in catalog.load():
        if entry.shape is not None and not entry.refused and entry.where in ("bundled", "catalog"):
            shape = entry.shape
            same_work = (*shape.__dict__.items(),) if shape.context < 8192 else (
                *((key, value) for key, value in shape.__dict__.items() if key != "context"),
            )  # fmt: skip
            seen.setdefault(same_work, entry.id)
    by_kind: dict[str, list[str]] = {}
    for name in seen.values():
        shape_ = catalog.find(name).shape
        assert shape_ is not None
        by_kind.setdefault(shape_.model_type, []).append(name)
    found = []
    while any(by_kind.values()):
        found += [names.pop(0) for names in by_kind.values() if names]
    return found


def recipe_of(model: str, name: str) -> Recipe:
    """The recipe that a row's name stands for."""
    changes = dict(VARIED.get(name, {"preset": name}))
    preset = str(changes.pop("preset"))
    recipe = presets.make_recipe(preset, model=model, **changes)
    if preset in MEASURED_IN_8_BITS and recipe.optim == "adamw_torch_fused":
        recipe = recipe.changed(optim="paged_adamw_8bit")
    return recipe


def rows() -> list[tuple[str, str, str]]:
    """(model, name of the recipe, device) of everything in the table."""
    # a preference loss takes as much memory as plain tuning on as many rows (test_memory_probe.py)
    names = [
        preset.name
        for preset in presets.list_presets()[0]
        if not preset.own and "preference_loss" not in preset.values and preset.name not in NOT_IN_TABLE
    ]
    found = [("pocket", name, "cpu") for name in names]
    found += [(model, name, "cuda") for name in VARIED for model in VARIED_MODELS]
    found += [(model, name, "cuda") for model in models() for name in names]
    return found


def measure(model: str, name: str, device: str) -> dict[str, Any]:
    """One row. Of a deep model two shallower ones are probed, and what each phase holds is drawn on in a
    straight line: layers are alike, so that it is one (see ``straight``)."""
    from tui_lab.models import meta_model
    from tui_lab.training import memory_probe

    entry = catalog.find(model)
    assert entry.shape is not None
    shape = entry.shape
    recipe = recipe_of(model, name)
    values = resolve(recipe, CARD if device == "cuda" else CPU, entry).values
    values.packed_attention, values.row_mask = "mask", True  # the larger of both

    def probed(layers: int) -> dict[str, Any]:
        config = meta_model.config_of(replace(shape, layers=layers))
        with contextlib.redirect_stderr(io.StringIO()):
            return msgspec.structs.asdict(memory_probe.probe(config, recipe, values, device))

    row = {"model": model, "recipe": name, "device": device, "casts": False}
    few, more = SHALLOW.get(shape.model_type, (4, 8))
    if shape.layers < DEEP:
        return {**probed(shape.layers), **row}
    return {**row, **straight(probed(few), probed(more), few, more, shape.layers), "from_layers": [few, more]}


def straight(few: dict[str, Any], more: dict[str, Any], at: int, then: int, layers: int) -> dict[str, Any]:
    """The figures of a model of ``layers`` from those of models of ``at`` and ``then`` layers."""

    def drawn_on(low: int, high: int) -> int:
        return round(high + (high - low) * (layers - then) / (then - at))

    peaks = {phase: drawn_on(few["peaks"][phase], size) for phase, size in more["peaks"].items()}
    found = {name: drawn_on(few[name], size) for name, size in more.items() if name.endswith("_bytes")}
    seconds = round(few["seconds"] + more["seconds"], 2)
    return {**found, "peaks": peaks, "peak_bytes": max(peaks.values()), "seconds": seconds}


def load() -> dict[str, Any]:
    """The table as it is."""
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--part", default="0/1", help="which share of the rows, such as 0/2")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    part, parts = (int(each) for each in args.part.split("/"))
    table: dict[str, Any] = {"versions": {}, "rows": []}
    if args.out.is_file() and not args.anew:
        table = json.loads(args.out.read_text("utf-8"))
    table["versions"] = {name: version(name) for name in MEASURED}
    done = {(row["model"], row["recipe"], row["device"]) for row in table["rows"]}
    wanted = [row for index, row in enumerate(rows()) if index % parts == part and row not in done]
    for index, row in enumerate(wanted, 1):
        try:
            table["rows"].append(measure(*row))
            said = f"{table['rows'][-1]['peak_bytes'] / 2**20:,.0f} MiB"
        except Exception as error:  # a recipe that this model refuses
            table["rows"].append(
                {"model": row[0], "recipe": row[1], "device": row[2], "refused": str(error)[:200]}
            )
            said = f"refused: {error}"[:150]
        print(f"{index}/{len(wanted)} {' · '.join(row)}: {said}", flush=True)
        lines = ",\n".join(json.dumps(each) for each in table["rows"])
        args.out.write_text(
            f'{{"versions": {json.dumps(table["versions"])}, "rows": [\n{lines}\n]}}\n', "utf-8"
        )


if __name__ == "__main__":
    main()
