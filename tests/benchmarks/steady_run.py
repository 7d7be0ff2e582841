"""A run that takes four steps a second whatever the machine does: ``python -m tests.benchmarks.steady_run``
makes a run's folder, holds its lock and writes the records that a run writes (steps, telemetry, a validation
and a sample now and then) until it is ended. It trains nothing."""

from __future__ import annotations

import math
import random
import time

from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import RunLock, create
from tui_lab.runs.schema import (
    DataEvent,
    ModelEvent,
    PhaseEvent,
    PlanEvent,
    ResumedEvent,
    SampleEvent,
    StartedEvent,
    StepEvent,
    TelemetryEvent,
    ValidationEvent,
)

STEPS_PER_S, TOTAL = 4, 3000


def main() -> None:
    run = create(Recipe(preset="minute"))
    lock = RunLock.take(run)
    assert lock is not None
    write = EventWriter(run.events_path).write
    write(ResumedEvent(from_step=0, attempt=1))
    write(StartedEvent(pid=1, host="here", versions={}, device={"type": "cpu", "name": "a CPU"}, threads=2))
    write(ModelEvent(trainable=358_400, parameters=4_230_000, modules={"Linear": 35}, quantized_modules=0))
    write(DataEvent(train_rows=900, validation_rows=130, longest_tokens=46))
    write(PlanEvent(total_steps=TOTAL, epochs=4.0))
    write(ValidationEvent(step=0, loss=7.8, rows=130, when="start"))
    write(PhaseEvent(name="training"))
    chance, began = random.Random(0), time.monotonic()
    for step in range(1, TOTAL + 1):
        time.sleep(max(0.0, began + step / STEPS_PER_S - time.monotonic()))
        loss = 0.3 + 7.5 * math.exp(-step / 60) + 0.3 * chance.random()
        resident = (700 + 40 * chance.random()) * 2**20
        write(
            StepEvent(step=step, epoch=4 * step / TOTAL, loss=loss, learning_rate=1e-3 * (1 - step / TOTAL),
            grad_norm=1 + chance.random(), tokens=500 * step, tok_per_s=1500 + 200 * chance.random(),
            step_time_s=1 / STEPS_PER_S, eta_s=(TOTAL - step) / STEPS_PER_S,
            memory={"resident": int(resident)},
        ))  # fmt: skip
        if step % STEPS_PER_S == 0:
            process = {"resident_bytes": int(resident), "cpu_percent": 90 + 10 * chance.random()}
            write(TelemetryEvent(step=step, gpus=[], process=process, energy_j=None, seconds=1.0))
        if step % 40 == 0:
            write(ValidationEvent(step=step, loss=loss + 0.1, rows=130, when="during"))
            write(SampleEvent(step=step, prompt="Which place needs a baker?", text="A bakery, matey! " * 3))


if __name__ == "__main__":
    main()
