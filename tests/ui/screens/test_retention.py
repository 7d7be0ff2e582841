"""Retention: a person reads the verdict, opens a flip, measures, sweeps, and is told what to do."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList

from tests.ui import sample_runs as made
from tests.ui.helpers import said, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import RunLock, create, open_run
from tui_lab.runs.schema import EndEvent, StartedEvent
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.item_view import ItemView
from tui_lab.ui.screens.retention import RetentionPane
from tui_lab.ui.widgets.dialogs import Pick
from tui_lab.ui.widgets.retention_plots import RetentionPlot
from tui_lab.ui.widgets.run_list import RunList


class Jobs:
    """Stands in for the jobs: keeps what was asked, does what the test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.does: Callable[[dict[str, Any]], None] = lambda request: None
        self.error = ""
        self.waits = False

    async def run_job(self, module: str, request: dict[str, Any], progress: Any, **_: Any) -> dict[str, Any]:
        self.requests.append((module, request))
        progress(f"{request.get('suites', ['scoring'])[0]}: scoring", 3, 10)
        if self.waits:
            await asyncio.Event().wait()
        if self.error:
            raise LabError(self.error)
        self.does(request)
        return {}


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    found = Jobs()
    monkeypatch.setattr("tui_lab.core.job_client.run_job", found.run_job)
    return found


def pane_of(app: LabApp) -> RetentionPane:
    assert isinstance(app.screen, RetentionPane)
    return app.screen


async def ready(app: LabApp) -> RetentionPane:
    await until(lambda: isinstance(app.screen, RetentionPane) and app.screen.report is not None)
    return pane_of(app)


async def test_without_a_run_it_says_how_to_get_one() -> None:
    app = LabApp(pane="retention")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "No run yet" in screen_text(app))
        await pilot.press("k", "K", "w", "b")
        await until(lambda: said(app, "No run yet"))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_the_verdict_the_table_and_what_next(size: tuple[int, int], own_folders: Path) -> None:
    made.make_run()
    app = LabApp(pane="retention")
    async with app.run_test(size=size) as pilot:
        await ready(app)
        await until(lambda: "✗ forgotten" in screen_text(app))
        for part in (
            "At most 46.5% of what it knew above chance is kept",
            "acquisition 0.10 → 0.90",
            "Next: Measure the strength curve (K)",
            "nature",
        ):
            await until(lambda: part in screen_text(app), what=part)  # noqa: B023
        if size[0] < 100:
            await pilot.press("t")
        await until(lambda: "2. Train again with" in screen_text(app))
        if size[0] > 100:  # everything at once
            parts = (
                "90% threshold",
                "Flipped: 1 lost, 1 gained",
                "Retention over steps",
                "at several strengths",
            )
            for part in parts:
                await until(lambda: part in screen_text(app), what=part)  # noqa: B023


async def test_the_gain_is_told_in_one_line_and_nothing_is_advised_that_cannot_be(own_folders: Path) -> None:
    run = made.make_run(preset="minute")
    (run.path / "retention" / "everyday.json").unlink()
    (run.path / "adapter").rmdir()
    app = LabApp(pane="retention")
    async with app.run_test(size=(80, 24)):
        await ready(app)
        await until(lambda: "This run ended without saving" in screen_text(app))
        await until(lambda: "The last probe" in screen_text(app))
        text = screen_text(app)
        assert "acquisition 0.10 → 0.90" in text and "Measure retention" not in text


async def test_a_flip_is_opened_and_the_next_one_after_it(own_folders: Path) -> None:
    made.make_run()
    app = LabApp(pane="retention")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await ready(app)
        await pilot.press("t", "t", "enter")
        await until(lambda: isinstance(app.screen, ItemView))
        assert "taken before" in screen_text(app)
        assert "Item 1 of 2" in screen_text(app)
        await pilot.press("right")
        await until(lambda: "Item 2 of 2" in screen_text(app))
        await pilot.press("escape")
        pane.action_tab("suites")
        await pilot.press("down", "down", "enter")
        await until(lambda: "No item flipped" in screen_text(app), what="numbers kept everything")


async def test_the_plots_of_a_run(own_folders: Path, jobs: Jobs) -> None:
    run = made.make_run()
    made.make_run(name="other", gain=(0.0, 0.5))
    points = [
        {"strength": s, "acquisition": s, "retention": made.figure(1 - s / 2), "verdict": "amber"}
        for s in (0.0, 0.5, 1.0)
    ]
    strength = {
        "v": 1,
        "points": points,
        "recommended": {"strength": 0.5, "reason": "it keeps"},
        "keep": 0.95,
    }
    made.save(run.path / "retention" / "strength.json", strength)
    app = LabApp(pane="retention", run_id="")
    app.set_reactive(LabApp.run_id, run.id)
    async with app.run_test(size=(200, 60)) as pilot:
        pane = await ready(app)
        await until(lambda: len(pane.points) == 2)
        plots = {plot.kind: plot for plot in pane.query(RetentionPlot)}
        await until(lambda: "retention" in plots["curve"].text)
        await until(lambda: "acquisition" in plots["strength"].text and "this run" in plots["runs"].text)
        await pilot.press("right", "right")
        await until(
            lambda: "at 0.5" in plots["strength"].text and "acquisition 0.5" in plots["strength"].text
        )
        pane.activate("runs")  # a click on its plot, or its tab in a small window
        await pilot.press("left")
        assert [plots[kind].options.cursor for kind in ("strength", "runs")] == [0.5, 0.5]
        await pilot.press("escape")
        assert all(math.isnan(plot.options.cursor) for plot in plots.values())
        await pilot.press("w")
        await until(lambda: len(jobs.requests) == 1)
        assert jobs.requests[0][1] == {"run": run.id, "save": 0.5}, "the recommended one"


