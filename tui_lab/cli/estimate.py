"""The forecast as text and JSON, for ``tui-lab train`` and ``tui-lab forecast``."""

from __future__ import annotations

from tui_lab.core.sanitize import sanitize
from tui_lab.forecast import estimate
from tui_lab.forecast import remedies as fit
from tui_lab.forecast.cost import Cost
from tui_lab.forecast.estimate import RunEstimate
from tui_lab.forecast.memory import MemoryForecast
from tui_lab.forecast.remedies import Remedy
from tui_lab.hardware.memory_budget import MemoryBudget, current
from tui_lab.models.catalog import Entry
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import Resolution

#: The fields of a cost that JSON has.
COST_KEYS = (
    "tokens", "tokens_basis", "hours", "tok_per_s", "mfu", "kwh", "co2_kg", "money", "currency", "assumed",
    "basis", "flops_per_token", "formula", "notes",
)  # fmt: skip


def run_forecast(recipe: Recipe, entry: Entry, resolution: Resolution) -> tuple[list[str], dict[str, object]]:
    """The forecast for the GPU that a run uses by default: lines of text (memory, time, and the first change
    that makes it fit), and the same as JSON."""
    budget = current()
    found = estimate.estimate(recipe, entry, resolution.values, budget)
    lines = [sanitize(estimate.line(found)), sanitize(estimate.cost_line(found))]
    remedies: list[Remedy] = []
    if found.verdict == fit.OVER and entry.shape is not None:
        remedies = fit.remedies(entry.shape, recipe, budget.device, budget.free_bytes, entry)
        for remedy in remedies[:1]:
            options = " ".join(f"--set {key}={_setting(value)}" for key, value in remedy.changes.items())
            lines.append(f"to make it fit: {options} ({remedy.cost})")
    plain = {
        **budget_json(budget),
        **memory_json(found),
        "cost": cost_json(found.cost, found.cost_problem),
        "remedies": [remedy_json(remedy) for remedy in remedies],
    }
    return lines, plain


def budget_json(budget: MemoryBudget) -> dict[str, object]:
    device = budget.device
    return {
        "device": {"type": device.type, "name": device.name, "memory_bytes": device.memory_bytes},
        "free_bytes": budget.free_bytes,
        "free_is": f"{budget.basis} {budget.label}",
    }


def forecast_json(memory: MemoryForecast) -> dict[str, object]:
    keys = ("total_bytes", "low_bytes", "high_bytes")
    parts = {part.name: part.bytes for part in memory.parts}
    return {"parts": parts, **{key: getattr(memory, key) for key in keys}}


def memory_json(found: RunEstimate) -> dict[str, object]:
    memory = found.memory
    needed, free = found.needed_bytes, found.budget.free_bytes
    return {
        **(forecast_json(memory) if memory else {"parts": None, "problem": found.problem}),
        "moment": memory.moment if memory else None,
        "probe": None if found.probe is None else vars(found.probe),
        "verdict": found.verdict,
        "spare_bytes": None if needed is None or free is None else free - needed,
    }


def cost_json(cost: Cost | None, problem: str) -> dict[str, object]:
    """Intervals are lists of low, value and high."""
    return {"problem": problem} if cost is None else {key: getattr(cost, key) for key in COST_KEYS}


def remedy_json(remedy: Remedy) -> dict[str, object]:
    total, high = remedy.forecast.total_bytes, remedy.forecast.high_bytes
    keys = ("changes", "text", "cost", "sure", "spare_bytes")
    return {**{key: getattr(remedy, key) for key in keys}, "total_bytes": total, "high_bytes": high}


def _setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
