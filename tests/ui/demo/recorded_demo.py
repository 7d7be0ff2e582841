"""A recording of the demo without a model: two runs' logs, what was measured of them, and answers; for the
tests of the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.ui import sample_runs
from tests.ui.helpers import lane_done
from tui_lab.decoding.strategies import PRESETS, Lane
from tui_lab.playground.messages import Tokens, event_fields
from tui_lab.recipes.presets import make_recipe
from tui_lab.runs import folder
from tui_lab.runs.event_lines import encode_line as encode
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run
from tui_lab.ui.demo import recording, script
from tui_lab.ui.views import lane_layout

BEGAN = 1_790_000_000.0
STEPS = 12
#: What each run gained and kept: told apart from anything that is written elsewhere.
GAINED = {"naive": (0.11, 0.83), "keeper": (0.12, 0.79)}
KEPT = {"naive": (0.4375, "red"), "keeper": (0.9625, "green")}
HOSTILE = "\x1b[2Jmeow [red]"


def log(run: Run, name: str) -> None:
    """The event log of a run that took a minute."""
    writer = EventWriter(run.events_path)
    start, end = GAINED[name]
    events: list[tuple[float, str, dict[str, Any]]] = [
        (0, "resumed", {"from_step": 0, "attempt": 1}),
        (0, "started", {"pid": 1, "host": "there", "versions": {}, "device": {"type": "cpu"}, "threads": 2}),
        (1, "phase", {"name": "training", "detail": ""}),
        (1, "plan", {"total_steps": STEPS, "epochs": 1, "eval_steps": 5, "save_steps": 5}),
        (
            1,
            "score",
            {"step": 0, "name": "exact", "value": start, "rows": 4, "when": "start", "examples": []},
        ),
    ]
    for step in range(1, STEPS + 1):
        events.append(
            (1 + 4 * step, "step", {"step": step, "loss": 3.0 / step, "eta_s": 4.0 * (STEPS - step)})
        )
    value, verdict = KEPT[name]
    probe = {
        "suite": "everyday", "version": "1", "n": 40, "chance": 0.25, "pre": 1.0, "post": value, "b": 4,
        "c": 0, "retention": sample_runs.figure(value),
        "above_chance": sample_runs.figure(value), "verdict": verdict,
        "logprob_change": sample_runs.figure(-0.1), "mcnemar_p": 0.1, "seconds": 0.1, "when": "during",
    }  # fmt: skip
    events.append((55, "item_probe", {"step": STEPS, **probe}))
    events.append(
        (
            57,
            "score",
            {"step": STEPS, "name": "exact", "value": end, "rows": 4, "when": "end", "examples": []},
        )
    )
    ended = {"state": "finished", "step": STEPS, "message": "", "seconds": 58.0}
    events.append((58, "end", {**ended, "acquisition": {"name": "exact", "start": start, "end": end}}))
    for t, kind, fields in events:
        writer.append({"v": 1, "t": BEGAN + t, "kind": kind, **fields})


def result(name: str) -> dict[str, Any]:
    value, verdict = KEPT[name]
    made = sample_runs.result("everyday", verdict)
    made["comparison"]["above_chance"] = sample_runs.figure(value)
    return made


def answer(prompt: str, asked: tuple[Lane, ...], texts: dict[str, str]) -> dict[str, Any]:
    """One answer as a live demo writes it."""
    events: list[tuple[float, str, dict[str, Any]]] = []
    for number, lane in enumerate(lane_layout.seeded(asked)):
        on = lane.on or "base"
        text = texts.get(on, "a cat")
        events.append((0.1 * number, *event_fields(Tokens(number, text, 1))))
        done = lane_done(number, lane.text, text, on=on, finish_reason="stop_token", seconds=0.2)
        events.append((0.1 * number + 0.05, *event_fields(done)))
    status = {"state": "ready", "model": "pocket", "dtype": "float32", "device": "cpu", "names": ["base"]}
    return {
        "prompt": prompt,
        "lanes": [lane.text for lane in lane_layout.seeded(asked)],
        "status": status,
        "events": events,
        "perplexities": [1.5] * len(asked),
    }


def make(place: Path) -> Path:
    """A folder as ``tui-lab demo --keep`` leaves it."""
    runs = {}
    for name in GAINED:
        run = folder.create(make_recipe(name, data="support", max_steps=STEPS), place / "runs", name)
        log(run, name)
        (run.path / "retention").mkdir()
        (run.path / "retention" / "everyday.json").write_text(json.dumps(result(name)), encoding="utf-8")
        runs[name] = run.id
    about = {"date": "2026-01-02", "machine": "a slow \x1b[31mmachine", "versions": {}, "runs": runs}
    (place / recording.ABOUT).write_text(json.dumps(about), encoding="utf-8")
    beside = lane_layout.base_against("tuned")
    answers = [
        answer(script.PROMPTS["story"], tuple(PRESETS["six classics"]), {}),
        answer(script.PROMPTS["shop"], beside, {"base": HOSTILE, "tuned": "paper"}),
        answer(script.PROMPTS["world"], beside, {"base": HOSTILE, "tuned": "Lima"}),
    ]
    lines = b"".join(encode(each) for each in answers)
    (place / recording.ANSWERS).write_bytes(lines)
    return place
