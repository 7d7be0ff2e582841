"""The devices of the queue's workers: each worker executes one run at a time on its own GPU, or on its share
of the processors. A device is a value of CUDA_VISIBLE_DEVICES, or :data:`CPU`; one that is listed twice has
two workers, which share its memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import Struct

from tui_lab.core.errors import LabError
from tui_lab.forecast import remedies
from tui_lab.forecast.estimate import RunEstimate, estimate
from tui_lab.hardware import cpu, cuda_support, memory_budget
from tui_lab.hardware.cuda_support import GPUS_ENV
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import resolve
from tui_lab.runs.folder import Run

CPU = "cpu"
MOST_WORKERS = 64
THREADS_ENV = "OMP_NUM_THREADS"


class WorkerForecast(Struct, frozen=True):
    """One worker's device with its share of the free memory, and how many of the waiting runs fit there;
    ``largest``: the run that needs most."""

    device: str
    label: str
    free_bytes: int | None
    waiting: int
    fitting: int
    largest: str = ""
    largest_bytes: int | None = None


def parse(devices: str, workers: int | None) -> tuple[str, ...] | None:
    """The devices of ``--devices`` or ``--workers``; None where neither is given, () for one worker on the
    device of the process that adds a run. Raises LabError."""
    if devices and workers is not None:
        raise LabError("--devices already says how many workers there are: leave out --workers")
    if devices:
        chosen = tuple(part.strip() for part in devices.split(","))
    elif workers is None:
        return None
    elif workers == 1:
        return ()
    else:
        chosen = _first_devices(workers)
    if not 1 <= len(chosen) <= MOST_WORKERS:
        raise LabError(f"the queue can have 1 to {MOST_WORKERS} workers, not {len(chosen)}")
    for device in chosen:
        budget_of(device).check()
    return chosen


def _first_devices(workers: int) -> tuple[str, ...]:
    budgets = [budget for budget in memory_budget.detect() if budget.kind == "cuda"]
    if not budgets:
        return (CPU,) * workers
    if not 1 <= workers <= len(budgets):
        raise LabError(
            f"--workers {workers}: {len(budgets)} GPUs are visible; `--devices 0,0` has two workers share one"
        )
    return tuple(budget.uuid or str(number) for number, budget in enumerate(budgets[:workers]))


def budget_of(device: str) -> MemoryBudget:
    """The memory that is free on a worker's device now. Raises LabError where there is no such device."""
    if device == CPU:
        return memory_budget.on_cpu()
    machine = cuda_support.survey()
    shown = memory_budget.gpu_budgets(machine.cards, {**os.environ, GPUS_ENV: device}, cpu.threads())
    if len(shown) != 1:
        raise LabError(
            f"there is no GPU {device!r} here; `tui-lab doctor` lists the GPUs, and `cpu` is a "
            "worker without one"
        )
    return shown[0]


def free_device(devices: Sequence[str], busy: Sequence[str], recipe: Recipe | None) -> str | None:
    """The first device with an idle worker that has the memory for ``recipe``, else the first with an idle
    worker; None where all are ``busy``. A run that fits nowhere says so itself."""
    left = Counter(devices) - Counter(busy)
    idle = [device for device in dict.fromkeys(devices) if left[device]]
    if recipe is None or len(idle) < 2:
        return next(iter(idle), None)
    fits = (device for device in idle if _fits(recipe, device))
    return next(fits, idle[0])


def _fits(recipe: Recipe, device: str) -> bool:
    try:
        found = forecast(recipe, budget_of(device))
    except LabError:
        return False
    return found.verdict != remedies.OVER


def forecast(recipe: Recipe, budget: MemoryBudget) -> RunEstimate:
    """The estimate of a recipe on a device. Raises LabError."""
    entry = catalog.find(recipe.model, allow_large=True)
    return estimate(recipe, entry, resolve(recipe, budget.device, entry).values, budget)


def forecasts(devices: Sequence[str], waiting: Sequence[Run]) -> list[WorkerForecast]:
    """What the waiting runs need, for each worker. A device that is gone is listed with its reason."""
    recipes = {run.id: recipe_of(run) for run in waiting}
    found = {device: _forecast_of(device, sharing, recipes) for device, sharing in Counter(devices).items()}
    return [found[device] for device in devices]


def recipe_of(run: Run) -> Recipe | None:
    """The recipe of a waiting run; None where it cannot be read, which the run's start reports."""
    try:
        return run.recipe()
    except LabError:
        return None


def _forecast_of(device: str, sharing: int, recipes: Mapping[str, Recipe | None]) -> WorkerForecast:
    try:
        budget = budget_of(device).check()
    except LabError as error:
        return WorkerForecast(device, str(error), None, len(recipes), 0)
    free = None if budget.free_bytes is None else budget.free_bytes // sharing
    budget = replace(budget, free_bytes=free)
    fitting, largest, largest_bytes = 0, "", 0
    for run, recipe in recipes.items():
        if recipe is None:
            continue
        try:
            found = forecast(recipe, budget)
        except LabError:
            continue  # the run reports it when its turn comes
        fitting += found.verdict != remedies.OVER
        if (found.needed_bytes or 0) > largest_bytes:
            largest, largest_bytes = run, found.needed_bytes or 0
    return WorkerForecast(device, budget.label, free, len(recipes), fitting, largest, largest_bytes or None)


def environment(device: str, devices: Sequence[str]) -> Mapping[str, str]:
    """The variables that keep a run on its worker's device."""
    if device != CPU:
        return {GPUS_ENV: device}
    # workers that each use every core hinder each other
    share = str(max(1, cpu.threads() // devices.count(CPU)))
    return {GPUS_ENV: "", THREADS_ENV: os.environ.get(THREADS_ENV, share)}
