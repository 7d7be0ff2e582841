"""Curves by step, tokens and time read off logs that are written here; and what recipes differ in."""

from __future__ import annotations

import math
from pathlib import Path

from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.comparison import RunComparison
from tui_lab.runs.events import EventLineWriter
from tui_lab.runs.folder import Run, create
from tui_lab.runs.index import RunIndex
from tui_lab.runs.overlay import CurveReader, differing


def probe(step: int, value: float) -> dict[str, object]:
    figure = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {"kind": "item_probe", "step": step, "retention": figure, "above_chance": None, "verdict": "red"}


def write(run: Run, *events: dict[str, object]) -> None:
    log = EventLineWriter(run.events_path)
    for event in events:
        log.append({"v": 1, **event})
    log.close()


def test_the_three_axes_over_two_attempts(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    write(
        run,
        {"t": 100.0, "kind": "resumed", "from_step": 0, "attempt": 1},
        {"t": 102.0, "kind": "eval", "step": 0, "loss": 3.0},
        {"t": 103.0, "kind": "step", "step": 1, "loss": 2.0, "tokens": 10},
        {"t": 104.0, "kind": "step", "step": 2, "loss": "nan", "tokens": 20},
        {"t": 105.0, "kind": "step", "step": 3, "loss": 9.0, "tokens": 30},
        {"t": 900.0, "kind": "resumed", "from_step": 2, "attempt": 2},
        {"t": 901.0, "kind": "step", "step": 3, "loss": 1.5, "tokens": 30},
        {"t": 902.0, "kind": "eval", "step": 3, "loss": 1.0},
        {"t": 903.0, **probe(3, 0.9)},
        {"t": 904.0, "kind": "step", "step": "?", "loss": 1.0},
    )
    curves = CurveReader(run).read()
    loss = curves.points["loss"]
    assert loss.xs("steps") == [1, 2, 3]
    assert loss.xs("tokens") == [10, 20, 30]
    assert loss.xs("time") == [3, 4, 6], "the night between the attempts does not count"
    assert loss.values[0] == 2.0 and math.isnan(loss.values[1]) and loss.values[2] == 1.5
    assert curves.points["validation"].values == [3.0, 1.0]
    assert curves.points["validation"].xs("tokens") == [0, 30]
    assert curves.points["retention"].values == [0.9]


def test_a_growing_log_is_read_incrementally(tmp_path: Path) -> None:
    run = create(Recipe(), tmp_path)
    reader = CurveReader(run)
    assert reader.read().points["loss"].steps == []
    write(run, {"t": 1.0, "kind": "step", "step": 1, "loss": 2.0, "tokens": 5})
    assert reader.read().points["loss"].steps == [1]
    write(run, {"t": 2.0, "kind": "step", "step": 2, "loss": 1.0, "tokens": 9})
    assert reader.read().points["loss"].tokens == [5, 9]
    run.events_path.write_text("")
    write(run, {"t": 7.0, "kind": "step", "step": 1, "loss": 5.0, "tokens": 1})
    assert reader.read().points["loss"].values == [5.0], "another file took its place"


def test_only_differing_fields_are_listed() -> None:
    base = Recipe()
    other = base.changed(learning_rate=1e-5, chat_template="")
    assert differing([base, base]) == [] == differing([base]) == differing([])
    found = differing([base, other, None])
    assert [name for name, _ in found] == ["learning_rate"]
    assert found[0][1] == [f"{base.learning_rate:g}", "1e-05", "?"]


def test_a_comparison_keeps_the_readers_of_its_runs(tmp_path: Path) -> None:
    runs = [create(Recipe(lora_r=r), tmp_path) for r in (8, 16)]
    for number, run in enumerate(runs):
        write(run, {"t": 1.0, "kind": "step", "step": 1, "loss": float(number), "tokens": 5})
    listed = RunIndex(tmp_path).refresh()
    comparison = RunComparison()
    found = comparison.read(listed)
    assert [curves.points["loss"].values for curves in found.curves] == [
        [float(runs.index(summary.run))] for summary in listed
    ]
    assert [name for name, _ in found.differences] == ["lora_r"]
    (runs[0].path / "recipe.toml").write_text("damaged")
    assert comparison.read([]).curves == ()
    damaged = comparison.read(listed)
    assert damaged.differences == (), "one recipe alone differs from nothing"
