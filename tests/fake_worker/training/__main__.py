"""Writes the log of a run of ``max_steps`` steps, one each FAKE_STEP_S seconds, heeding commands and
SIGTERM.

FAKE_END: finished (as a run does), failed (an end with its message), crash (killed at half of the steps),
silent (gone before its first event). FAKE_REPORT_S: how long it writes its report afterwards.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tui_lab.runs.commands import Inbox
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.runs.schema import (
    CommandEvent,
    ContinuedEvent,
    EndEvent,
    PausedEvent,
    PhaseEvent,
    PlanEvent,
    ResumedEvent,
    SampleEvent,
    SavedEvent,
    ScoreEvent,
    StartedEvent,
    StepEvent,
    ValidationEvent,
)
from tui_lab.runs.state import Watcher


def main() -> int:
    run = Run(Path(sys.argv[1]))
    end, step_s = os.environ.get("FAKE_END", "finished"), float(os.environ.get("FAKE_STEP_S", "0.01"))
    if end == "silent":
        print("Illegal instruction \x1b[31mred\x1b[0m", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    before = Watcher(run).read_all()
    inbox = Inbox(run, before.acknowledged)
    total, first = run.recipe().max_steps, before.step
    events = EventWriter(run.events_path)
    events.write(ResumedEvent(from_step=first, attempt=before.attempt + 1))
    device = {"type": "cpu", "name": "test \x1b[31m", "memory_bytes": 0, "bf16": False}
    events.write(StartedEvent(pid=os.getpid(), host="here", versions={}, device=device, threads=1))
    events.write(PhaseEvent(name="training", detail=""))
    events.write(PlanEvent(total_steps=total, epochs=1, eval_steps=5, save_steps=5))
    events.append({"v": 2, "t": 1.0, "kind": "a_kind_of_the_future", "value": [1, {"x": None}]})
    events.write(ValidationEvent(step=first, loss=3.0, rows=4, when="start"))
    events.write(ScoreEvent(step=first, name="exact", value=0.25, rows=4, when="start", examples=[]))
    events.write(SampleEvent(step=first, prompt="[red]hi[/red]", text="\x1b]0;owned\x07\x9b2J\u202eevil"))
    paused, state, step = False, "finished", first
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    while step < total and state == "finished":
        for command in inbox.poll():
            events.write(
                CommandEvent(id=command.id, name=command.name, outcome=f"{command.name} at step {step}")
            )
            if command.name in ("pause", "continue"):
                paused = command.name == "pause"
                events.write(PausedEvent(step=step) if paused else ContinuedEvent(step=step))
            if command.name == "stop":
                state = "stopped"
        if asked:
            state = "stopped"
        if paused:
            time.sleep(0.02)
            continue
        step += 1
        loss = float("nan") if step == 2 else 3.0 / step
        events.write(StepEvent(step=step, loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=step * 10,
                     tok_per_s=1000.0, step_time_s=step_s, eta_s=(total - step) * step_s,
                     memory={"resident": 1_000_000 + step}))  # fmt: skip
        if end == "crash" and step >= total // 2:
            print("a last word \x1b[2J", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "failed" and step >= total // 2:
            events.write(EndEvent(state="failed", message="the data ran \x1b[31mdry", step=step))
            return 1
        time.sleep(step_s)
    events.write(ValidationEvent(step=step, loss=1.0, rows=4, when="end"))
    events.write(SavedEvent(path="adapter", what="adapter", bytes=123_456))
    gained: dict[str, Any] = {"name": "exact", "start": 0.25, "end": 0.75}
    events.write(
        EndEvent(
            state=state,
            step=step,
            message="",
            seconds=1.5,
            train_loss=3.0 / max(step, 1),
            validation_loss=1.0,
            acquisition=gained,
            peak_memory={"resident": 2_000_000},
            path="adapter",
        )
    )
    time.sleep(float(os.environ.get("FAKE_REPORT_S", "0")))
    (run.path / "report.md").write_text("what it came to")
    return 0


if __name__ == "__main__":
    sys.exit(main())
