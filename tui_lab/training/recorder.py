"""Writes the Trainer's progress as events: steps with their speed and memory, validations, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_lab.hardware.device import DeviceFacts
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import CheckpointEvent, StepEvent, ValidationEvent, WarningEvent
from tui_lab.training.device import CudaPeaks, memory_bytes, peak_resident_bytes, synchronize
from tui_lab.training.distributed import ProcessGroup

#: Weight of the past in the average step time that the ETA is made of.
STEP_TIME_MEMORY = 0.9
#: Prefix of the names of loss terms in the Trainer's logs.
PART = "part "


class EventRecorder(TrainerCallback):
    """Step times cover the steps alone; work between them (validation, samples, checkpoints) is timed
    separately and counts in the ETA at its measured share, pauses do not. Tokens are those trained on,
    without padding."""

    def __init__(self, events: EventWriter, group: ProcessGroup | None = None) -> None:
        self._events, self._group = events, group or ProcessGroup()
        self.device: DeviceFacts | None = None
        self.step = 0
        self.validation_rows = 0
        self.validation_loss = math.nan
        self.validated_at = -1
        #: The last validation loss of each data set of a mixture, by name.
        self.source_losses: Callable[[], dict[str, float]] = dict
        #: The figures of a preference loss at the last validation, by name.
        self.preference_figures: Callable[[], dict[str, float]] = dict
        #: The token accuracy of the last validation.
        self.validation_accuracy: Callable[[], float | None] = lambda: None
        self.train_loss = math.nan
        self.tokens_before = 0
        self._tokens = 0
        self._step_began = 0.0
        self._window_s = 0.0
        self._logged_s = 0.0
        self._window_steps = 0
        self._average_step_s = math.nan
        self._untimed_s, self._untimed_steps, self._timings = 0.0, 0, 0
        self._between_began = 0.0
        self._between_s = 0.0
        self._steps_done = 0
        self._warned = False
        self.trained_s = 0.0
        self.peak_memory: dict[str, int] = {}
        self._peaks = CudaPeaks()

    @property
    def average_step_s(self) -> float:
        """Average seconds of a step, without the first one; NaN before any was timed."""
        return self._average_step_s

    @property
    def mean_tok_per_s(self) -> float:
        """Tokens per second over all logged steps of this attempt; NaN before any."""
        return self._tokens / self._logged_s if self._logged_s else math.nan

    def exclude_pause(self, seconds: float) -> None:
        """Keeps the seconds of a pause out of the ETA."""
        self._between_s -= seconds

    @override
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._peaks.end_phase(self.device, "cuda_peak_outside")
        now = time.monotonic()
        if self._between_began:
            self._between_s += now - self._between_began
        self._step_began = now

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.step = state.global_step
        on_gpu = self.device is not None and self.device.type == "cuda"
        timed = control.should_log or not on_gpu
        self._peaks.end_phase(self.device, "cuda_peak")  # the allocator counts on the host
        if timed:  # else the GPU works on while the next step is prepared
            synchronize(self.device)
        now = time.monotonic()
        seconds = now - self._step_began
        self._between_began = now
        self._window_s += seconds
        self.trained_s += seconds
        self._window_steps += 1
        self._steps_done += 1
        self._untimed_s += seconds
        self._untimed_steps += 1
        if not timed:
            return
        seconds, steps = self._untimed_s / self._untimed_steps, self._untimed_steps
        self._untimed_s, self._untimed_steps = 0.0, 0
        self._timings += 1
        if self._timings <= 2:
            self._average_step_s = seconds  # the first step also warms up caches
        else:
            past = STEP_TIME_MEMORY**steps
            self._average_step_s = past * self._average_step_s + (1 - past) * seconds

    @override
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        if not logs or "loss" not in logs or not self._window_steps:
            return
        tokens = int(logs.get("num_tokens", 0)) - self.tokens_before
        devices = self._group.all_gather({**memory_bytes(self.device), **self._peaks.by_label})
        # the fullest device is the one that runs out of memory
        memory = {label: max(each.get(label, 0) for each in devices) for label in devices[0]}
        for label, used in memory.items():
            # between two records it may have been more
            most = max(used, peak_resident_bytes()) if label == "resident" else used
            self.peak_memory[label] = max(most, self.peak_memory.get(label, 0))
        self.train_loss = float(logs["loss"])
        remaining = max(0, state.max_steps - state.global_step)
        between_s = max(0.0, self._between_s) / self._steps_done
        self._events.write(
            StepEvent(
                step=state.global_step,
                epoch=round(float(state.epoch or 0.0), 4),
                loss=self.train_loss,
                learning_rate=float(logs.get("learning_rate", math.nan)),
                grad_norm=float(logs.get("grad_norm", math.nan)),
                tokens=self.tokens_before + tokens,
                tok_per_s=round((tokens - self._tokens) / max(self._window_s, 1e-9), 1),
                step_time_s=round(self._window_s / self._window_steps, 4),
                eta_s=round(remaining * (self._average_step_s + between_s), 1),
                memory=memory,
                devices=devices if len(devices) > 1 else None,
                parts=_parts(logs),
                accuracy=logs.get("mean_token_accuracy"),
            )
        )
        self._logged_s += self._window_s
        self._tokens, self._window_s, self._window_steps = tokens, 0.0, 0
        # with float16 a step whose gradients overflow is skipped: the scale of the loss is halved
        self._warn_when_not_finite(state.global_step, logs, ("loss",) if args.fp16 else ("loss", "grad_norm"))

    def _warn_when_not_finite(self, step: int, logs: Mapping[str, float], keys: Sequence[str]) -> None:
        bad = [key for key in keys if not math.isfinite(float(logs.get(key, 0.0)))]
        if bad and not self._warned:
            self._warned = True
            advice = "lower learning_rate, raise warmup_steps, or set max_grad_norm"
            self._events.write(WarningEvent(text=f"{bad[0]} is not finite at step {step}: {advice}"))

    @override
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        self.write_validation(state.global_step, float((metrics or {})["eval_loss"]), "during")

    def write_validation(self, step: int, loss: float, when: str) -> None:
        """Writes the loss of a validation at ``step``; ``when``: start, during or end."""
        self.validated_at, self.validation_loss = step, loss
        self._events.write(
            ValidationEvent(
                step=step,
                loss=loss,
                rows=self.validation_rows,
                when=when,
                by_source=self.source_losses(),
                parts=self.preference_figures(),
                accuracy=self.validation_accuracy(),
            )
        )

    @override
    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        best = state.best_global_step == state.global_step
        self._events.write(
            CheckpointEvent(
                step=state.global_step,
                path=f"checkpoints/{folder.name}",
                reason="best" if best else "",
            )
        )


def _parts(logs: Mapping[str, float]) -> dict[str, float] | None:
    """The terms of the loss besides cross-entropy; None where the recipe adds none."""
    found = {name.removeprefix(PART): float(value) for name, value in logs.items() if name.startswith(PART)}
    return found or None
