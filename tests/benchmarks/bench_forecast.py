"""What a keystroke in Setup costs: the formula over the whole catalog and every preset, and everything that
the pane's summary says. What would make a recipe fit is worked out a moment later, off the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from tests.benchmarks.figures import Figure
from tui_lab.core.errors import LabError
from tui_lab.forecast import remedies as fit
from tui_lab.forecast.memory import forecast
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.recipes.presets import list_presets
from tui_lab.recipes.recipe import FIELDS, build
from tui_lab.recipes.resolve import resolve
from tui_lab.ui.views.forecast import ForecastView, lines
from tui_lab.ui.views.recipe_summary import summarise

GPU = DeviceFacts("cuda", "NVIDIA GeForce RTX 3090", 24 << 30, True, 8)
ROOM = MemoryBudget(GPU, 20 << 30, GPU.name, "free now on", "GPU-1")
LIMIT_S = 0.005


def _taken(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run() -> Iterator[Figure]:
    entries = [entry for entry in catalog.load() if entry.shape is not None and not entry.refused]
    defaults = {key: info.default for key, info in FIELDS.items()}
    formula, whole, drawing, remedies = [], [], [], []
    for preset in list_presets()[0]:
        for entry in entries:
            values = {**defaults, **preset.values_for(entry.id), "model": entry.id, "preset": preset.name}
            assert entry.shape is not None
            try:
                recipe = build(values)
                resolved = resolve(recipe, GPU, entry).values
                forecast(entry.shape, recipe, resolved, "cuda")  # the first reads the table
            except LabError:
                continue
            formula.append(_taken(lambda: forecast(entry.shape, recipe, resolved, "cuda")))  # noqa: B023
            whole.append(_taken(lambda: summarise(values, preset.name, {}, GPU, ROOM)))  # noqa: B023
            found = summarise(values, preset.name, {}, GPU, ROOM)
            assert found.estimate is not None
            shown = ForecastView(found.estimate)
            drawing.append(_taken(lambda: lines(shown, 50, "full")))  # noqa: B023
            half = found.estimate.memory.total_bytes // 2 if found.estimate.memory else None
            remedies.append(_taken(lambda: fit.remedies(entry.shape, recipe, GPU, half, entry)))  # noqa: B023
    pairs = f"{len(formula)} pairs of model and preset"
    yield Figure(f"formula, median of {pairs}", median(formula), "s", LIMIT_S)
    yield Figure("  slowest", max(formula), "s")
    yield Figure("whole summary, median", median(whole), "s", LIMIT_S)
    yield Figure("  slowest", max(whole), "s")
    yield Figure("drawing its lines, median", median(drawing), "s", LIMIT_S)
    yield Figure("what makes it fit in half the memory, median", median(remedies), "s")
    yield Figure("  slowest", max(remedies), "s")
