"""Whether models and presets fit this machine: the forecast of the recipe that each of them would give, for
the marks in lists. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tui_lab.core.errors import LabError
from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.estimate import estimate
from tui_lab.forecast.memory import playground_forecast
from tui_lab.forecast.remedies import FITS, OVER, TIGHT, UNKNOWN, verdict
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.hardware.precision import QUANTIZATIONS, best_dtype
from tui_lab.models.catalog import Entry
from tui_lab.recipes.recipe import build, with_pins
from tui_lab.recipes.resolve import resolve

#: What the playground is forecast for.
LANES, LANE_TOKENS = 6, 1024
#: From what fits to what is not known, for sorting.
_ORDER = (FITS, TIGHT, UNKNOWN, OVER)


@dataclass(frozen=True)
class MachineFit:
    """``verdict``: one of :mod:`tui_lab.forecast.remedies`'s. ``needed_bytes`` is None where it is not
    known, and ``reason`` says why."""

    verdict: str = UNKNOWN
    needed_bytes: int | None = None
    reason: str = ""
    high_bytes: int | None = None

    def at(self, free_bytes: int | None) -> MachineFit:
        """The same with another amount of free memory."""
        if self.needed_bytes is None or self.high_bytes is None or free_bytes is None:
            return self
        fits, may_fit = self.high_bytes <= free_bytes, self.needed_bytes <= free_bytes
        return replace(self, verdict=FITS if fits else TIGHT if may_fit else OVER)

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts what fits first, then by memory."""
        return _ORDER.index(self.verdict), self.needed_bytes or 0


def playground_fit(entry: Entry, budget: MemoryBudget, precision: str) -> MachineFit:
    """Of a model in the playground, with :data:`LANES` lanes of :data:`LANE_TOKENS` tokens. ``precision``:
    auto, a quantisation or a dtype."""
    if entry.shape is None:
        return MachineFit(reason="its sizes are known once it is downloaded")
    device = budget.device
    best = best_dtype(device.type, device.bf16, entry.model_type).dtype
    try:
        found = playground_forecast(
            entry.shape,
            quantization=precision if precision in QUANTIZATIONS else "none",
            dtype=best if precision in ("auto", *QUANTIZATIONS) else precision,
            rows=LANES,
            tokens=min(LANE_TOKENS, entry.context or LANE_TOKENS),
            device=budget.kind,
        )
    except LabError as error:
        return MachineFit(reason=str(error))
    free = budget.free_bytes
    return MachineFit(verdict(found, free), found.total_bytes, "", found.high_bytes)


def machine_fit(
    values: Mapping[str, object],
    pinned: Mapping[str, object],
    entry: Entry,
    budget: MemoryBudget,
    data: DataFacts | None = None,
) -> MachineFit:
    """Of a recipe given as plain values, on ``entry``; ``pinned``: the values that differ from the
    preset's. Takes about a millisecond. Never raises."""
    try:
        recipe = build(with_pins({**values, "model": entry.id}, pinned))
        found = estimate(recipe, entry, resolve(recipe, budget.device, entry).values, budget, data)
    except LabError as error:
        return MachineFit(reason=str(error))
    high = found.memory.high_bytes if found.memory is not None else None
    return MachineFit(found.verdict, found.needed_bytes, found.problem, high)
