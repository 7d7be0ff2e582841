"""Fixed events on the whole lab: nothing fails, and a failure would be found. ``python -m tests.ui.fuzz``
draws new ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ui import fuzz
from tui_lab.runs import folder
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.runs import RunsPane

EVENTS = Path(__file__).parent / "fuzz_events.json"


async def test_recorded_events_harm_nothing(tmp_path: Path) -> None:
    """120 events that the fuzz drew with seed 17."""
    steps = json.loads(EVENTS.read_text())
    found, log, figures = await fuzz.fuzz(tmp_path / "world", 17, len(steps), steps)
    assert found == "" and log == steps and len(steps) == 120
    assert figures is not None and figures.looks == 2


async def test_a_lane_that_is_removed_as_it_is_asked_takes_no_other_s_answer(tmp_path: Path) -> None:
    steps = [
        ["key", "f4"],
        ["wait", 0.3],
        ["key", "escape"],
        ["key", "ctrl+r"],
        ["key", "delete"],
        ["wait", 0.5],
    ]
    found, _, figures = await fuzz.fuzz(tmp_path / "world", 1, len(steps), steps)
    assert found == "" and figures is not None and figures.app.playground_client.requests == 1  # type: ignore[attr-defined]


async def test_what_is_raised_is_found_and_happens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(app: LabApp) -> None:
        raise ZeroDivisionError("a fault that the test put there")

    monkeypatch.setattr(LabApp, "action_next_marker", broken)
    steps: list[fuzz.Step] = [["key", "f3"], ["move", 0.5, 0.5], ["key", "f8"], ["key", "f2"]]
    found, log, _ = await fuzz.fuzz(tmp_path / "world", 0, len(steps), steps)
    assert "a fault that the test put there" in found and log == steps[:3]


async def test_a_run_that_changes_unasked_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(pane: RunsPane, by: int) -> None:
        run = next(run for run in folder.list_runs() if "kept-red-1" in run.path.name)
        run.events_path.write_text("")

    monkeypatch.setattr(RunsPane, "action_sort", careless)
    steps: list[fuzz.Step] = [["key", "f6"], ["wait", 0.2], ["key", "greater_than_sign"]]
    found, _, _ = await fuzz.fuzz(tmp_path / "world", 0, len(steps), steps)
    assert "changed" in found and "events.jsonl" in found
