"""Whether models and presets fit this machine: the forecast of the recipe that each of them would give, for
the marks in lists. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tui_lab.core.errors import LabError
from tui_lab.forecast.cost import DataFacts
from tui_lab.forecast.estimate import estimate
from tui_lab.forecast.remedies import FITS, OVER, TIGHT, UNKNOWN
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models.catalog import Entry
from tui_lab.recipes.recipe import build, with_pins
from tui_lab.recipes.resolve import resolve

#: From what fits to what is not known, for sorting.
_ORDER = (FITS, TIGHT, UNKNOWN, OVER)


@dataclass(frozen=True)
class MachineFit:
    """``verdict``: one of :mod:`tui_lab.forecast.remedies`'s. ``needed_bytes`` is None where it is not
    known, and ``reason`` says why."""

    verdict: str = UNKNOWN
    needed_bytes: int | None = None
    reason: str = ""

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts what fits first, then by memory."""
        return _ORDER.index(self.verdict), self.needed_bytes or 0


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
    return MachineFit(found.verdict, found.needed_bytes, found.problem)
