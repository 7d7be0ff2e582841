"""The telemetry of a run, reduced to what is drawn: the newest figures of each GPU and of the process, and
bounded tracks of them by step. A track that grows too long is thinned to half, so that neither memory nor
drawing time grows with the length of the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tui_lab.core.format import as_float
from tui_lab.hardware.telemetry import GpuRecord
from tui_lab.runs.curves import Track
from tui_lab.runs.schema import TelemetryEvent

#: GPUs of a run at most; no machine has more.
MOST_GPUS = 64


@dataclass
class GpuTelemetry:
    """One GPU: its newest record, and tracks. ``answers``: whether the newest telemetry has it, since a
    driver may go away."""

    now: GpuRecord = field(default_factory=GpuRecord)
    answers: bool = True
    used: Track = field(default_factory=lambda: Track(highest=True))
    others: Track = field(default_factory=lambda: Track(highest=True))
    power_w: Track = field(default_factory=Track)
    utilization: Track = field(default_factory=Track)
    temperature_c: Track = field(default_factory=lambda: Track(highest=True))

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All of them."""
        return self.used, self.others, self.power_w, self.utilization, self.temperature_c

    def add(self, step: int, record: GpuRecord) -> None:
        """Takes the GPU's record of a telemetry event."""
        self.now, self.answers = record, True
        self.used.add(step, as_float(record.used_bytes))
        self.others.add(step, as_float(record.others_bytes))
        self.power_w.add(step, as_float(record.power_w))
        self.utilization.add(step, as_float(record.utilization_percent))
        self.temperature_c.add(step, as_float(record.temperature_c))


class Telemetry:
    """The telemetry of one run. ``seconds``: the time that its records cover."""

    def __init__(self) -> None:
        self.gpus: dict[str, GpuTelemetry] = {}
        self.resident = Track(highest=True)
        self.cpu_percent = Track()
        self.records = 0
        self.energy_j: float | None = None
        self.seconds = 0.0

    def add(self, event: TelemetryEvent) -> None:
        """Takes one event."""
        step = event.step
        self.resident.add(step, as_float(event.process.resident_bytes))
        self.cpu_percent.add(step, as_float(event.process.cpu_percent))
        for known in self.gpus.values():
            known.answers = False
        for gpu in event.gpus:
            key = gpu.uuid or str(gpu.index)
            if key in self.gpus or len(self.gpus) < MOST_GPUS:
                self.gpus.setdefault(key, GpuTelemetry()).add(step, gpu)
        for known in self.gpus.values():
            if not known.answers:
                known.used.add(step, math.nan)  # a gap in the plot
        energy, seconds = as_float(event.energy_j), as_float(event.seconds)
        self.energy_j = energy if math.isfinite(energy) else None
        self.seconds += seconds if math.isfinite(seconds) else 0.0
        self.records += 1

    def cut(self, last_step: int) -> None:
        """Drops the tracks after ``last_step``, which a new attempt supersedes. Energy and time stay."""
        for track in [
            self.resident,
            self.cpu_percent,
            *(t for gpu in self.gpus.values() for t in gpu.tracks),
        ]:
            track.cut(last_step)

    @property
    def energy_so_far_j(self) -> float | None:
        """What a further attempt adds to: 0 before the first record, None when it is not known."""
        return self.energy_j if self.records else 0.0
