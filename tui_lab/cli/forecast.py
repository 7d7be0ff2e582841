"""``tui-lab forecast``, and the forecast that ``tui-lab train`` prints: the memory, time, money and energy
that a recipe needs, and changes that make it fit. Nothing is downloaded or loaded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from msgspec.structs import asdict

from tui_lab.cli import jobs
from tui_lab.cli.forecast_answers import (
    CardCosts,
    ForecastAnswer,
    ForecastTable,
    PresetForecast,
    RunForecast,
    budget_fields,
    cost_figures,
    memory_fields,
    playground_memory,
    remedy_rows,
    run_forecast_answer,
)
from tui_lab.cli.output import as_json, print_text, table
from tui_lab.cli.recipe_args import overrides_of
from tui_lab.core.errors import LabError
from tui_lab.core.format import plural, size
from tui_lab.core.sanitize import sanitize
from tui_lab.data.preview_records import PreviewAnswer, PreviewRequest
from tui_lab.forecast import card_prices, estimate
from tui_lab.forecast import remedies as fit
from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.estimate import RunEstimate, data_of
from tui_lab.forecast.jobs import CalibrationAnswer, MemoryProbeAnswer
from tui_lab.forecast.machine_fit import LANE_TOKENS, LANES
from tui_lab.forecast.memory import MemoryForecast, playground_forecast
from tui_lab.forecast.remedies import LargestFit, Remedy
from tui_lab.hardware import gpu_specs, memory_budget
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.models.catalog import Entry
from tui_lab.recipes.presets import list_presets, make_recipe
from tui_lab.recipes.recipe import FIELDS, Recipe
from tui_lab.recipes.resolve import Resolution, resolve

#: A larger number is the name of a card, such as 3090.
MOST_GPUS = 32
PROBE, CALIBRATE = "tui_lab.training.memory_probe", "tui_lab.training.calibrate"


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError for invalid input."""
    on_cpu = overrides_of(args).get("device") == "cpu" and not args.gpu
    if args.prices:
        return _prices(args)
    budget = memory_budget.on_cpu() if on_cpu else find_budget(args.gpu)
    if args.preset:
        return _one(args, budget)
    for name in ("probe", "calibrate"):
        if getattr(args, name):
            raise LabError(f"--{name} needs one recipe: name it with --preset")
    return _table(args, budget)


def find_budget(gpu: str) -> MemoryBudget:
    """The memory budget that ``--gpu`` names: of a numbered GPU of this machine, of a card by its name, or of
    the GPU that a run would use. Raises LabError."""
    if gpu and not (len(gpu) < 5 and gpu.isdecimal() and int(gpu) < MOST_GPUS):
        return memory_budget.from_spec(gpu_specs.find(gpu))
    if not gpu:
        return memory_budget.current()
    budgets = memory_budget.detect()
    gpus = [budget for budget in budgets if budget.uuid is not None or budget.kind == "cuda"]
    if int(gpu) >= len(gpus):
        raise LabError(f"--gpu {gpu}: this machine has {plural(len(gpus), 'GPU')}, counted from 0")
    return gpus[int(gpu)]


def _prepare(
    args: argparse.Namespace, preset: str, budget: MemoryBudget, lenient: bool = False
) -> tuple[Recipe, Entry, Resolution]:
    """The recipe of a preset with the options applied, its model, and the resolved values. Raises LabError.
    ``lenient``: replay data that a preset requires may be missing."""
    overrides = overrides_of(args)
    if lenient:
        overrides.setdefault("replay_data", "general rows")
    recipe = make_recipe(preset, **overrides)
    entry = catalog.find(recipe.model, allow_large=recipe.allow_large)
    return recipe, entry, resolve(recipe, budget.device, entry)


def _data(args: argparse.Namespace, recipe: Recipe) -> DataFacts | None:
    """The token counts of ``--data``, from the preview job; None without the option."""
    if args.data is None:
        return None
    request = PreviewRequest(
        data=args.data,
        model=recipe.model,
        data_format=recipe.data_format,
        max_length=recipe.max_length,
        max_rows=recipe.max_rows,
        rows=0,
        mixture_by=recipe.mixture_by,
        mixture_sampling=recipe.mixture_sampling,
    )
    return data_of(jobs.run_job("tui_lab.data.preview", request, answer=PreviewAnswer).facts)


# --------------------------------------------------------------------------------------------------
# one recipe


