"""The hardware of a run as text: GPU memory by owner, activity, throttling, and the memory forecast next to
the measured peak. Functions of the run's state; as many pieces per line as fit, the most important first.
Texts from a log are sanitized here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tui_lab.core.format import as_float, size
from tui_lab.core.sanitize import sanitize
from tui_lab.hardware.telemetry import GpuRecord
from tui_lab.runs.state import ENDED, RunState
from tui_lab.runs.telemetry import GpuTelemetry
from tui_lab.ui.views.spans import TextSpan, cut, fitting, labelled

#: Less memory of other processes than this belongs to the driver.
OTHERS_FROM_BYTES = 64 << 20
SEPARATOR = " · "
#: Memory readings of a step that measure the run itself, the nearest to its peak first.
OWN_PEAKS = ("cuda_peak", "cuda_reserved", "cuda_allocated", "resident")


def _joined(pieces: Sequence[str], width: int) -> str:
    return SEPARATOR.join(fitting(pieces, width, SEPARATOR))


def machine_lines(state: RunState, status: str, width: int, most: int) -> list[TextSpan]:
    """At most ``most`` lines of (text, role) below the memory plot."""
    telemetry = state.telemetry
    if not telemetry.records:
        return []
    gpus = list(telemetry.gpus.values())
    ended = status in ENDED
    if not gpus:
        return _without_gpu(state, ended, width)[:most]
    many = len(gpus) > 1
    lines: list[TextSpan] = []
    # throttling before activity; each line for all GPUs
    for part in (_memory_line, _slowed_line, _activity_line):
        lines += [line for gpu in gpus if (line := part(gpu, many, width))[0]]
    if ended and lines:
        text, role = lines[0]
        lines[0] = (cut(f"at the end: {text}", width), role)
    return lines[:most]


def _without_gpu(state: RunState, ended: bool, width: int) -> list[TextSpan]:
    telemetry = state.telemetry
    when = "no GPU; at the end" if ended else "no GPU"
    resident, cpu = telemetry.resident.last, telemetry.cpu_percent.last
    pieces = [f"{when}: resident memory {size(resident)}"] if math.isfinite(resident) else [when]
    if math.isfinite(cpu):
        pieces.append(f"CPU {cpu:.0f}% (100 is one core)")
    return [(cut(_joined(pieces, width), width), "axis")]


def _named(gpu: GpuTelemetry, many: bool) -> str:
    return f"GPU {'?' if gpu.now.index is None else str(gpu.now.index)[:4]} " if many else ""


def others_text(gpu: GpuTelemetry) -> str:
    """The GPU memory of other processes; "" when they hold none."""
    others = as_float(gpu.now.others_bytes)
    if math.isfinite(others):
        return f"other processes hold {size(others)}" if others >= OTHERS_FROM_BYTES else ""
    return "others' share unknown" if math.isfinite(as_float(gpu.now.used_bytes)) else ""


def _memory_line(gpu: GpuTelemetry, many: bool, width: int) -> TextSpan:
    if not gpu.answers:
        return (cut(f"{_named(gpu, many)}the GPU does not answer any more", width), "state-paused")
    now = gpu.now
    used, total, own = as_float(now.used_bytes), as_float(now.total_bytes), as_float(now.own_bytes)
    others = others_text(gpu)
    pieces = [others]
    if math.isfinite(own):
        pieces.append(f"this run {size(own)}")
    if math.isfinite(used) and math.isfinite(total):
        pieces.append(f"{size(max(0.0, total - used))} of {size(total)} free")
    elif math.isfinite(used):
        pieces.append(f"{size(used)} in use")
    name = _named(gpu, many)
    line = _joined(pieces, width - len(name))
    if len(name) + len(line) > width:
        line = line.replace("other processes hold", "others hold")
    role = "state-paused" if others.startswith("other") and "hold" in others else ""
    return (cut(f"{name}{line}", width) if line else "", role)


def _slowed_line(gpu: GpuTelemetry, many: bool, width: int) -> TextSpan:
    reasons = [sanitize(reason) for reason in gpu.now.throttle[:4]] if gpu.answers else []
    if not reasons:
        return ("", "")
    return (cut(f"{_named(gpu, many)}slowed down by {', '.join(reasons)}", width), "state-paused")


def _activity_line(gpu: GpuTelemetry, many: bool, width: int) -> TextSpan:
    name = _named(gpu, many)
    if not gpu.answers:
        return ("", "")
    return (cut(f"{name}{_joined(activity(gpu.now), width - len(name))}", width), "axis")


def activity(now: GpuRecord) -> list[str]:
    """Utilization, temperature, power, clocks and PCIe traffic, as far as the driver reports them."""

    def whole(measured: float | None, unit: str) -> str:
        value = as_float(measured)
        return f"{value:.0f}{unit}" if math.isfinite(value) else ""

    busy = whole(now.utilization_percent, "% busy")
    if not busy and now.mig:
        busy = "a slice: heat and power are the card's"
    clock, most = as_float(now.clock_mhz), as_float(now.clock_max_mhz)
    clocks = f"{clock:.0f}" if math.isfinite(clock) else ""
    if clocks:
        clocks += f" of {most:.0f} MHz" if math.isfinite(most) else " MHz"
    moved = [as_float(now.pcie_rx_bytes_s), as_float(now.pcie_tx_bytes_s)]
    pcie = f"PCIe in {size(moved[0])}/s, out {size(moved[1])}/s" if all(map(math.isfinite, moved)) else ""
    return [busy, whole(now.temperature_c, " °C"), whole(now.power_w, " W"), clocks, pcie]


def forecast_text(state: RunState) -> str:
    """The forecast of peak memory next to the measured peak; "" without a forecast."""
    forecast = state.forecast
    if forecast is None or not math.isfinite(forecast.total):
        return ""
    total, low, high = forecast.total, as_float(forecast.low), as_float(forecast.high)
    span = f" ({size(low)} to {size(high)})" if math.isfinite(low) and math.isfinite(high) else ""
    peaks = state.peak_memory
    label = next((label for label in OWN_PEAKS if label in peaks), "")
    taken = f", highest so far {size(peaks[label])}" if label else ""
    return f"{size(total)}{span}{taken}"


def about_machine(state: RunState) -> list[TextSpan]:
    """All telemetry, one value per line, for the About tab."""
    parts = labelled("forecast", forecast_text(state))
    telemetry = state.telemetry
    for gpu in telemetry.gpus.values():
        name = sanitize(gpu.now.name or "GPU")
        memory, role = _memory_line(gpu, False, 1_000)
        doing = SEPARATOR.join(filter(None, activity(gpu.now)))
        slowed = _slowed_line(gpu, False, 1_000)[0].removeprefix("slowed down by ")
        parts += labelled(f"{_named(gpu, len(telemetry.gpus) > 1)}{name}", doing if gpu.answers else "")
        parts += labelled("GPU memory", memory, role)
        if math.isfinite(peak := gpu.used.peak):
            parts += labelled("GPU memory", f"at most {size(peak)} in use, by all")
        parts += labelled("slowed down by", slowed, "state-paused")
    if telemetry.records:
        resident, cpu = telemetry.resident, telemetry.cpu_percent.last
        memory = f"resident memory {size(resident.last)}, at most {size(resident.peak)}"
        load = f"; CPU {cpu:.0f}% (100 is one core)" if math.isfinite(cpu) else ""
        parts += labelled("process", memory + load)
    return parts
