"""The demo in the lab: a replay and a live demo show every chapter with the values of their logs, its keys
work, and a run that fails or is slow is reported."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import TextArea

from tests.ui.demo import recorded_demo
from tests.ui.helpers import said, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.playground.messages import GenerateRequest, PlaygroundStatus
from tui_lab.runs import folder
from tui_lab.ui.demo import app as demo
from tui_lab.ui.demo import recording
from tui_lab.ui.demo import runs as demo_runs
from tui_lab.ui.demo.app import DemoApp
from tui_lab.ui.demo.caption import CaptionBar
from tui_lab.ui.demo.player import Player
from tui_lab.ui.demo.recorded_client import RecordedClient, RecordingClient
from tui_lab.ui.demo.script import CHAPTERS

#: A replay shows the recorded status of the playground, which the pane asks for when it warms up.
pytestmark = pytest.mark.usefixtures("warm_up")

TITLES = [chapter.title for chapter in CHAPTERS]
PACE = 60.0


@pytest.fixture
def found(tmp_path: Path, own_folders: Path) -> recording.Recording:
    (tmp_path / "recorded").mkdir()
    own_folders.mkdir(parents=True, exist_ok=True)
    return recording.read(recorded_demo.make(tmp_path / "recorded"))


def titles(app: DemoApp) -> list[str]:
    return list(dict.fromkeys(caption.title for caption in app.player.shown))


def captions(app: DemoApp) -> str:
    return "\n".join(caption.text for caption in app.player.shown)


async def test_a_replay_shows_every_chapter_from_the_recording(found: recording.Recording) -> None:
    app = DemoApp(found, pace=PACE)
    async with app.run_test(size=(80, 24), notifications=True):
        await until(lambda: app.player.is_over, 60)
        assert not said(app, "failed")
        await until(lambda: "the demo is over" in screen_text(app))
        shown = {run.id for run in folder.list_runs()}
        assert shown == {run.id for run in found.runs.values()}, "the playbacks are in one folder"
        app.player.close()
    assert folder.list_runs() == [], "a replay leaves nothing behind"
    assert titles(app) == TITLES
    text = captions(app)
    assert "Acquisition: 0.11 → 0.83" in text
    assert "Retention is 44% (" in text and "✗ forgotten" in text
    assert "✓ kept: retention 96%, naive 44%. Acquisition: +0.67, naive +0.72." in text
    assert "The base says “␛[2Jmeow [red]”, the tuned model “Lima”." in text, "answers are sanitized"
    label = "recorded earlier, 2026-01-02, a slow ␛[31mmachine"
    for caption in app.player.shown:
        assert caption.label == ("" if caption.title in (TITLES[0], TITLES[-1]) else label), caption


async def test_keys_pause_change_the_chapter_and_quit(found: recording.Recording) -> None:
    app = DemoApp(found)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.screen.query(CaptionBar) and "fine-tunes small" in screen_text(app))
        await pilot.press("space")
        time_s, number = app.player.time_s, app.player.number
        app.player.tick()
        assert app.player.is_paused and app.player.time_s == time_s
        await until(lambda: "continues" in screen_text(app))
        await pilot.press("space")
        await until(lambda: app.player.time_s > time_s)
        await pilot.press("right")
        await until(lambda: app.player.number == number + 1)
        await until(lambda: app.player.runs["naive"].replay is not None)
        await pilot.press("p")
        await until(lambda: app.player.number == number)
        await pilot.press("m")  # a key of the lab: the list of models
        assert app.player.is_paused, "any other key pauses the demo"
        await until(lambda: app.screen.query_one("#models").has_class("-active"))
        await pilot.press("f3")
        await until(lambda: app.pane == "train")
        await pilot.resize_terminal(50, 15)
        await until(lambda: "needs at least" in screen_text(app))
        await pilot.resize_terminal(120, 40)
        await until(lambda: "paused" in screen_text(app).splitlines()[-2])
        await pilot.press("space")
        assert not app.player.is_paused, "Space is the demo's key on Train, too"
        await pilot.press("Q")  # the letter in the caption bar
        await until(lambda: not app.is_running)
    app.player.close()


async def test_keys_are_text_only_after_the_user_took_over_a_text_field(found: recording.Recording) -> None:
    app = DemoApp(found)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.screen.query(CaptionBar))
        for number in (1, 2):
            await pilot.press("right")
            await until(lambda number=number: app.player.number == number)
        await until(lambda: getattr(app.screen, "GROUP", "") == "playground" and app.focused is not None)
        field = app.screen.query_one("#prompt", TextArea)
        await pilot.press("space")
        assert app.player.is_paused and not app.player.is_typing, "the prompt has the focus by itself"
        before = field.text
        await pilot.press("space")
        assert not app.player.is_paused and field.text == before
        await pilot.press("x", "n", "space", "q")
        assert app.player.is_paused
        await until(lambda: "xn q" in field.text)
        await until(lambda: "Esc" in screen_text(app).splitlines()[-2])
        await pilot.press("escape", "space")
        assert not app.player.is_paused, "outside of the field keys are the demo's again"
        app.exit()
    app.player.close()


async def test_a_beat_that_fails_shows_a_message_and_the_story_continues(
    found: recording.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(player: Player, name: str) -> None:
        raise RuntimeError("\x1bno such lane")

    monkeypatch.setattr(Player, "_ask", fails)
    app = DemoApp(found, pace=PACE)
    async with app.run_test(size=(80, 24), notifications=True):
        await until(lambda: said(app, "this part failed: RuntimeError: ␛no such lane"))
        await until(lambda: app.player.is_over, 60)
    app.player.close()
    assert titles(app) == TITLES


class Recorder(RecordedClient, RecordingClient):
    """Recorded answers in a live demo, which saves them."""

    def save(self, path: Path) -> None:
        self.answers = list(self._answers)
        super().save(path)


def live_demo(found: recording.Recording, monkeypatch: pytest.MonkeyPatch) -> DemoApp:
    """A live demo with runs of small processes without a model, and made-up measurements."""

    async def run_job(module: str, request: Any, progress: Any, *more: Any, **options: Any) -> dict[str, Any]:
        assert module == "tui_lab.evaluation.evaluate" and request["suites"] == ["everyday"]
        progress("asking", 3, 9)
        run = folder.open_run(request["run"])
        (run.path / "retention").mkdir(exist_ok=True)
        path = run.path / "retention" / "everyday.json"
        path.write_text(json.dumps(recorded_demo.result(run.recipe().preset)), encoding="utf-8")
        return {}

    monkeypatch.setattr("tui_lab.core.job_client.run_job", run_job)
    monkeypatch.setattr(demo_runs, "OVERRIDES", {name: {"max_steps": 12} for name in ("naive", "keeper")})
    app = DemoApp(pace=PACE)
    app.recorder = Recorder(found.answers, app.playground.changed, app.player.wait)
    app.playground.client = app.recorder
    return app


async def test_a_live_demo_trains_both_runs_and_leaves_a_recording(
    found: recording.Recording, fake_worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = live_demo(found, monkeypatch)
    async with app.run_test(size=(120, 40)):
        await until(lambda: app.player.is_over, 120)
    assert titles(app) == TITLES
    assert not any(caption.label for caption in app.player.shown), "nothing of it is recorded"
    text = captions(app)
    assert "Acquisition (right answers): 0.25 → 0.75, in 2 s" in text
    assert "Retention above guessing is 44% (39% to 49%, 100 questions): ✗ forgotten" in text
    assert "Acquisition rose by +0.50, naive +0.50; retention is 96%, naive 44%." in text
    runs = folder.list_runs()
    assert sorted(run.recipe().preset for run in runs) == ["keeper", "naive"]
    kept = runs[0].path.parent.parent
    demo.save(app, kept)
    made = recording.read(kept)
    assert {name: run.id for name, run in made.runs.items()} == {run.recipe().preset: run.id for run in runs}
    recording.pack(kept, tmp_path / "made.zip")
    again = recording.unpack(tmp_path / "again", tmp_path / "made.zip")
    assert len(again.answers) == 3 and again.runs["naive"].events_path.read_bytes()
    app.player.close()


async def test_a_failed_run_is_reported_and_its_beats_are_skipped(
    found: recording.Recording, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_END", "crash")
    app = live_demo(found, monkeypatch)
    async with app.run_test(size=(100, 30), notifications=True):
        await until(lambda: app.player.runs["naive"].problem, 60)
        await until(lambda: said(app, "`tui-lab demo --replay` plays a recording instead"))
        app.play_from(TITLES.index("Forgetting"))
        await until(lambda: app.player.is_over, 60)
    assert app.player.runs["naive"].problem == "the run ended: a last word ␛[2J"
    assert titles(app)[-1] == TITLES[-1] and "knew above guessing" not in captions(app)
    app.player.close()


async def test_a_slow_run_is_reported_once_and_awaited(
    found: recording.Recording, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.3")
    app = live_demo(found, monkeypatch)
    monkeypatch.setattr(demo_runs, "ETA_AFTER_S", 0.3)
    monkeypatch.setattr(demo_runs, "OVERRIDES", {"naive": {"max_steps": 1_000}})
    run = app.player.runs["naive"]
    async with app.run_test(size=(100, 30), notifications=True):
        await until(lambda: said(app, "naive takes about 5:0"))
        process = run.process
        assert run.is_reported_slow and process is not None and not run.problem
        app.exit()
    app.end_processes()
    assert process.poll() is not None, "its process ends with the demo"


async def test_the_recorded_client_stops_and_refuses_other_prompts(found: recording.Recording) -> None:
    async def wait(seconds: float) -> None:
        await asyncio.sleep(0)

    statuses: list[PlaygroundStatus] = []
    client = RecordedClient(found.answers, statuses.append, wait)
    await client.load("pocket")
    await client.add("tuned", "a run")
    assert (
        client.status.loaded
        and client.status.text == "recorded earlier"
        and client.location("tuned") == "a run"
    )
    with pytest.raises(LabError, match="not in the recording"):
        await client.generate(GenerateRequest("Something else", ("greedy",)), lambda event: None)
    answer = found.answers[0]
    done = await client.generate(GenerateRequest(answer.prompt, answer.lanes), lambda event: client.stop())
    assert len(done) < 6, "stopping ends it"
    done = await client.generate(GenerateRequest(answer.prompt, answer.lanes), lambda event: None)
    assert [lane.perplexity_base for lane in done] == [1.5] * 6
    assert statuses[-1].state == "ready"


def test_the_demo_has_its_own_folders(tmp_path: Path, own_folders: Path) -> None:
    with demo.demo_folder(None) as place:
        assert folder.runs_dir() == place / "runs"
    assert folder.runs_dir() == own_folders and not place.exists()
    with demo.demo_folder(tmp_path / "kept") as place:
        assert folder.runs_dir() == tmp_path / "kept" / "runs"
    assert (tmp_path / "kept" / "runs").is_dir()
