"""What ``tui-lab forecast`` prints with ``-o json``, and the forecast of ``tui-lab train --dry-run``. Sizes
are bytes; intervals are lists of low, value and high."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from tui_lab.cli.output import Answer
from tui_lab.forecast.card_prices import CardCost
from tui_lab.forecast.cost import Cost, EstimateRange
from tui_lab.forecast.estimate import Probe, RunEstimate
from tui_lab.forecast.memory import MemoryForecast
from tui_lab.forecast.remedies import LargestFit, Remedy
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.recipes.resolve import ResolvedChoice


class ForecastDevice(Struct, kw_only=True, frozen=True):
    """The device that was counted for."""

    type: str
    name: str
    memory_bytes: int | None


class BudgetFields(Struct, kw_only=True, frozen=True):
    """The device and its free memory; ``device_problem``: why no run can start on it."""

    device: ForecastDevice
    free_bytes: int | None
    free_is: str
    device_problem: str | None


class MemoryFields(Struct, kw_only=True, frozen=True):
    """Memory by part, at the worst moment; ``problem`` in place of the sizes where it is not known.
    ``spare_bytes``: what stays free."""

    parts: dict[str, int] | None
    total_bytes: int | UnsetType = UNSET
    low_bytes: int | UnsetType = UNSET
    high_bytes: int | UnsetType = UNSET
    problem: str | UnsetType = UNSET
    moment: str | None
    probe: Probe | None
    verdict: str
    spare_bytes: int | None


class CostFigures(Struct, kw_only=True, frozen=True):
    """Time, speed, energy and money; ``problem`` alone where they are not known."""

    problem: str | UnsetType = UNSET
    tokens: float | UnsetType = UNSET
    tokens_basis: str | UnsetType = UNSET
    hours: EstimateRange | UnsetType | None = UNSET
    tok_per_s: EstimateRange | UnsetType | None = UNSET
    mfu: EstimateRange | UnsetType | None = UNSET
    kwh: EstimateRange | UnsetType | None = UNSET
    co2_kg: EstimateRange | UnsetType | None = UNSET
    money: EstimateRange | UnsetType | None = UNSET
    currency: str | UnsetType = UNSET
    assumed: bool | UnsetType = UNSET
    basis: str | UnsetType = UNSET
    flops_per_token: float | UnsetType = UNSET
    formula: str | UnsetType = UNSET
    notes: tuple[str, ...] | UnsetType = UNSET


class RemedyRow(Struct, kw_only=True, frozen=True):
    """A change of the recipe that makes it fit; ``sure``: up to the upper bound."""

    changes: dict[str, object]
    text: str
    cost: str
    sure: bool
    spare_bytes: int
    total_bytes: int
    high_bytes: int


class PlaygroundMemory(Struct, kw_only=True, frozen=True):
    """The memory of the playground for ``lanes`` lanes of ``tokens`` tokens."""

    parts: dict[str, int]
    total_bytes: int
    low_bytes: int
    high_bytes: int
    lanes: int
    tokens: int


class RunForecast(MemoryFields, kw_only=True, frozen=True):
    """The forecast of ``tui-lab train``. ``fill_card``: how the rows of a step are divided, and why."""

    device: ForecastDevice
    free_bytes: int | None
    free_is: str
    device_problem: str | None
    cost: CostFigures
    fill_card: list[ResolvedChoice]
    remedies: list[RemedyRow]


class ForecastAnswer(MemoryFields, tag_field="kind", tag="forecast", kw_only=True, frozen=True):
    """The forecast of one recipe. ``largest``: the largest batch and length that fit."""

    v: int = 1
    model: str
    preset: str
    device: ForecastDevice
    free_bytes: int | None
    free_is: str
    device_problem: str | None
    cost: CostFigures
    remedies: list[RemedyRow]
    largest: LargestFit | None
    playground: PlaygroundMemory | None
    warnings: list[str]


class CardCosts(Answer, tag="card_costs", kw_only=True, frozen=True):
    """A recipe on every card of the user's table of prices, ``file``."""

    model: str
    preset: str
    file: str
    items: list[CardCost]
    problems: list[str]


