"""A replay in the lab itself: the panes of a live run, the recording's clock, keys that act on the replay;
and the report from any pane."""

from __future__ import annotations

import pytest

from tests.runs.test_replay import Clock, everything, recorded
from tests.ui.helpers import said, screen_text, until
from tests.ui.sample_runs import make_run, result, save
from tui_lab.runs.replay import Replay
from tui_lab.ui.app import LabApp


async def test_a_recording_plays_through_the_panes_as_if_live() -> None:
    run, _ = recorded()
    (run.path / "retention").mkdir()
    save(run.path / "retention" / "everyday.json", result())
    before = everything(run.path)
    clock = Clock()
    with Replay(run, 10.0, clock=clock) as playing:
        app = LabApp(replay=playing)
        async with app.run_test(size=(160, 44)) as pilot:
            await until(lambda: "REPLAY ×10" in screen_text(app))
            clock.now += 1.0
            await until(lambda: "5/20 steps" in screen_text(app) and "▶ running" in screen_text(app))
            text = screen_text(app)
            assert f"{run.id} REPLAY ×10" in text.splitlines()[0], "every pane says so, with the run's name"
            assert "REPLAY ×10  ▶ running" in text and "0:10  0:30 left" in text, "times of the recording"
            await until(lambda: "+ Faster" in screen_text(app))
            await pilot.press("plus")
            await until(lambda: "REPLAY ×20" in screen_text(app))
            await pilot.press("space")
            await until(lambda: "paused" in screen_text(app).splitlines()[1])
            clock.now += 1.0
            await pilot.pause(0.2)
            assert playing.step == 5, "it is held"
            await pilot.press("space")
            await until(lambda: not playing.paused)
            for _ in range(6):
                clock.now += 1.0
                await pilot.pause(0.08)
            await until(lambda: "✓ finished" in screen_text(app))
            assert "20/20 steps" in screen_text(app)
            await pilot.press("R")
            await until(lambda: said(app, "`tui-lab resume` goes on with a run"))
            await pilot.press("W", "E")
            await until(
                lambda: said(app, f"`tui-lab report {run.id}`") and said(app, "export the run itself")
            )
            await pilot.press("f5")
            await until(lambda: "✗ forgotten" in screen_text(app))
            assert "REPLAY ×20" in screen_text(app).splitlines()[0]
            await pilot.press("k")
            await until(lambda: said(app, "measure the run itself"))
    assert everything(run.path) == before and not playing.run.path.exists()


async def test_a_replay_is_stopped_after_a_question_of_its_own() -> None:
    run, _ = recorded()
    clock = Clock()
    with Replay(run, 10.0, clock=clock) as playing:
        app = LabApp(replay=playing)
        async with app.run_test(size=(80, 24)) as pilot:
            clock.now += 1.0
            await until(lambda: "5/20 steps" in screen_text(app))
            await pilot.press("x")
            await until(lambda: "Stop the replay?" in screen_text(app))
            await pilot.press("Y")  # a capital does as well
            await until(lambda: playing.ended)
            await until(lambda: "■ stopped" in screen_text(app))
            assert f"`tui-lab resume {run.id}` resumes it" in screen_text(app)


@pytest.mark.parametrize("pane", ["f3", "f5"])
async def test_the_report_of_the_run_that_is_shown(pane: str) -> None:
    make_run(name="other")
    run = make_run(name="shown")
    app = LabApp(run_id=run.id)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press(pane)
        await until(lambda: getattr(app.screen, "run_shown", None) is not None)
        assert "Faster" not in screen_text(app), "a run has no speed"
        await pilot.press("W")
        await until(lambda: said(app, f"are in {run.path}"))
        assert "✗ forgotten" in (run.path / "report.md").read_text()
        assert (run.path / "report.html").is_file()


async def test_without_a_run_there_is_nothing_to_report() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("W")
        await until(lambda: said(app, "there are no runs in"))
