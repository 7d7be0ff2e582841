"""The cost of a run so far and at its end: time, money, energy and MFU. Computed from the run's log alone, so
that live runs, finished runs and replays agree; unknown values are None.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import median

from tui_lab.core.format import carbon, energy, finite, money
from tui_lab.forecast import cost
from tui_lab.forecast.cost import Prices
from tui_lab.runs.event_parts import CostFacts
from tui_lab.runs.state import ENDED, RunState

#: The current speed is the median of this many steps.
RECENT_STEPS = 8
#: Maximum interval of telemetry records while the process is alive, seconds.
RECORD_GAP_S = 15.0


@dataclass(frozen=True)
class CostSoFar:
    """``seconds``: the time during which a process of the run was alive, over all attempts. ``…_in_all``: the
    estimate for the whole run, None before steps were timed. Energy in joules; ``flops_s``: model FLOP/s."""

    seconds: float | None
    seconds_in_all: float | None
    energy_j: float | None
    energy_in_all_j: float | None
    money: float | None
    money_in_all: float | None
    co2_kg: float | None
    tok_per_s: float | None
    flops_s: float | None
    mfu: float | None
    flops_per_token: float | None
    formula: str
    peak_flops: float | None
    peak_of: str


def cost_so_far(
    state: RunState, status: str, tariff: Prices | None = None, now: float | None = None
) -> CostSoFar:
    """The cost of a run with this state and status. ``now``: seconds since 1970; ``tariff``: by default from
    the settings. Raises LabError for an invalid setting."""
    tariff = cost.prices() if tariff is None else tariff
    ended = status in ENDED
    seconds = _active_s(state, ended, time.time() if now is None else now)
    eta = 0.0 if ended else finite(state.eta_s)
    in_all = None if seconds is None or eta is None else seconds + eta
    energy = finite(state.end.energy_j) if ended and state.end else None
    energy = energy if energy is not None else state.telemetry.energy_j
    covered = state.telemetry.seconds
    energy_in_all = None
    if energy is not None and in_all is not None:
        energy_in_all = energy if ended else energy + energy / covered * (eta or 0.0) if covered else None
    planned = state.plan.cost if state.plan else CostFacts()
    speed, flops, peak = _speed(state), finite(planned.flops_per_token), finite(planned.peak_flops)
    final = finite(state.end.mfu) if ended and state.end else None
    reached = final if final is not None else cost.mfu(speed, flops, peak) if speed and flops else None
    hour = None if tariff.per_hour is None else tariff.per_hour / 3600
    return CostSoFar(
        seconds=seconds,
        seconds_in_all=in_all,
        energy_j=energy,
        energy_in_all_j=energy_in_all,
        money=None if hour is None or seconds is None else seconds * hour,
        money_in_all=None if hour is None or in_all is None else in_all * hour,
        co2_kg=None if energy is None else cost.co2_kg(energy, tariff),
        tok_per_s=speed,
        flops_s=speed * flops if speed and flops else None,
        mfu=reached,
        flops_per_token=flops,
        formula=planned.formula,
        peak_flops=peak,
        peak_of=planned.peak_of,
    )


def _active_s(state: RunState, ended: bool, now: float) -> float | None:
    """The time that telemetry covers plus the time since its last record; without telemetry, the duration in
    the end event, or the time since the start."""
    if state.telemetry.records:
        since = 0.0 if ended else min(max(0.0, now - state.updated_at), RECORD_GAP_S)
        return state.telemetry.seconds + since
    if ended and state.end and (total := finite(state.end.seconds)) is not None:
        return total
    if not state.started_at:
        return None
    return max(0.0, (state.updated_at if ended else now) - state.started_at)


def _speed(state: RunState) -> float | None:
    recent = [value for value in state.tok_per_s.values[-RECENT_STEPS:] if math.isfinite(value)]
    return median(recent) if recent else None


# --------------------------------------------------------------------------------------------------
# as text


def _of(so_far: str, in_all: str | None, ended: bool) -> str:
    return so_far if ended or in_all is None else f"{so_far} of about {in_all}"


def describe(found: CostSoFar, tariff: Prices, ended: bool) -> str:
    """Money, energy and MFU in one line, as far as they are known."""
    parts = []
    if found.money is not None:
        in_all = None if found.money_in_all is None else money(found.money_in_all, tariff.currency)
        parts.append(_of(money(found.money, tariff.currency), in_all, ended))
    if found.energy_j is not None and found.co2_kg is not None:
        in_all = None if found.energy_in_all_j is None else energy(found.energy_in_all_j)
        parts.append(f"{_of(energy(found.energy_j), in_all, ended)}, {carbon(found.co2_kg)}")
    if found.mfu is not None:
        parts.append(f"MFU {found.mfu:.1%}")
    return " · ".join(parts)
