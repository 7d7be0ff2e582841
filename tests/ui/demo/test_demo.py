"""The demo, played in the lab: every chapter is shown, captions say what the logs and results say, its keys
work, and what cannot be had comes from the recording, labelled."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.ui.demo import recorded_demo
from tests.ui.helpers import said, screen_text, until
from tui_lab.playground.messages import HostStatus
from tui_lab.runs import folder
from tui_lab.ui.demo import app as demo
from tui_lab.ui.demo import recording
from tui_lab.ui.demo import runs as demo_parts
from tui_lab.ui.demo.app import DemoApp
from tui_lab.ui.demo.caption import CaptionBar
from tui_lab.ui.demo.player import Player
from tui_lab.ui.demo.recorded_host import RecordedHost
from tui_lab.ui.demo.script import CHAPTERS

TITLES = [chapter.title for chapter in CHAPTERS]
PACE = 60.0


@pytest.fixture
def found(tmp_path: Path, own_folders: Path) -> recording.Recording:
    (tmp_path / "recorded").mkdir()
    own_folders.mkdir(parents=True, exist_ok=True)
    return recording.read(recorded_demo.make(tmp_path / "recorded"))


def titles(app: DemoApp) -> list[str]:
    return list(dict.fromkeys(said.title for said in app.player.told))


def captions(app: DemoApp) -> str:
    return "\n".join(said.text for said in app.player.told)


async def test_the_replay_tells_the_whole_story_from_the_recording(found: recording.Recording) -> None:
    app = DemoApp(found, live=False, pace=PACE)
    async with app.run_test(size=(80, 24)) as pilot:
        while not app.player.over:
            await pilot.pause(0.05)
        await until(lambda: "the demo is over" in screen_text(app))
        assert "replay" not in screen_text(app).splitlines()[0].lower() or "✓" in screen_text(app)
        points = {run.id for run in folder.list_runs()}
        assert points == {run.id for run in found.runs.values()}, "both lie beside each other"
        app.player.close(leave_running=False)
    assert folder.list_runs() == [], "a replay leaves nothing"
    assert titles(app) == TITLES, "every chapter was told, in order"
    said = captions(app)
    assert "exact answers 0.11 → 0.83" in said
    assert "44% is left" in said and "✗ forgotten" in said
    assert "✓ kept: 96% left, naive 44%. It gained +0.67, naive +0.72." in said
    assert "The base says “␛[2Jmeow [red]”, the tuned model “Lima”." in said, (
        "hostile answers are quoted safely"
    )
    label = "recorded earlier, 2026-01-02, a slow ␛[31mmachine"
    for each in app.player.told:
        assert each.label == ("" if each.title in ("Choose", "Yours") else label), each


async def test_its_keys_hold_it_leap_and_leave(found: recording.Recording, own_folders: Path) -> None:
    app = DemoApp(found, live=False, pace=1.0)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.screen.query(CaptionBar) and "tunes small" in screen_text(app))
        await pilot.press("space")
        at, number = app.player._time_s, app.player.number
        await pilot.pause(0.4)
        assert app.player.held and app.player._time_s == at, "time stands still"
        assert "goes on" in screen_text(app)
        await pilot.press("space")
        await until(lambda: app.player._time_s > at)
        await pilot.press("right")
        await until(lambda: app.player.number == number + 1)
        await until(lambda: app.player.parts["naive"].recorded)
        await pilot.press("p")
        await until(lambda: app.player.number == number)
        await pilot.press("m")  # the lab's own: the list of models
        assert app.player.held, "any other key holds the demo"
        await until(lambda: app.screen.query_one("#models").has_class("-active"))
        await pilot.press("f3")
        await until(lambda: app.pane == "tune")
        await pilot.resize_terminal(50, 15)
        await until(lambda: "needs at least" in screen_text(app))
        await pilot.resize_terminal(120, 40)
        await until(lambda: "held" in screen_text(app).splitlines()[-2])
        await pilot.press("space")
        assert not app.player.held, "space is the demo's on Tune, too"
        await pilot.press("Q")  # the letter that the caption shows
        await until(lambda: not app.is_running)
    app.player.close(leave_running=False)


async def test_in_a_text_field_keys_are_text_while_it_is_held(
    found: recording.Recording, own_folders: Path
) -> None:
    app = DemoApp(found, live=False, pace=1.0)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.screen.query(CaptionBar))
        await pilot.press("f4")
        await until(lambda: getattr(app.screen, "GROUP", "") == "compare" and app.focused is not None)
        assert app.player.held
        await pilot.press("n", "space", "q")
        field: Any = app.screen.query_one("#prompt")
        await until(lambda: field.text.endswith("n q"))
        await pilot.press("escape", "space")
        assert not app.player.held, "out of the field the keys are the demo's again"
        app.exit()
    app.player.close(leave_running=False)


async def test_a_part_that_fails_is_said_and_the_story_goes_on(
    found: recording.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(player: Player, name: str) -> None:
        raise RuntimeError("\x1bno such lane")

    monkeypatch.setattr(Player, "_ask", fails)
    app = DemoApp(found, live=False, pace=PACE)
    async with app.run_test(size=(80, 24), notifications=True):
        await until(lambda: said(app, "this part cannot be shown: RuntimeError: ␛no such lane"))
        await until(lambda: app.player.over)
    app.player.close(leave_running=False)
    assert titles(app) == TITLES


async def test_space_holds_and_goes_on_where_a_text_field_has_the_focus(
    found: recording.Recording, own_folders: Path
) -> None:
    app = DemoApp(found, live=False, pace=1.0)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.screen.query(CaptionBar))
        await pilot.press("right")
        await until(lambda: app.player.number == 1)
        await pilot.press("right")
        await until(lambda: getattr(app.screen, "GROUP", "") == "compare" and app.focused is not None)
        await pilot.press("space")
        assert app.player.held and not app.player.typing
        field: Any = app.screen.query_one("#prompt")
        before = field.text
        await pilot.press("space")
        assert not app.player.held and field.text == before
        await pilot.press("x", "space")
        assert app.player.held and "x " in field.text, "whoever types has the keys"
        await until(lambda: "Esc" in screen_text(app).splitlines()[-2])
        await pilot.press("escape", "space")
        assert not app.player.held
        app.exit()
    app.player.close(leave_running=False)


class Answers(RecordedHost):
    """What a live demo saves answers with, over recorded ones."""

    def save(self, path: Path) -> None:
        path.write_text("".join(json.dumps(each) + "\n" for each in self._answers), encoding="utf-8")


def live(found: recording.Recording, monkeypatch: pytest.MonkeyPatch) -> DemoApp:
    """A live demo whose runs are small processes without a model and whose measurements are made up."""

    async def run_job(module: str, request: dict[str, Any], progress: Any) -> dict[str, Any]:
        assert module == "tui_lab.evaluation.evaluate" and request["suites"] == ["everyday"]
        progress("asking", 3, 9)
        run = folder.open_run(request["run"])
        (run.path / "retention").mkdir(exist_ok=True)
        name = run.recipe().preset
        path = run.path / "retention" / "everyday.json"
        path.write_text(json.dumps(recorded_demo.result(name)), encoding="utf-8")
        return {}

    monkeypatch.setattr("tui_lab.core.job_client.run_job", run_job)
    monkeypatch.setattr(demo_parts, "CHANGES", {name: {"max_steps": 12} for name in ("naive", "keeper")})
    app = DemoApp(found, live=True, pace=PACE)
    app._host = app.live_host = Answers(found.answers, app._host_changed, app.player.wait)  # type: ignore
    return app


async def test_a_live_demo_trains_both_runs_and_leaves_a_recording(
    found: recording.Recording, fake_worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = live(found, monkeypatch)
    async with app.run_test(size=(120, 40)) as pilot:
        while not app.player.over:
            assert app.player.said.label == "", "nothing of it is recorded"
            await pilot.pause(0.05)
    assert titles(app) == TITLES
    said = captions(app)
    assert "exact answers 0.25 → 0.75, in 2 s" in said, "as the run's log says"
    assert "44% is left (39% to 49%, 100 questions): ✗ forgotten" in said
    assert "It gained +0.50 and naive +0.50; it kept 96% and naive 44%." in said
    runs = folder.list_runs()
    assert sorted(run.recipe().preset for run in runs) == ["keeper", "naive"]
    demo.save(app, runs[0].path.parent.parent)
    made = recording.read(runs[0].path.parent.parent)
    assert {name: run.id for name, run in made.runs.items()} == {run.recipe().preset: run.id for run in runs}
    recording.pack(runs[0].path.parent.parent, tmp_path / "made.zip")
    again = recording.unpack(tmp_path / "again", tmp_path / "made.zip")
    assert len(again.answers) == 3 and again.runs["naive"].events_path.read_bytes()
    app.player.close(leave_running=False)


async def test_a_run_that_fails_is_one_sentence_and_the_recording_takes_its_place(
    found: recording.Recording, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_END", "crash")
    app = live(found, monkeypatch)
    async with app.run_test(size=(100, 30)):
        await until(lambda: "exact answers 0.11 → 0.83" in captions(app), 60)
        app.exit()
    assert app.player.parts["naive"].problem == "the run ended: a last word ␛[2J"
    assert any(said.label.startswith("recorded earlier") for said in app.player.told)
    app.player.close(leave_running=False)


async def test_a_run_that_is_too_slow_is_ended_and_recorded(
    found: recording.Recording, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.3")
    app = live(found, monkeypatch)
    monkeypatch.setattr(demo_parts, "JUDGED_AFTER_S", 0.3)
    monkeypatch.setattr(demo_parts, "CHANGES", {"naive": {"max_steps": 1_000}})
    part = app.player.parts["naive"]
    async with app.run_test(size=(100, 30)):
        await until(lambda: part.recorded, what=f"{part.too_slow()}")
        assert part.problem.startswith("this machine would take 5:0"), part.problem
        await until(lambda: app.player.said.label.startswith("recorded earlier, 2026-01-02"))
        await until(lambda: all(process.poll() is not None for process in part._spent))
        app.exit()
    app.player.close(leave_running=False)


async def test_without_a_recording_a_failed_run_does_not_end_the_demo(
    found: recording.Recording, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_END", "failed")
    app = live(found, monkeypatch)
    app.player.recording = None
    monkeypatch.setattr("tui_lab.ui.demo.player.ANSWERS_S", 0.5)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.player.parts["naive"].problem, 60)
        app._play_from(TITLES.index("Forget"))
        while not app.player.over:
            app.player._time_s += 6.0  # its patience is a minute
            await pilot.pause(0.05)
    assert app.player.parts["naive"].problem == "there is no recording"
    assert titles(app)[-1] == TITLES[-1] and "is left" not in captions(app)


async def test_recorded_answers_stop_and_refuse_what_was_not_recorded(found: recording.Recording) -> None:
    async def wait(seconds: float) -> None:
        await asyncio.sleep(0)

    heard: list[HostStatus] = []
    host = RecordedHost(found.answers, heard.append, wait)
    await host.load("pocket")
    assert host.status.loaded and host.status.text == "recorded earlier"
    from tui_lab.core.errors import LabError
    from tui_lab.playground.messages import GenerateRequest

    with pytest.raises(LabError, match="not in the recording"):
        await host.generate(GenerateRequest("Something else", ("greedy",)), lambda event: None)
    answer = found.answers[0]
    done = await host.generate(
        GenerateRequest(answer["prompt"], tuple(answer["lanes"])), lambda event: host.stop()
    )
    assert len(done) < 6, "stopping ends it"


def test_the_demo_keeps_to_its_own_folders(tmp_path: Path, own_folders: Path) -> None:
    with demo.place(None) as place:
        assert folder.runs_dir() == place / "runs"
    assert folder.runs_dir() == own_folders and not place.exists()
    with demo.place(tmp_path / "kept") as place:
        assert folder.runs_dir() == tmp_path / "kept" / "runs"
    assert (tmp_path / "kept" / "runs").is_dir()
