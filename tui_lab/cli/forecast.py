"""``tui-lab forecast``: what a recipe will take of memory, time, money and energy, and what to change so that
it fits, before anything is downloaded or loaded. Every start of the command line reads the grammar, so what
the command needs is imported when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tui_lab.cli import jobs
from tui_lab.cli.estimate import (
    _cost_json,
    _forecast_json,
    _interval,
    _memory_json,
    _place_json,
    _remedy_json,
)
from tui_lab.cli.output import as_json, table
from tui_lab.cli.recipe_args import overrides_of
from tui_lab.core.errors import LabError
from tui_lab.core.format import size
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast import estimate
from tui_lab.forecast import remedies as fit
from tui_lab.forecast.estimate import Data, RunEstimate, data_of
from tui_lab.forecast.memory import MemoryForecast, playground
from tui_lab.forecast.remedies import Largest, Remedy
from tui_lab.hardware import gpu_specs
from tui_lab.hardware import memory_budget as room
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.models.catalog import Entry
from tui_lab.recipes.presets import list_presets, make_recipe
from tui_lab.recipes.recipe import FIELDS, Recipe
from tui_lab.recipes.resolve import Resolution, resolve

#: Lanes and tokens that the playground is told for: six strategies side by side.
LANES, LANE_TOKENS = 6, 1024
#: A larger number is the name of a card: 3090.
MOST_GPUS = 32
PROBE, CALIBRATE = "tui_lab.training.memory_probe", "tui_lab.training.calibrate"


def run(args: argparse.Namespace) -> int:
    """Carries the command out; the exit code. Raises LabError for bad input."""

    room = find_room(args.gpu)
    if args.preset:
        return _one(args, room)
    for name in ("probe", "calibrate"):
        if getattr(args, name):
            raise LabError(f"--{name} is for one recipe: say which with --preset")
    return _table(args, room)


def find_room(gpu: str) -> MemoryBudget:
    """The place that ``--gpu`` names: a number of this machine's GPUs, a card of the table, or this machine's
    own. Raises LabError."""

    if gpu and not (len(gpu) < 5 and gpu.isdecimal() and int(gpu) < MOST_GPUS):
        return room.of_card(gpu_specs.find(gpu))
    if not gpu:
        return room.current()
    places = room.detect()
    here = [place for place in places if place.uuid is not None or place.kind == "cuda"]
    if int(gpu) >= len(here):
        raise LabError(f"--gpu {gpu}: this machine shows {len(here)} GPU{'s' * (len(here) != 1)}, from 0 on")
    return here[int(gpu)]


def _prepare(
    args: argparse.Namespace, preset: str, room: MemoryBudget, lenient: bool = False
) -> tuple[Recipe, Entry, Resolution]:
    """The recipe of a preset with the options on top, its model and what it comes to. Raises LabError.
    ``lenient``: for a look at many presets, general rows that a preset asks for may be named later."""

    overrides = overrides_of(args)
    if lenient:
        overrides.setdefault("replay_data", "general rows")
    recipe = make_recipe(preset, **overrides)
    entry = catalog.find(recipe.model, allow_large=recipe.allow_large)
    return recipe, entry, resolve(recipe, room.device, entry)


def _data(args: argparse.Namespace, recipe: Recipe) -> Data | None:
    """What is known of the data that was named: its tokens are counted by the preview's job."""

    if args.data is None:
        return None
    request = {
        "data": args.data,
        "model": recipe.model,
        "data_format": recipe.data_format,
        "max_length": recipe.max_length,
        "max_rows": recipe.max_rows,
        "rows": 0,
    }
    return data_of(jobs.run_job("tui_lab.data.preview", request).get("facts") or {})


# --------------------------------------------------------------------------------------------------
# one recipe


def _one(args: argparse.Namespace, room: MemoryBudget) -> int:

    recipe, entry, resolution = _prepare(args, args.preset, room)
    data = _data(args, recipe)
    if args.calibrate:
        if room.kind == "cuda" and room.uuid is None:
            raise LabError(
                "--calibrate measures a device of this machine: leave out --gpu, or give its number"
            )
        jobs.run_job(CALIBRATE, estimate.calibration_request(recipe, data), room.environment)
    found = estimate.estimate(recipe, entry, resolution.values, room, data)
    if args.probe:
        found = estimate.probed(found, jobs.run_job(PROBE, estimate.probe_request(recipe, room)))
    remedies: list[Remedy] = []
    largest = None
    if entry.shape is not None and found.memory is not None:
        lengths = data.lengths if data else ()
        remedies = fit.remedies(entry.shape, recipe, room.device, room.free_bytes, entry, lengths)
        largest = fit.largest(entry.shape, recipe, room.device, room.free_bytes, entry)
    playing = _playground(recipe, entry, resolution, room)
    if args.json:
        as_json(
            {
                "model": entry.id,
                "preset": recipe.preset,
                **_place_json(room),
                **_memory_json(found),
                "cost": _cost_json(found.cost, found.cost_problem),
                "remedies": [_remedy_json(remedy) for remedy in remedies],
                "largest": None if largest is None else vars(largest),
                "playground": playing and {**_forecast_json(playing), "lanes": LANES, "tokens": LANE_TOKENS},
                "warnings": resolution.warnings,
            }
        )
    else:
        _tell(recipe, entry, found, remedies, largest, playing)
    return 0


