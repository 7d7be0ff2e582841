"""What a run's telemetry says, reduced to what is drawn: the newest figures of each GPU and of the process,
and bounded tracks of them by step. A log holds a record every few seconds for days: a track that grows
too long is thinned to half, so that neither memory nor drawing grows with the run.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core.format import as_float

#: Points kept of a track; a plot has fewer columns than that by far.
POINTS_KEPT = 4_000
#: GPUs that are told apart; more than any machine has.
GPUS_KEPT = 64


@dataclass
class Track:
    """Values by step. Of several at one step, and when thinned, the highest is kept where ``highest``, else
    the newest; NaN is a gap."""

    highest: bool = False
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        self.cut(step)
        if self.steps and self.steps[-1] == step:
            self.values[-1] = self._of(self.values[-1], value)
        else:
            self.steps.append(step)
            self.values.append(value)
        if len(self.steps) > POINTS_KEPT:
            self._thin()

    def _of(self, first: float, second: float) -> float:
        if math.isnan(first) or math.isnan(second):
            return second if math.isnan(first) else first
        return max(first, second) if self.highest else second

    def _thin(self) -> None:
        values = self.values
        self.values = [self._of(values[i], values[i + 1]) for i in range(0, len(values) - 1, 2)]
        if len(values) % 2:
            self.values.append(values[-1])
        self.steps = self.steps[1::2] + self.steps[-1:] * (len(values) % 2)

    def cut(self, last_step: int) -> None:
        """Drops everything after ``last_step``."""
        keep = bisect_right(self.steps, last_step)
        del self.steps[keep:], self.values[keep:]

    @property
    def last(self) -> float:
        return self.values[-1] if self.values else math.nan

    @property
    def peak(self) -> float:
        """The highest value; NaN when there is none."""
        return max((value for value in self.values if math.isfinite(value)), default=math.nan)


@dataclass
class GpuTelemetry:
    """One GPU: its newest record as the log has it, and tracks."""

    now: dict[str, Any] = field(default_factory=dict)
    answers: bool = True  # whether the newest record has it: a driver may go away
    used: Track = field(default_factory=lambda: Track(highest=True))
    others: Track = field(default_factory=lambda: Track(highest=True))
    power_w: Track = field(default_factory=Track)
    utilization: Track = field(default_factory=Track)
    temperature_c: Track = field(default_factory=lambda: Track(highest=True))

    def tracks(self) -> dict[str, Track]:
        """The field of a record that each track follows."""
        return {
            "used_bytes": self.used,
            "others_bytes": self.others,
            "power_w": self.power_w,
            "utilization_percent": self.utilization,
            "temperature_c": self.temperature_c,
        }

    @property
    def throttle(self) -> list[str]:
        """Why it runs below its clocks now; empty when it does not, or nobody knows."""
        reasons = self.now.get("throttle")
        return [str(reason) for reason in reasons] if isinstance(reasons, list) else []


class Telemetry:
    """The telemetry of one run. Feed it with :meth:`add`."""

    def __init__(self) -> None:
        self.gpus: dict[str, GpuTelemetry] = {}
        self.resident = Track(highest=True)
        self.cpu_percent = Track()
        self.records = 0
        self.energy_j: float | None = None
        self.seconds = 0.0  # covered by records

    def add(self, event: dict[str, Any]) -> None:
        """One ``telemetry`` event. Raises on a malformed one, before anything is taken of it."""
        step, process = int(event["step"]), dict(event.get("process") or {})
        gpus = [dict(gpu) for gpu in event.get("gpus") or []]
        seconds = as_float(event.get("seconds"))
        self.resident.add(step, as_float(process.get("resident_bytes")))
        self.cpu_percent.add(step, as_float(process.get("cpu_percent")))
        for known in self.gpus.values():
            known.answers = False
        for gpu in gpus:
            key = str(gpu.get("uuid") or gpu.get("index"))
            if key not in self.gpus and len(self.gpus) >= GPUS_KEPT:
                continue
            known = self.gpus.setdefault(key, GpuTelemetry())
            known.now, known.answers = gpu, True
            for name, track in known.tracks().items():
                track.add(step, as_float(gpu.get(name)))
        for known in self.gpus.values():
            if not known.answers:
                known.used.add(step, math.nan)  # a gap in the plot
        energy = as_float(event.get("energy_j"))
        self.energy_j = energy if math.isfinite(energy) else None
        self.seconds += seconds if math.isfinite(seconds) else 0.0
        self.records += 1

    def cut(self, last_step: int) -> None:
        """Drops what belongs to an attempt that died. What it drew in energy stays drawn."""
        tracks = [self.resident, self.cpu_percent]
        tracks += [track for gpu in self.gpus.values() for track in gpu.tracks().values()]
        for track in tracks:
            track.cut(last_step)

    @property
    def energy_so_far_j(self) -> float | None:
        """What a further attempt adds to: nothing before the first record, None when it is not known."""
        return self.energy_j if self.records else 0.0