async def test_measuring_asks_for_a_suite_and_shows_what_was_found(own_folders: Path, jobs: Jobs) -> None:
    run = made.make_run()
    app = LabApp(pane="retention")

    def measure(request: dict[str, Any]) -> None:
        (suite,) = request["suites"]
        made.save(run.path / "retention" / f"{suite}.json", made.result(suite, "green"))

    jobs.does = measure
    (run.path / "retention" / "everyday.json").unlink()
    async with app.run_test(size=(200, 60)) as pilot:
        await ready(app)
        assert screen_text(app).count("Nothing is measured yet") == 3, "verdict, suites and flips"
        assert "no run yet" not in screen_text(app)
        await pilot.press("k")
        await until(lambda: isinstance(app.screen, Pick))
        assert "everyday" in screen_text(app)
        await pilot.press("enter")
        await until(lambda: "✓ kept" in screen_text(app))
        ((module, request),) = jobs.requests
        assert module == "tui_lab.evaluation.evaluate"
        assert (request["run"], request["suites"]) == (run.id, ["everyday"])
        await until(lambda: "Next: Export this run (e)" in screen_text(app))
        await pilot.press("K")
        await until(lambda: len(jobs.requests) == 2)
        assert jobs.requests[1][0] == "tui_lab.evaluation.strength_sweep"


async def test_a_measurement_shows_its_progress_and_can_be_ended(own_folders: Path, jobs: Jobs) -> None:
    made.make_run()
    jobs.waits = True
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("k", "enter")
        await until(lambda: "measuring everyday: scoring: 3 of 10" in screen_text(app))
        await pilot.press("K")
        await until(lambda: said(app, "is in progress"))
        await pilot.press("x")
        await until(lambda: "scoring" not in screen_text(app))
        assert len(jobs.requests) == 1


async def test_a_measurement_that_fails_is_one_sentence(own_folders: Path, jobs: Jobs) -> None:
    made.make_run()
    jobs.error = "the suite [b]x[/b] has no answers"
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("K")
        await until(lambda: said(app, "the suite [b]x[/b] has no answers"))
        assert "At most 46.5%" in screen_text(app), "earlier results stay"


async def test_another_run_is_chosen_and_a_run_without_weights_is_not_measured(
    own_folders: Path, jobs: Jobs
) -> None:
    first = made.make_run(name="first")
    second = made.make_run(name="second", verdict="green")
    for run in (first, second):
        (run.path / "adapter").rmdir()
    app = LabApp(pane="retention")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        await pilot.press("r")
        await until(lambda: isinstance(app.screen, RunList))
        await until(lambda: app.screen.query_one(OptionList).option_count == 2)
        await pilot.press("slash", *"no-such-run")
        await until(lambda: "No run matches the filter" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: app.screen.query_one(OptionList).option_count == 2)
        await pilot.press("down", "enter")
        await until(lambda: isinstance(app.screen, RetentionPane))
        shown = pane_of(app).report
        assert shown is not None
        await pilot.press("K")
        await until(lambda: said(app, "ended without saving: R on Train resumes it"))
        assert not jobs.requests
        line_of_keys = screen_text(app).rstrip().splitlines()[-1]
        assert "r Other run" in line_of_keys and "Measure" not in line_of_keys
        assert open_run(app.run_id).recipe().model == "pocket"
        assert json.loads((second.path / "retention" / "everyday.json").read_text())["suite"] == "everyday"


async def test_the_pane_follows_its_run_to_the_end(own_folders: Path) -> None:
    run = create(Recipe(model="pocket", data="support"))
    log = EventWriter(run.events_path)
    log.write(StartedEvent(pid=1))
    lock = RunLock.take(run)
    app = LabApp(pane="retention")
    async with app.run_test(size=(80, 24)):
        await ready(app)
        await until(lambda: "Nothing saved yet" in screen_text(app))
        (run.path / "adapter").mkdir()
        (run.path / "retention").mkdir()
        made.save(run.path / "retention" / "everyday.json", made.result())
        log.write(EndEvent(state="finished", step=9))
        log.close()
        lock.release()
        await until(lambda: "✗ forgotten" in screen_text(app) and "Nothing saved" not in screen_text(app))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_line_of_runs_has_its_table_and_is_measured(
    size: tuple[int, int], own_folders: Path, jobs: Jobs
) -> None:
    first = made.make_run()
    last = made.make_run(name="b", from_run=str(first.path))
    app = LabApp(pane="retention", run_id="")
    async with app.run_test(size=size) as pilot:
        pane = await ready(app)
        assert pane.report is not None and pane.report.run.id == last.id
        if size == (80, 24):
            pane.action_tab("stages")
        await until(lambda: "backward transfer" in " ".join(screen_text(app).split()))
        # the same task twice: what each run recorded of its own task comes first
        for row in ("base 0.100 0.100", "stage 1 0.900 0.100", "stage 2 0.900 0.900"):
            await until(lambda row=row: row in " ".join(screen_text(app).split()), what=row)  # type: ignore[misc]
        await pilot.press("k")
        await until(lambda: isinstance(app.screen, Pick))
        await pilot.press("end", "up", "enter")  # the last line asks for a file
        await until(lambda: bool(jobs.requests))
        assert jobs.requests[0] == ("tui_lab.evaluation.stage_scores", {"run": str(last.path)})
        app.run_id = first.id
        await until(lambda: pane.report is not None and pane.report.run.id == first.id)
        await until(lambda: pane.query_one("#stages").has_class("-absent"))
