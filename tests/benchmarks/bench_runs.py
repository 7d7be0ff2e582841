"""What a thousand runs cost: the first reading of all logs, the reading with the cache file, a look when
nothing has changed; and in the lab the time from F6 to the first rows, and how long a key waits meanwhile."""

from __future__ import annotations

import asyncio
import math
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks.figures import Figure
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs.event_lines import encode_line as encode
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import create
from tui_lab.runs.index import CACHE, RunIndex
from tui_lab.runs.schema import EndEvent, PlanEvent, ResumedEvent, ScoreEvent, StartedEvent, ValidationEvent

RUNS, STEPS = 1_000, 200


def make_runs(directory: Path, count: int = RUNS, steps: int = STEPS) -> None:
    """Finished runs with logs as a short run writes them, from a seed."""
    recipe = make_recipe()
    for number in range(count):
        noise = random.Random(number)
        run = create(recipe, directory, f"run{number}")
        events = EventWriter(run.events_path)
        events.write(ResumedEvent(from_step=0, attempt=1))
        events.write(StartedEvent(pid=1, device={"type": "cpu"}, threads=1, versions={}))
        events.write(PlanEvent(total_steps=steps))
        at = time.time() - 1_000
        lines = [
            encode({"v": 1, "t": at + step, "kind": "step", "step": step, "epoch": step / 50,
                    "loss": 3 * math.exp(-step / 50) + 0.1 * noise.random(), "learning_rate": 1e-4,
                    "grad_norm": 1.0, "tokens": step * 280, "tok_per_s": 457.2, "step_time_s": 0.6,
                    "eta_s": float(steps - step), "memory": {"resident": 751_308_800}})
            for step in range(1, steps + 1)
        ]  # fmt: skip
        with run.events_path.open("ab") as file:
            file.write(b"".join(lines))
        events.write(ValidationEvent(step=steps, loss=0.2 + noise.random(), rows=10, when="end"))
        events.write(ScoreEvent(step=steps, name="exact", value=noise.random(), rows=10, when="end"))
        events.write(EndEvent(state="finished", step=steps, message="", seconds=100.0, train_loss=0.1,
                     validation_loss=0.2 + noise.random(),
                      peak_memory={"resident": 774_430_720}))  # fmt: skip
        events.close()


def seconds(what: object) -> float:
    assert callable(what)
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


async def in_the_lab() -> tuple[float, float, float]:
    """(seconds from F6 to the first rows, to all rows, the longest that the lab did not answer meanwhile)."""
    from tui_lab.ui.app import LabApp
    from tui_lab.ui.screens.runs import RunsPane
    from tui_lab.ui.widgets.run_table import RunTable

    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await asyncio.sleep(2)  # Choose fills itself
        began = time.perf_counter()
        # beside what follows: the pilot waits until the lab is idle again
        pressing = asyncio.create_task(pilot.press("f6"))
        first = longest = 0.0
        while time.perf_counter() - began < 60:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before - 0.005)
            if isinstance(app.screen, RunsPane) and (
                count := sum(len(t.runs) for t in app.screen.query(RunTable))
            ):
                first = first or time.perf_counter() - began
                if count == RUNS:
                    break
        everything = time.perf_counter() - began
        await pressing
        return first, everything, longest


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TUI_LAB_RUNS_DIR"] = folder
        make_runs(Path(folder))
        first, everything, longest = asyncio.run(in_the_lab())
        yield Figure(f"{RUNS} runs, no cache: first rows after F6", first, "s", 0.5)
        yield Figure(f"{RUNS} runs, no cache: all rows", everything, "s")
        yield Figure("the longest wait of a key meanwhile", 1000 * longest, "ms", 250)
        first, everything, longest = asyncio.run(in_the_lab())
        yield Figure(f"{RUNS} runs, with the cache file: all rows", everything, "s", 0.5)
        yield Figure("the longest wait of a key meanwhile", 1000 * longest, "ms", 250)
        index = RunIndex()
        yield Figure("the index, with the cache file", 1000 * seconds(index.refresh), "ms", 500)
        again = median(seconds(index.refresh) for _ in range(5))
        yield Figure("a look when nothing has changed", 1000 * again, "ms", 100)
        (Path(folder) / CACHE).unlink()
        yield Figure(f"the index without a cache, {STEPS} steps a run", seconds(RunIndex().refresh), "s")
