"""A run on disk with results as retention writes them, for the tests of Retention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tui_lab.core.records import from_plain
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.results import SuiteResult
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, create
from tui_lab.runs.schema import EndEvent, ItemProbeEvent, ScoreEvent, StartedEvent


def figure(value: float, spread: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def comparison(pre: float, post: float, verdict: str = "red", **changes: Any) -> dict[str, Any]:
    made = {
        "metric": "acc", "threshold": 0.9, "pre": pre, "post": post, "a": 50, "b": 40, "c": 2, "d": 8,
        "n": 100, "retention": figure(post / pre), "above_chance": figure((post - 0.25) / (pre - 0.25)),
        "difference": figure(post - pre), "mcnemar_p": 0.001, "verdict": verdict,
        "sentence": "forgotten: retention 48 % of what the base knew above chance",
    }  # fmt: skip
    return {**made, **changes}


def scores(loglikelihoods: list[float], right: int) -> dict[str, Any]:
    best = max(range(len(loglikelihoods)), key=loglikelihoods.__getitem__)
    return {
        "loglikelihoods": loglikelihoods,
        "predicted": best,
        "predicted_norm": best,
        "correct": best == right,
        "tokens": [1] * len(loglikelihoods),
    }


def result(suite: str = "everyday", verdict: str = "red") -> dict[str, Any]:
    """Three items: one lost, one gained, one kept; the text of one is hostile."""
    items = [
        ("What is [red]wet[/red]\x1b[2J?", 0, [-0.1, -4.0], [-4.0, -0.1], "nature"),
        ("What is dry?", 1, [-0.1, -4.0], [-4.0, -0.1], "nature"),
        ("How much is two and two?", 0, [-0.1, -4.0], [-0.2, -3.0], "numbers"),
    ]
    return {
        "v": 1, "suite": suite, "title": suite, "version": "1", "sha256": "0", "kind": "choice",
        "metric": "acc", "chance": 0.25, "n": 100, "model": "pocket", "revision": "", "quantization": "nf4",
        "dtype": "float32", "adapter": "adapter", "versions": {}, "seconds": 1.0,
        "base": {"acc": {"value": 0.9, "se": 0.03}}, "tuned": {"acc": {"value": 0.52, "se": 0.05}},
        "items": [
            {
                "id": str(number), "category": category, "question": question, "choices": ["water", "sand"],
                "answer": [right], "base": scores(before, right), "tuned": scores(after, right),
            }
            for number, (question, right, before, after, category) in enumerate(items)
        ],
        "comparison": comparison(0.9, 0.52, verdict),
        "categories": {
            "nature": comparison(0.9, 0.3, b=30, c=1, n=50),
            "numbers": comparison(0.9, 0.9, "green"),
        },
        "warnings": [],
    }  # fmt: skip


def typed_result() -> SuiteResult:
    """The result as it is read from a file."""
    return from_plain(result(), SuiteResult, "the sample")


def make_run(
    gain: tuple[float, float] = (0.1, 0.9), name: str = "a", verdict: str = "red", **recipe: Any
) -> Run:
    """A run that has ended, with a result of ``everyday``."""
    run = create(Recipe(model="pocket", data="support", **recipe), name=name)
    (run.path / "adapter").mkdir()
    (run.path / "retention").mkdir(mode=0o700)
    save(run.path / "retention" / "everyday.json", result(verdict=verdict))
    events = EventWriter(run.events_path)
    events.write(StartedEvent(pid=1))
    for when, value in zip(("start", "end"), gain, strict=True):
        events.write(
            ScoreEvent(name="exact", value=value, when=when, step=0 if when == "start" else 9, rows=64)
        )
    for step in (0, 5, 9):
        events.write(
            ItemProbeEvent(step=step, suite="everyday", version="1", n=100, chance=0.25, pre=0.9, post=0.5,
            b=4, c=1, retention=figure(1 - step / 20), above_chance=figure(1 - step / 10),
            logprob_change=figure(-0.1), mcnemar_p=0.01, verdict="red", seconds=0.1, when="during",
        ))  # fmt: skip
    events.write(EndEvent(state="finished", step=9))
    events.close()
    return run


def save(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
