"""What has changed since a run is asked about wherever the lab uses the run: a no does nothing, a yes goes on
once, and the next start asks again. What is refused here is a call; the jobs themselves are in tests/core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ui.helpers import said, screen_text, until
from tests.ui.sample_runs import make_run
from tui_lab.core import changed_inputs
from tui_lab.core.changed_inputs import ChangedInputs
from tui_lab.core.errors import LabError
from tui_lab.playground.client import PlaygroundClient
from tui_lab.recipes.recipe import Recipe
from tui_lab.retention.stored import JudgeResult
from tui_lab.runs import folder, inputs
from tui_lab.runs.events import EventWriter
from tui_lab.runs.schema import EndEvent
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.judged import JudgedPairs
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.screens.playground import PlaygroundPane
from tui_lab.ui.screens.predictions import PredictionList
from tui_lab.ui.widgets.dialogs import Confirm

CHANGES = ("the weights of \x1b[2J[b]base have changed since", "the data file d has changed since")


class Gate:
    """Stands for what is started: refuses what has changed until that is accepted, and then says so."""

    def __init__(self) -> None:
        self.accepted: list[bool] = []

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.accepted.append(changed_inputs.accepted())
        if not self.accepted[-1]:
            raise ChangedInputs("run a", CHANGES)
        raise LabError("it went on")

    async def later(self, *_: Any, **__: Any) -> Any:
        return self()


Act = Callable[[LabApp], object]


def judged(app: LabApp) -> object:
    return app.push_screen(JudgedPairs(folder.open_run("a"), JudgeResult()))


def predictions(app: LabApp) -> object:
    run = folder.open_run("a")
    return app.push_screen(PredictionList(run.path / "none.jsonl", run, {}))


def on_playground(act: Callable[[PlaygroundPane], object]) -> Act:
    def found(app: LabApp) -> object:
        assert isinstance(app.screen, PlaygroundPane)
        return act(app.screen)

    return found


#: The pane, what is refused, and the first and every later way to start it.
STARTS: dict[str, tuple[str, str, tuple[str, ...] | Act, tuple[str, ...] | Act]] = {
    "retention": ("retention", "core.job_client.run_job", ("k", "enter"), ("k", "enter")),
    "strength": ("retention", "core.job_client.run_job", ("K",), ("K",)),
    "export": ("retention", "core.job_client.run_job", ("E", "enter"), ("enter",)),
    "judge": ("retention", "core.job_client.run_job", judged, judged),
    "predictions": ("runs", "core.job_client.run_job", predictions, predictions),
    "advise": ("setup", "core.job_client.run_job", ("M", "enter"), ("enter",)),
    "start": ("setup", "runs.stages.check", ("s",), ("s",)),
    "report": ("retention", "report.write.require_unchanged", ("W",), ("W",)),
    "resume": ("train", "runs.inputs.require_unchanged", ("R",), ("R",)),
    "lane": (
        "playground", "ui.screens.load_adapter.load_tuned",
        *[on_playground(lambda pane: pane.compare_run("a"))] * 2,
    ),
    "model": (
        "playground", "playground.client.PlaygroundClient.load",
        *[on_playground(lambda pane: pane._load(("a", "auto")))] * 2,
    ),
    "prompt": (
        "playground", "playground.client.PlaygroundClient.generate",
        *[on_playground(lambda pane: pane.action_run())] * 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STARTS)
async def test_each_start_asks_and_a_yes_holds_once(
    name: str, own_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pane, refused, first, later = STARTS[name]
    run = make_run()
    if name == "resume":
        EventWriter(run.events_path).write(EndEvent(state="stopped", step=9))
    gate = Gate()
    is_async = "job" in refused or pane == "playground"
    monkeypatch.setattr(f"tui_lab.{refused}", gate.later if is_async else gate)
    monkeypatch.setattr(PlaygroundClient, "wants", "pocket")
    monkeypatch.setenv("TUI_LAB_JUDGE", "a-judge")
    app = LabApp(pane=pane)

    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, Pane) and app.screen.is_laid_out and app.screen.is_ready)

        async def start(how: tuple[str, ...] | Act) -> None:
            if callable(how):
                how(app)
            else:
                await pilot.press(*how)
            await until(lambda: isinstance(app.screen, Confirm) and "Go on with what" in screen_text(app))

        await start(first)
        shown = screen_text(app)
        assert "• the weights of ␛[2J[b]base have changed since" in shown and "• the data file d has" in shown
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Confirm))
        await start(later)
        assert gate.accepted == [False, False] and not said(app, "it went on")
        await pilot.press("y")
        await until(lambda: len(gate.accepted) == 3)
        await until(lambda: said(app, "it went on") or "it went on" in screen_text(app))
        await start(later)
        assert gate.accepted == [False, False, True, False] and not changed_inputs.accepted()
        await pilot.press("n")
        await until(lambda: not isinstance(app.screen, Confirm))
        await pilot.pause()
        assert len(gate.accepted) == 4


async def test_a_run_is_resumed_with_another_data_file_after_a_yes(
    own_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "one"}\n' * 9)
    run = folder.create(Recipe(model="pocket", data=str(data)))
    events = EventWriter(run.events_path)
    events.write(inputs.current_inputs(run.recipe()))
    events.write(EndEvent(state="stopped", step=9))
    data.write_text('{"text": "two"}\n' * 9)
    started: list[bool] = []

    def start(_: folder.Run) -> None:
        started.append(changed_inputs.accepted())
        raise LabError("it was started")

    monkeypatch.setattr("tui_lab.runs.launch.start", start)
    app = LabApp(pane="train")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, Pane) and app.screen.is_ready)
        await pilot.press("R")
        await until(lambda: "the data file rows.jsonl has changed since" in screen_text(app))
        await pilot.press("y")
        await until(lambda: started == [True])