def _one(args: argparse.Namespace, budget: MemoryBudget) -> int:
    recipe, entry, resolution = _prepare(args, args.preset, budget)
    data = _data(args, recipe)
    if args.calibrate:
        if budget.kind == "cuda" and budget.uuid is None:
            raise LabError(
                "--calibrate measures a GPU of this machine: leave out --gpu, or give the number of one"
            )
        budget.check()
        planned = estimate.estimate(recipe, entry, resolution.values, budget, data)
        request = estimate.calibration_request(planned.as_run(recipe), data)
        jobs.run_job(CALIBRATE, request, budget.environment, answer=CalibrationAnswer)
    found = estimate.estimate(recipe, entry, resolution.values, budget, data)
    if args.probe:
        wanted = estimate.probe_request(found.as_run(recipe), budget)
        probed = jobs.run_job(PROBE, wanted, answer=MemoryProbeAnswer)
        found = estimate.with_probe(found, probed)
    remedies: list[Remedy] = []
    largest = None
    if entry.shape is not None and found.memory is not None:
        lengths = data.lengths if data else ()
        remedies = fit.remedies(entry.shape, recipe, budget.device, budget.free_bytes, entry, lengths)
        largest = fit.largest(entry.shape, recipe, budget.device, budget.free_bytes, entry)
    in_playground = _playground_forecast(recipe, entry, resolution, budget)
    if args.json:
        as_json(
            ForecastAnswer(
                model=entry.id,
                preset=recipe.preset,
                **asdict(budget_fields(budget)),
                **asdict(memory_fields(found)),
                cost=cost_figures(found.cost, found.cost_problem),
                remedies=remedy_rows(remedies),
                largest=largest,
                playground=playground_memory(in_playground, LANES, LANE_TOKENS),
                warnings=resolution.warnings,
            )
        )
    else:
        _print_forecast(recipe, entry, found, remedies, largest, in_playground)
    return 0


def _playground_forecast(
    recipe: Recipe, entry: Entry, resolution: Resolution, budget: MemoryBudget
) -> MemoryForecast | None:
    if entry.shape is None:
        return None
    dtype = resolution.values.compute_dtype
    return playground_forecast(
        entry.shape,
        quantization=recipe.quantization,
        dtype=dtype,
        rows=LANES,
        tokens=LANE_TOKENS,
        device=budget.kind,
    )


def _print_forecast(
    recipe: Recipe,
    entry: Entry,
    found: RunEstimate,
    remedies: Sequence[Remedy],
    largest: LargestFit | None,
    in_playground: MemoryForecast | None,
) -> None:
    batch = f"batch {recipe.per_device_train_batch_size} × {recipe.gradient_accumulation_steps}"
    print_text(
        f"{recipe.preset} on {sanitize(entry.label)}: {recipe.method}, {batch}, {recipe.max_length:,} tokens"
    )
    if found.memory is not None:
        rows = [(part.label, f"{part.bytes:,}", size(part.bytes)) for part in found.memory.parts]
        total = found.memory.total_bytes
        rows.append(("total", f"{total:,}", size(total)))
        table(("part", "bytes", ""), rows, right=(1, 2))
        print_text(f"worst moment: {found.memory.moment}")
    _print_problem(found.budget)
    print_text(sanitize(estimate.line(found)))
    if found.probe is not None:
        print_text(
            f"probe: {found.probe.peak_bytes:,} bytes of tensors, counted in {found.probe.seconds:.1f} s; "
            f"worst in: {found.probe.phase}"
        )
    print_text(sanitize(estimate.cost_line(found)))
    if found.cost is not None:
        known = [found.cost.basis] if found.cost.hours is not None else []
        for detail in (*known, found.cost.tokens_basis, found.cost.formula, *found.cost.notes):
            print_text(f"  {sanitize(detail)}")
    if remedies and found.verdict != "fits":
        print("to make it fit:" if found.verdict == "over" else "to be sure that it fits:")
        for remedy in remedies:
            print_text(f"  {remedy.text}: {estimate.remedy_text(remedy)}")
            print_text(f"    {remedy.cost}")
    elif estimate.nothing_helps(found, remedies):
        print_text("no change of the recipe makes it fit: choose a smaller model or a larger card")
    elif found.verdict == "over":
        print_text(
            "no change of the recipe is forecast to fit: try a smaller batch or shorter rows, then probe"
        )
    if largest is not None:
        print_text(estimate.largest_text(largest, recipe))
    if in_playground is not None:
        kv_cache = size(in_playground.part("kv_cache"))
        print_text(
            f"playground: {size(in_playground.total_bytes)} for {LANES} lanes of {LANE_TOKENS} tokens "
            f"(KV cache {kv_cache})"
        )


