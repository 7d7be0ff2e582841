"""Samples the GPUs and the process of a run in a thread, once a second, and writes one ``telemetry`` event
every few seconds and at the end. A driver that hangs or fails costs figures; it never delays the training.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from tui_lab.hardware import cuda_memory
from tui_lab.hardware.device import DeviceFacts
from tui_lab.hardware.gpu import Gpu, GpuMonitor, ProcessSampler
from tui_lab.hardware.telemetry import EnergyMeter, TelemetryWindow, match_uuids, memory_shares
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import TelemetryEvent, WarningEvent

#: Seconds between two samples, and between two events.
INTERVAL_S = 1.0
RECORD_S = 5.0
#: Seconds that the end of a run waits for a sample in progress: a hanging driver may take minutes.
PATIENCE_S = 1.0


class TelemetrySampler:
    """The sampling thread of a run. :meth:`stop` may be called more than once."""

    def __init__(
        self,
        events: EventWriter,
        step: Callable[[], int],
        energy_before_j: float | None = 0.0,
        interval_s: float = INTERVAL_S,
        record_s: float = RECORD_S,
    ) -> None:
        """``step`` returns the current step; ``energy_before_j``: drawn by earlier attempts, None when
        unknown."""
        self._events, self._step = events, step
        self._interval_s, self._record_s = interval_s, record_s
        self._energy = EnergyMeter(energy_before_j)
        self._window = TelemetryWindow()
        # guards the window and the last event; never held during a call to the driver
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._closed = False
        self._warned = False
        self._cuda = False
        self._watch: GpuMonitor | None = None
        self._thread: threading.Thread | None = None
        self._recorded_s = 0.0
        #: Energy of the run until the last event, earlier attempts included; None where it is not metered.
        self.energy_j: float | None = None

    def start(self, device: DeviceFacts) -> None:
        """Starts sampling; GPUs only where the run computes on them."""
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._watch = GpuMonitor(lambda cards: match_uuids(cards, cuda_memory.cuda_uuids(), os.environ))
        self._recorded_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Writes the last event and ends the thread; nothing is written after it."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(PATIENCE_S)
        with self._lock:
            # a full disk must not hide the run's own error; writing the end fails as well
            with contextlib.suppress(OSError):
                self._write_record()
            self._closed = True

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            process = ProcessSampler()
            process.sample()  # CPU time is counted from here
            due = time.monotonic()
            while not self._closed:
                due = max(due + self._interval_s, time.monotonic())  # a late sample is not repeated
                last = self._stop.wait(due - time.monotonic())
                records = time.monotonic() - self._recorded_s >= self._record_s - self._interval_s / 2
                self._sample(process, pcie=records and not last)
                if last:
                    return
                if records:
                    with self._lock:
                        self._write_record()
        except OSError:
            return  # the disk is full or the folder is gone: the run itself fails of it
        except Exception:  # noqa: BLE001 - a fault here must not end a training; worker.log has the traceback
            traceback.print_exc()

    def _sample(self, process: ProcessSampler, pcie: bool) -> None:
        cards: Sequence[Gpu] = self._watch.read(pcie) if self._watch is not None else ()
        reserved = cuda_memory.reserved_bytes() if self._cuda else []
        owned = [
            memory_shares(card, (os.getpid(),), reserved[i] if i < len(reserved) else None)
            for i, card in enumerate(cards)
        ]
        use = process.sample()
        problem = self._watch.problem if self._watch is not None else ""
        with self._lock:
            if self._closed:
                return  # the run did not wait for this sample
            self._energy.add(cards, time.monotonic())
            self._window.add(cards, owned, use)
            if problem and not self._warned:
                self._warned = True
                self._events.write(
                    WarningEvent(text=f"GPU telemetry pauses: {problem}; it goes on when the driver answers")
                )

    def _write_record(self) -> None:
        if self._closed or self._window.empty:
            return
        now = time.monotonic()
        seconds, self._recorded_s = now - self._recorded_s, now
        energy = self.energy_j = self._energy.total_j(now)
        gpus, process = self._window.flush()
        self._events.write(
            TelemetryEvent(
                step=self._step(),
                gpus=gpus,
                process=process,
                energy_j=None if energy is None else round(energy, 1),
                seconds=round(seconds, 2),
            )
        )