def _playground(
    recipe: Recipe, entry: Entry, resolution: Resolution, room: MemoryBudget
) -> MemoryForecast | None:

    if entry.shape is None:
        return None
    dtype = str(resolution.values["compute_dtype"])
    return playground(
        entry.shape,
        quantization=recipe.quantization,
        dtype=dtype,
        rows=LANES,
        tokens=LANE_TOKENS,
        device=room.kind,
    )


def _tell(
    recipe: Recipe,
    entry: Entry,
    found: RunEstimate,
    remedies: Sequence[Remedy],
    largest: Largest | None,
    playing: MemoryForecast | None,
) -> None:

    batch = f"batch {recipe.per_device_train_batch_size} × {recipe.gradient_accumulation_steps}"
    print(
        f"{recipe.preset} on {sanitize(entry.label)}: {recipe.method}, {batch}, {recipe.max_length:,} tokens"
    )
    if found.memory is not None:
        rows = [(part.label, f"{part.bytes:,}", size(part.bytes)) for part in found.memory.parts]
        total = found.memory.total_bytes
        rows.append(("total", f"{total:,}", size(total)))
        table(("part", "bytes", ""), rows, right=(1, 2))
        print(f"worst moment: {found.memory.moment}")
    print(sanitize(estimate.line(found)))
    if found.probe is not None:
        print(
            f"probe: {found.probe.peak_bytes:,} bytes of tensors, counted in {found.probe.seconds:.1f} s; "
            f"worst in: {found.probe.phase}"
        )
    print(sanitize(estimate.cost_line(found)))
    if found.cost is not None:
        known = [found.cost.basis] if found.cost.hours is not None else []
        for detail in (*known, found.cost.tokens_basis, found.cost.formula, *found.cost.notes):
            print(f"  {sanitize(detail)}")
    if remedies and found.verdict != "fits":
        print("to make it fit:" if found.verdict == "over" else "to be sure that it fits:")
        for remedy in remedies:
            print(f"  {remedy.text}: {estimate.remedy_text(remedy)}")
            print(f"    {remedy.cost}")
    elif estimate.nothing_helps(found, remedies):
        print("nothing that can be changed here makes it fit: take a smaller model or a larger card")
    elif found.verdict == "over":
        print(
            "what makes it fit is not known by formula: try a smaller batch or shorter rows, and probe again"
        )
    if largest is not None:
        print(estimate.largest_text(largest, recipe))
    if playing is not None:
        kept = size(playing.part("kv_cache"))
        print(
            f"playground: {size(playing.total_bytes)} for {LANES} lanes of {LANE_TOKENS} tokens (KV {kept})"
        )


# --------------------------------------------------------------------------------------------------
# every preset


def _table(args: argparse.Namespace, room: MemoryBudget) -> int:

    overrides = overrides_of(args)
    named = str(overrides.get("model") or FIELDS["model"].default)
    entry = catalog.find(named, allow_large=overrides.get("allow_large") is True)
    rows: list[tuple[str, ...]] = []
    plain: list[dict[str, Any]] = []
    for preset in list_presets()[0]:
        try:
            recipe, entry, resolution = _prepare(args, preset.name, room, lenient=True)
        except LabError as error:
            rows.append((preset.name, "–", "–", f"refused: {error}", "–"))
            plain.append({"preset": preset.name, "refused": str(error)})
            continue
        found = estimate.estimate(recipe, entry, resolution.values, room)
        hours = estimate.hours_a_million(found.cost)
        memory = found.memory
        rows.append(
            (
                preset.name,
                size(memory.total_bytes) if memory else "–",
                f"{size(memory.low_bytes)} to {size(memory.high_bytes)}" if memory else "–",
                estimate.verdict_text(found) if memory else found.problem,
                estimate.time_text(hours) if hours else "–",
            )
        )
        plain.append(
            {
                "preset": preset.name,
                **_memory_json(found),
                "hours_per_1m_tokens": _interval(hours),
            }
        )
    if args.json:
        as_json({"model": entry.id, **_place_json(room), "presets": plain})
        return 0
    print(f"{sanitize(entry.label)}, {sanitize(estimate.free_text(room))}")
    table(("preset", "memory", "interval", "", "1 M tokens"), rows, right=(1,))
    return 0


# --------------------------------------------------------------------------------------------------
# as JSON