def _print_problem(budget: MemoryBudget) -> None:
    """Why a run on this device would be refused, if it would be."""
    if budget.problem:
        print_text(f"no run can start here: {sanitize(budget.problem)}")


# --------------------------------------------------------------------------------------------------
# one recipe on every card with a price


def _prices(args: argparse.Namespace) -> int:
    if not args.preset or args.gpu or args.probe or args.calibrate:
        raise LabError(
            "--prices needs one recipe, --preset NAME, and takes neither --gpu, --probe nor --calibrate"
        )
    rows, problems = card_prices.read_prices()
    recipe = make_recipe(args.preset, **overrides_of(args))
    entry = catalog.find(recipe.model, allow_large=recipe.allow_large)
    costs = card_prices.card_costs(recipe, entry, _data(args, recipe), rows)
    if args.json:
        file = str(card_prices.path())
        as_json(CardCosts(model=entry.id, preset=recipe.preset, file=file, items=costs, problems=problems))
        return 0
    print_text(f"{recipe.preset} on {sanitize(entry.label)}, by the assumed speed of each card")
    table(
        card_prices.HEAD,
        [tuple(map(sanitize, row)) for row in card_prices.table_rows(costs)],
        right=(2, 3, 4),
    )
    for note in card_prices.notes(costs, problems):
        print_text(f"  note: {sanitize(note)}")
    if not card_prices.has_price(costs):
        print_text(f"{card_prices.instruction()} `tui-lab settings --prices` prints a table to begin with.")
    return 0


# --------------------------------------------------------------------------------------------------
# every preset


def _table(args: argparse.Namespace, budget: MemoryBudget) -> int:
    overrides = overrides_of(args)
    named = str(overrides.get("model") or FIELDS["model"].default)
    entry = catalog.find(named, allow_large=overrides.get("allow_large") is True)
    rows: list[tuple[str, ...]] = []
    listed: list[PresetForecast] = []
    for preset in list_presets()[0]:
        try:
            recipe, entry, resolution = _prepare(args, preset.name, budget, lenient=True)
        except LabError as error:
            rows.append((preset.name, "–", "–", f"refused: {error}", "–"))
            listed.append(PresetForecast(preset=preset.name, refused=str(error)))
            continue
        found = estimate.estimate(recipe, entry, resolution.values, budget)
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
        fields = asdict(memory_fields(found))
        listed.append(PresetForecast(preset=preset.name, **fields, hours_per_1m_tokens=hours))
    if args.json:
        budget_of = asdict(budget_fields(budget))
        as_json(ForecastTable(model=entry.id, **budget_of, items=listed, presets=listed))
        return 0
    _print_problem(budget)
    print_text(f"{sanitize(entry.label)}, {sanitize(estimate.free_text(budget))}")
    if entry.shape is None:  # the same sentence for every preset
        print_text(f"memory and time: {estimate.no_shape(entry)}")
        return 0
    table(("preset", "memory", "interval", "", "1 M tokens"), rows, right=(1,))
    return 0


# --------------------------------------------------------------------------------------------------
# for `tui-lab train`


def run_forecast(recipe: Recipe, entry: Entry, resolution: Resolution) -> tuple[list[str], RunForecast]:
    """The forecast for the GPU that a run uses by default: lines of text (memory, time, and the first change
    that makes it fit), and the same for programs."""
    budget = memory_budget.current(recipe.device)
    found = estimate.estimate(recipe, entry, resolution.values, budget)
    lines = [sanitize(estimate.line(found)), sanitize(estimate.cost_line(found))]
    choices = found.filled.choices if found.filled else ()
    lines += [f"{each.field} = {each.value}: {sanitize(each.reason)}" for each in choices]
    remedies: list[Remedy] = []
    if found.verdict == fit.OVER and entry.shape is not None:
        remedies = fit.remedies(entry.shape, recipe, budget.device, budget.free_bytes, entry)
        for remedy in remedies[:1]:
            options = " ".join(f"--set {key}={_setting(value)}" for key, value in remedy.changes.items())
            lines.append(f"to make it fit: {options} ({remedy.cost})")
    return lines, run_forecast_answer(found, remedies)


def _setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
