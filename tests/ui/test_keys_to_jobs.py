"""How many keys the main jobs need. Each is done in the lab by its keys alone, and docs/design.md has the
table that may not be exceeded. Text that is typed, such as a path, does not count. Nothing is computed: what
the keys ask for is recorded."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.ui import sample_runs
from tests.ui.helpers import screen_text, until
from tests.ui.screens.test_playground import PaperClient
from tui_lab.export import records as exports
from tui_lab.pocket import MODEL_DIR
from tui_lab.runs.folder import Run
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.blind import Blind
from tui_lab.ui.screens.export import ExportScreen
from tui_lab.ui.screens.playground import PlaygroundPane
from tui_lab.ui.screens.retention import RetentionPane
from tui_lab.ui.screens.setup import SetupPane
from tui_lab.ui.screens.train import TrainPane
from tui_lab.ui.widgets.dialogs import Pick
from tui_lab.ui.widgets.prompt import Prompt

DESIGN = Path(__file__).parents[2] / "docs" / "design.md"
SIZE = (120, 40)


def most_keys() -> dict[str, int]:
    """The table of docs/design.md: a job and the keys that it may need."""
    section = DESIGN.read_text(encoding="utf-8").partition("### Keys to the main jobs")[2]
    rows = re.findall(r"^\| ([^|]+?) \|[^|]*\| `[^|]* \| (\d+) \|$", section, re.MULTILINE)
    return {job: int(keys) for job, keys in rows}


class Fingers:
    """Presses keys and counts them."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self._pilot, self.pressed = pilot, list[str]()

    async def press(self, *keys: str) -> None:
        self.pressed += keys
        await self._pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Into the field that has the focus; not counted."""
        assert isinstance(self._pilot.app.focused, (Input, Prompt)), "there is no field to type into"
        await self._pilot.press(*text)

    def reached(self, job: str) -> None:
        """The job is done: were it too many keys?"""
        assert len(self.pressed) <= most_keys()[job], f"{job}: {' '.join(self.pressed)}"


@asynccontextmanager
async def lab(pane: str, run_id: str = "") -> AsyncIterator[tuple[LabApp, Fingers]]:
    """The lab with a pane in view, and a finger on the keys."""
    app = LabApp(pane=pane)
    app.set_reactive(LabApp.run_id, run_id)
    async with app.run_test(size=SIZE) as pilot:
        await until(lambda: app.pane == pane and app.screen.is_mounted)
        yield app, Fingers(pilot)


def setup(app: LabApp) -> SetupPane:
    assert isinstance(app.screen, SetupPane)
    return app.screen


async def on_setup(app: LabApp) -> None:
    await until(lambda: "starts the run" in screen_text(app) and bool(setup(app).lists.entries))


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Jobs that were asked for; they answer nothing."""
    asked: list[tuple[str, Any]] = []

    async def run_job(module: str, request: Any, *_: Any, **__: Any) -> dict[str, Any]:
        asked.append((module, request))
        return {}

    monkeypatch.setattr("tui_lab.core.job_client.run_job", run_job)
    return asked


class TunedClient(PaperClient):
    """A playground that can load what a run saved."""

    def __init__(self, change: Callable[..., None]) -> None:
        super().__init__(change)
        self.added: dict[str, str] = {}
        self.wants = "pocket"

    async def add(self, name: str, location: str) -> None:
        self.added[name] = location
        self.status = msgspec.structs.replace(self.status, names=(*self.names, name))
        self.change(self.status)

    def location(self, name: str) -> str:
        return self.added.get(name, "")


def paper_playground(app: LabApp) -> TunedClient:
    client = TunedClient(lambda status: setattr(app, "playground_status", status))
    app.playground.client = client  # type: ignore[assignment]
    return client


def test_the_table_has_every_main_job() -> None:
    assert set(most_keys()) == {
        "own model", "own data", "start", "compare base and tuned in six lanes", "measure retention",
        "save the best strength", "export", "blind vote", "chat",
    }  # fmt: skip


