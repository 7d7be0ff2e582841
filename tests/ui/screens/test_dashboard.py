"""The dashboard: what matters at every size, tiles that keep the focus and lead to their panes, commands as
on Tune, and who reads the run."""

from __future__ import annotations

import pytest

from tests.ui.helpers import said, screen_text, until
from tests.ui.screens.test_playground import PaperHost
from tests.ui.screens.test_train import FakeRun, commands_of, fake, words  # noqa: F401
from tui_lab.core.settings import Settings
from tui_lab.runs.schema import SampleEvent
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.dashboard import DashboardPane
from tui_lab.ui.screens.train import TunePane
from tui_lab.ui.widgets.run_plots import RunPlot
from tui_lab.ui.widgets.tab_bar import TabBar
from tui_lab.ui.widgets.tile import Tile

BOARD = Settings(pane="dashboard")


def begun(fake: FakeRun) -> None:  # noqa: F811
    fake.begin()
    for step in range(1, 6):
        fake.step(step, 8.0 / step)
    fake.events.write(SampleEvent(step=5, prompt="Where is the key?", text="Arr, below the mat."))


def pane(app: LabApp) -> DashboardPane:
    assert isinstance(app.screen, DashboardPane)
    return app.screen


def opened(app: LabApp) -> list[str]:
    return [str(tile.id) for tile in app.screen.query(Tile) if tile.display and not tile.has_class("-closed")]


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40), (160, 45), (300, 80)])
async def test_what_matters_is_there_at_every_size(fake: FakeRun, size: tuple[int, int]) -> None:  # noqa: F811
    begun(fake)
    app = LabApp(settings=BOARD)
    async with app.run_test(size=size) as pilot:
        await until(lambda: "5/20 steps" in screen_text(app) and "1.6 at step 5" in screen_text(app))
        text = screen_text(app)
        for words in ("▶ running", "to go", "▸ Loss", "Retention", "Memory", "Lane", "below the mat"):
            assert words in text, words
        await until(lambda: "train" in app.screen.query_one("#loss RunPlot", RunPlot).text)
        if size[0] < 100:
            assert opened(app) == ["loss"]
            await pilot.press("down", "down")
            assert opened(app) == ["lane"]
            await until(lambda: "Where is the key?" in screen_text(app))
        else:
            assert opened(app) == [
                "loss",
                "retention",
                "lane",
                "memory",
                *(["events"] if size[0] >= 160 else []),
            ]
            assert "Where is the key?" in text and "memory" in text


async def test_a_tile_keeps_the_focus_through_all_sizes_and_leads_to_its_pane(fake: FakeRun) -> None:  # noqa: F811
    begun(fake)
    app = LabApp(settings=BOARD)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "5/20 steps" in screen_text(app))
        await pilot.press("left")
        assert app.focused is pane(app).query_one("#memory")
        for size in ((60, 18), (200, 60), (40, 10), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert app.focused is pane(app).query_one("#memory") and opened(app) == ["memory"]
        await pilot.press("space", "k")
        await until(lambda: commands_of(fake.run) == ["pause", "checkpoint"])
        await pilot.press("enter")
        await until(
            lambda: isinstance(app.screen, TunePane) and app.screen.query_one(TabBar).active == "memory"
        )
        await pilot.press("6")
        await until(lambda: isinstance(app.screen, DashboardPane))
        assert app.focused is pane(app).query_one("#memory")


async def test_without_a_run_it_says_what_to_press() -> None:
    app = LabApp(settings=Settings(pane="dashboard", keys={"choose.start": "z"}))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "F2 goes to Choose, where z starts one" in words(app))
        await pilot.press("i", "enter", "down", "space", "x")
        await pilot.press("f7")


async def test_only_the_pane_that_is_shown_reads_the_run(fake: FakeRun) -> None:  # noqa: F811
    begun(fake)
    app = LabApp(settings=BOARD)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "5/20 steps" in screen_text(app))
        board = pane(app)
        await pilot.press("f3")
        await until(lambda: isinstance(app.screen, TunePane) and "5/20 steps" in screen_text(app))
        assert board.watcher is not None
        read, builds = board.watcher.state.version, [plot.builds for plot in board.query(RunPlot)]
        fake.step(6, 1.0)
        await until(lambda: "6/20 steps" in screen_text(app))
        board._poll()
        assert board.watcher.state.version == read
        assert [plot.builds for plot in board.query(RunPlot)] == builds
        await pilot.press("f7")
        await until(lambda: "6/20 steps" in screen_text(app))


async def test_a_question_streams_its_answer_and_the_samples_come_back(fake: FakeRun) -> None:  # noqa: F811
    begun(fake)
    app = LabApp(settings=BOARD)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "5/20 steps" in screen_text(app))
        paper = PaperHost(lambda status: setattr(app, "host_status", status), "a wise answer")
        app._host = paper  # type: ignore[assignment]
        await pilot.press("i")
        assert "the base model (the run has saved nothing yet)" in words(app)
        await pilot.press(*"Why", "enter")
        await until(lambda: "a wise answer" in screen_text(app) and "token limit" in screen_text(app))
        assert paper.loaded == ["pocket"] and [ask.prompt for ask in paper.asks] == ["Why"]
        assert opened(app) == ["lane"] and "greedy on base" in words(app)
        await pilot.press("escape")
        await until(lambda: "below the mat" in screen_text(app) and "a wise answer" not in screen_text(app))
        paper.error = "the host has no memory left"
        await pilot.press("i", "enter")
        await until(lambda: said(app, "no memory left"))