class PresetForecast(Struct, kw_only=True, frozen=True):
    """The forecast with one preset, or why it is ``refused``."""

    preset: str
    refused: str | UnsetType = UNSET
    parts: dict[str, int] | UnsetType | None = UNSET
    total_bytes: int | UnsetType = UNSET
    low_bytes: int | UnsetType = UNSET
    high_bytes: int | UnsetType = UNSET
    problem: str | UnsetType = UNSET
    moment: str | UnsetType | None = UNSET
    probe: Probe | UnsetType | None = UNSET
    verdict: str | UnsetType = UNSET
    spare_bytes: int | UnsetType | None = UNSET
    hours_per_1m_tokens: EstimateRange | UnsetType | None = UNSET


class ForecastTable(Answer, tag="forecast_table", kw_only=True, frozen=True):
    """The forecast with every preset (under ``presets`` too, as in earlier versions)."""

    model: str
    device: ForecastDevice
    free_bytes: int | None
    free_is: str
    device_problem: str | None
    items: list[PresetForecast]
    presets: list[PresetForecast]


def budget_fields(budget: MemoryBudget) -> BudgetFields:
    device = budget.device
    return BudgetFields(
        device=ForecastDevice(type=device.type, name=device.name, memory_bytes=device.memory_bytes),
        free_bytes=budget.free_bytes,
        free_is=f"{budget.basis} {budget.label}",
        device_problem=budget.problem or None,
    )


def memory_fields(found: RunEstimate) -> MemoryFields:
    memory = found.memory
    needed, free = found.needed_bytes, found.budget.free_bytes
    return MemoryFields(
        parts=_parts(memory) if memory else None,
        total_bytes=memory.total_bytes if memory else UNSET,
        low_bytes=memory.low_bytes if memory else UNSET,
        high_bytes=memory.high_bytes if memory else UNSET,
        problem=UNSET if memory else found.problem,
        moment=memory.moment if memory else None,
        probe=found.probe,
        verdict=found.verdict,
        spare_bytes=None if needed is None or free is None else free - needed,
    )


def _parts(memory: MemoryForecast) -> dict[str, int]:
    return {part.name: part.bytes for part in memory.parts}


def cost_figures(cost: Cost | None, problem: str) -> CostFigures:
    if cost is None:
        return CostFigures(problem=problem)
    names = [name for name in CostFigures.__struct_fields__ if name != "problem"]
    return CostFigures(**{name: getattr(cost, name) for name in names})


def remedy_rows(remedies: Sequence[Remedy]) -> list[RemedyRow]:
    return [
        RemedyRow(
            changes=remedy.changes,
            text=remedy.text,
            cost=remedy.cost,
            sure=remedy.sure,
            spare_bytes=remedy.spare_bytes,
            total_bytes=remedy.forecast.total_bytes,
            high_bytes=remedy.forecast.high_bytes,
        )
        for remedy in remedies
    ]


def playground_memory(memory: MemoryForecast | None, lanes: int, tokens: int) -> PlaygroundMemory | None:
    if memory is None:
        return None
    return PlaygroundMemory(
        parts=_parts(memory),
        total_bytes=memory.total_bytes,
        low_bytes=memory.low_bytes,
        high_bytes=memory.high_bytes,
        lanes=lanes,
        tokens=tokens,
    )


def run_forecast_answer(found: RunEstimate, remedies: Sequence[Remedy]) -> RunForecast:
    """The forecast that ``tui-lab train --dry-run`` prints."""
    return RunForecast(
        **asdict(budget_fields(found.budget)),
        **asdict(memory_fields(found)),
        cost=cost_figures(found.cost, found.cost_problem),
        fill_card=list(found.filled.choices) if found.filled else [],
        remedies=remedy_rows(remedies),
    )