async def test_own_model_own_data_and_start(tmp_path: Path, started: list[Run]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    async with lab("setup") as (app, model):
        await on_setup(app)
        data, go = (Fingers(model._pilot) for _ in range(2))
        await model.press("slash")
        await model.type(str(MODEL_DIR))
        await model.press("enter")
        await until(lambda: app.screen is not None and isinstance(app.screen, SetupPane))
        await until(lambda: setup(app).values["model"] == str(MODEL_DIR))
        model.reached("own model")
        await data.press("d", "slash")
        await data.type(str(rows))
        await data.press("enter")
        await until(lambda: isinstance(app.screen, SetupPane) and setup(app).values["data"] == str(rows))
        data.reached("own data")
        await go.press("s")
        await until(lambda: app.pane == "train" and bool(started))
        go.reached("start")
        recipe = started[0].recipe()
        assert (recipe.model, recipe.data) == (str(MODEL_DIR), str(rows))


async def test_compare_vote_and_chat(own_folders: Path, tmp_path: Path) -> None:
    run = sample_runs.make_run()
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo\n")
    async with lab("train", run.id) as (app, compare):
        paper = paper_playground(app)
        await until(lambda: isinstance(app.screen, TrainPane) and bool(app.screen.next_steps()))
        blind, chat = (Fingers(compare._pilot) for _ in range(2))
        await compare.press("b")
        await until(lambda: isinstance(app.screen, PlaygroundPane) and bool(paper.added))
        pane = app.screen
        assert isinstance(pane, PlaygroundPane)
        await until(lambda: {view.lane.on for view in pane.views} == {"base", *paper.added})
        await until(lambda: isinstance(app.focused, Prompt))
        await compare.press("enter")
        await until(lambda: bool(paper.asks) and bool(pane.results))
        assert len(paper.asks[0].lanes) == 6
        compare.reached("compare base and tuned in six lanes")

        await chat.press("escape", "C")
        await until(lambda: isinstance(app.focused, Prompt))
        await chat.type("why")
        await chat.press("enter")
        await until(lambda: len(paper.asks) == 2 and bool(pane.results))
        assert len(paper.asks[1].turns) == 6, "with the turn before"
        chat.reached("chat")

        await blind.press("escape", "v")
        await until(lambda: isinstance(app.focused, Input))
        app.screen.query_one(Input).value = ""
        await blind.type(str(prompts))
        await blind.press("enter")
        await until(lambda: isinstance(app.screen, Blind) and app.screen.shown is not None)
        await blind.press("1")
        vote = app.screen
        await until(lambda: isinstance(vote, Blind) and len(vote.session.votes) == 1)
        blind.reached("blind vote")


async def test_measure_save_and_export(own_folders: Path, jobs: list[tuple[str, Any]]) -> None:
    run = sample_runs.make_run()
    points = [
        {"strength": s, "acquisition": s, "retention": sample_runs.figure(1 - s / 2), "verdict": "amber"}
        for s in (0.0, 0.5, 1.0)
    ]
    recommended = {"strength": 0.5, "reason": "it keeps"}
    async with lab("train", run.id) as (app, measure):
        await until(lambda: isinstance(app.screen, TrainPane) and bool(app.screen.next_steps()))
        save, export = (Fingers(measure._pilot) for _ in range(2))
        await measure.press("k")
        await until(lambda: isinstance(app.screen, Pick))
        await measure.press("enter")
        await until(lambda: len(jobs) == 1)
        assert jobs[0][1]["suites"] == ["everyday"]
        measure.reached("measure retention")

        pane = app.screen
        assert isinstance(pane, RetentionPane)
        await until(lambda: not pane.measurement.progress)
        await save.press("K")
        await until(lambda: len(jobs) == 2 and not pane.measurement.progress)
        curve = {"v": 1, "points": points, "recommended": recommended, "keep": 0.95}
        sample_runs.save(run.path / "retention" / "strength.json", curve)  # what the job leaves
        await until(lambda: len(pane._strengths) == 3)
        await save.press("w")
        await until(lambda: len(jobs) == 3)
        assert jobs[2][1] == {"run": run.id, "save": 0.5}
        save.reached("save the best strength")

        await until(lambda: not pane.measurement.progress)
        await export.press("e")
        await until(lambda: isinstance(app.screen, ExportScreen))
        await export.press("enter")
        await until(lambda: len(jobs) == 4)
        assert jobs[3][0] == exports.JOB_MODULE
        export.reached("export")
