"""Time, money, energy and MFU of a run as text: one line while it runs, and the full account with its
formula. The line omits what is unknown; the account says that it is unknown, and why."""

from __future__ import annotations

from tui_lab.core.errors import LabError
from tui_lab.core.format import carbon, count, duration, energy, money
from tui_lab.forecast import cost
from tui_lab.forecast.cost import Prices
from tui_lab.runs.cost_so_far import CostSoFar, cost_so_far, describe
from tui_lab.runs.state import ENDED, RunState
from tui_lab.ui.views.spans import TextSpan, labelled


def tariff_or_problem() -> tuple[Prices, str]:
    """(prices, problem): the prices from the settings; the defaults and a sentence when they cannot be
    read."""
    try:
        return cost.prices(), ""
    except LabError as error:
        return Prices(), str(error)


def line(state: RunState, status: str, now: float | None = None) -> str:
    """Money, energy and MFU in one line; "" when all are unknown."""
    tariff, _ = tariff_or_problem()
    return describe(cost_so_far(state, status, tariff, now), tariff, status in ENDED)


def about(state: RunState, status: str, now: float | None = None) -> list[TextSpan]:
    """The account of a run for the About tab; empty before the run began."""
    tariff, problem = tariff_or_problem()
    found, ended = cost_so_far(state, status, tariff, now), status in ENDED
    if found.seconds is None:
        return []
    # while it runs, what changes from step to step stands at the top of the pane
    lines = {"time": f"{duration(found.seconds)} of processes at work"} if ended else {}
    if problem:
        lines["!"] = problem
    if found.money is not None:
        lines["money"] = f"{money(tariff.per_hour or 0.0, tariff.currency)} an hour"
        if ended:
            lines["money"] = f"{money(found.money, tariff.currency)} at {lines['money']}"
    if found.energy_j is not None:
        grid = f"{tariff.g_co2_per_kwh:g} g a kWh ({tariff.grid_source})"
        drawn = f"{energy(found.energy_j)}, {carbon(found.co2_kg or 0.0)}: " if ended else ""
        lines["energy"] = f"{drawn}the GPU's own meter, CO₂ at {grid}"
    else:
        lines["energy"] = "not known: it was not measured (no NVIDIA GPU, or its driver does not report it)"
    if found.formula:
        lines["work"] = found.formula
    if found.flops_s is not None:
        lines["speed"] = _speed(found, ended)
    return [part for label, text in lines.items() for part in labelled(label, text)]


def _speed(found: CostSoFar, ended: bool) -> str:
    """MFU with what it is made of; without a rate to compare with, what was reached."""
    if found.mfu is None or not found.peak_flops:
        why = found.peak_of or "the rate of this device is not known"
        return f"MFU not given: {why}" if not ended else f"{_flops(found.flops_s)}; MFU not given: {why}"
    rate = f"{_flops(found.peak_flops)} ({found.peak_of})"
    if not ended:
        return f"MFU = tok/s × FLOP a token / {rate}"
    return f"MFU {found.mfu:.1%} = tok/s × FLOP a token / {rate}"


def _flops(flops_s: float | None) -> str:
    number, _, unit = count((flops_s or 0.0) / 1e3).partition(" ")
    return f"{number} {({'B': 'T', 'M': 'G', 'k': 'M'}).get(unit, 'k')}FLOP/s"
