"""The sampler of a run: a thread that looks each second at the GPUs that the run computes on and at the
process itself, and writes one ``telemetry`` event every few seconds and at the end. It may never hold up
the run: a driver that hangs or goes away costs figures, not the training.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch

from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import Gpu, GpuMonitor, ProcessSampler
from tui_lab.hardware.telemetry import EnergyMeter, TelemetryWindow, match_uuids, memory_shares
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import GpuRecord, ProcessRecord, TelemetryEvent, WarningEvent

#: Seconds between two looks, and between two records in the log.
INTERVAL_S = 1.0
RECORD_S = 5.0
#: Seconds that the end of a run waits for a look in progress: a hanging driver may take minutes.
PATIENCE_S = 1.0


class TelemetrySampler:
    """See the module's docstring. :meth:`start` and :meth:`stop` are the run's; stopping twice is fine."""

    def __init__(
        self,
        events: EventWriter,
        step: Callable[[], int],
        energy_before_j: float | None = 0.0,
        interval_s: float = INTERVAL_S,
        record_s: float = RECORD_S,
    ) -> None:
        """``step``: the step in hand; ``energy_before_j``: drawn by earlier attempts, None when unknown."""
        self._events, self._step = events, step
        self._interval_s, self._record_s = interval_s, record_s
        self._energy = EnergyMeter(energy_before_j)
        self._window = TelemetryWindow()
        self._lock = threading.Lock()  # of the window and the log's last record; never held while asking
        self._stop = threading.Event()
        self._closed = False
        self._told = False
        self._cuda = False
        self._watch: GpuMonitor | None = None
        self._thread: threading.Thread | None = None
        self._recorded_s = 0.0
        #: Drawn by the run until the last record, earlier attempts included; None where nothing tells.
        self.energy_j: float | None = None

    def start(self, device: DeviceFacts) -> None:
        """Begins to look, at the GPUs only where the run computes on them."""
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._watch = GpuMonitor(lambda cards: match_uuids(cards, _uuids(), os.environ))
        self._recorded_s = time.monotonic()
        self._thread = threading.Thread(target=self._look_on, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Writes the last record and ends; nothing is written after it."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(PATIENCE_S)
        with self._lock:
            # a full disk must not hide what the run fails of; the end of the run meets it too
            with contextlib.suppress(OSError):
                self._write_record()
            self._closed = True

    # ------------------------------------------------------------------ the thread

    def _look_on(self) -> None:
        try:
            process = ProcessSampler()
            process.sample()  # CPU is counted from here
            due = time.monotonic()
            while not self._closed:
                due = max(due + self._interval_s, time.monotonic())  # a late look is not made up for
                last = self._stop.wait(due - time.monotonic())
                records = time.monotonic() - self._recorded_s >= self._record_s - self._interval_s / 2
                self._look(process, pcie=records and not last)
                if last:
                    return
                if records:
                    with self._lock:
                        self._write_record()
        except OSError:
            return  # the disk is full or the folder gone: the run itself finds out
        except Exception:  # a fault of ours must not end a training; worker.log has the details
            traceback.print_exc()

    def _look(self, process: ProcessSampler, pcie: bool) -> None:
        cards: Sequence[Gpu] = self._watch.read(pcie) if self._watch is not None else ()
        held = _held_bytes() if self._cuda else []
        owned = [
            memory_shares(card, (os.getpid(),), held[i] if i < len(held) else None)
            for i, card in enumerate(cards)
        ]
        use = process.sample()
        problem = self._watch.problem if self._watch is not None else ""
        with self._lock:
            if self._closed:
                return  # the run did not wait for this look
            self._energy.add(cards, time.monotonic())
            self._window.add(cards, owned, use)
            if problem and not self._told:
                self._told = True
                self._events.write(
                    WarningEvent(text=f"GPU telemetry pauses: {problem}; it goes on when the driver answers")
                )

    def _write_record(self) -> None:
        if self._closed or self._window.empty:
            return
        now = time.monotonic()
        seconds, self._recorded_s = now - self._recorded_s, now
        energy = self.energy_j = self._energy.total_j(now)
        window = self._window.flush()
        self._events.write(
            TelemetryEvent(
                step=self._step(),
                gpus=msgspec.convert(window["gpus"], list[GpuRecord]),
                process=msgspec.convert(window["process"], ProcessRecord),
                energy_j=None if energy is None else round(energy, 1),
                seconds=round(seconds, 2),
            )
        )


def _uuids() -> list[str]:
    """The UUIDs of the devices that CUDA shows this process, in CUDA's order; "" where it names none."""
    properties: list[Any] = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [str(getattr(one, "uuid", "")) for one in properties]


def _held_bytes() -> list[int | None]:
    """What torch holds on each device by its own account; None for all before it touched any."""
    count = torch.cuda.device_count()
    if not torch.cuda.is_initialized():
        return [None] * count
    return [torch.cuda.memory_reserved(i) for i in range(count)]
