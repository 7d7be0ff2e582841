"""Train, fed with event logs written as a run writes them: live, finished, failed, crashed, hostile, long."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Button, OptionList

from tests.records import read_log
from tests.ui.helpers import said, screen_text, until
from tui_lab.recipes.recipe import Recipe
from tui_lab.report.charts import charts
from tui_lab.runs import launch
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock, create
from tui_lab.runs.schema import (
    ArmedEvent,
    CheckpointEvent,
    ChoiceEvent,
    CommandEvent,
    ContinuedEvent,
    DataEvent,
    EndEvent,
    ItemProbeEvent,
    KlProbeEvent,
    LadderEvent,
    ModelEvent,
    PausedEvent,
    PhaseEvent,
    PlanEvent,
    ProbePlanEvent,
    ProgressEvent,
    ResumedEvent,
    SampleEvent,
    SavedEvent,
    ScoreEvent,
    StartedEvent,
    StepEvent,
    ValidationEvent,
    WarningEvent,
)
from tui_lab.runs.state import Watcher
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.train import TrainPane
from tui_lab.ui.widgets.dialogs import Confirm
from tui_lab.ui.widgets.feed import Feed
from tui_lab.ui.widgets.run_list import RunList
from tui_lab.ui.widgets.run_plots import RunPlot


class FakeRun:
    """A run whose process is this test: it holds the lock and writes the log."""

    def __init__(self) -> None:
        self.run: Run = create(Recipe(preset="minute"))
        self.lock: RunLock | None = RunLock.take(self.run)
        self.events = EventWriter(self.run.events_path)

    def begin(self, total: int = 20) -> None:
        write = self.events.write
        write(ResumedEvent(from_step=0, attempt=1))
        write(
            StartedEvent(pid=1, host="here", versions={}, device={"type": "cpu", "name": "a CPU"}, threads=2)
        )
        write(PhaseEvent(name="loading_model", detail="pocket"))
        write(
            ChoiceEvent(field="quantization", value="nf4", reason="NF4 on a CPU because the recipe sets it")
        )
        write(
            ModelEvent(
                trainable=358_400, parameters=4_230_000, modules={"Linear4bit": 35}, quantized_modules=35
            )
        )
        write(DataEvent(train_rows=900, validation_rows=130, longest_tokens=46, duplicates=3))
        write(PlanEvent(total_steps=total, epochs=1.0))
        write(ValidationEvent(step=0, loss=8.5, rows=130, when="start"))
        write(ScoreEvent(step=0, name="manner", value=0.1, rows=64, when="start", examples=[]))
        write(PhaseEvent(name="training"))

    def step(self, step: int, loss: float, total: int = 20) -> None:
        self.events.write(
            StepEvent(step=step, epoch=step / total, loss=loss, learning_rate=1e-3, grad_norm=1.0,
            tokens=step * 500, tok_per_s=6500.0, step_time_s=0.1, eta_s=(total - step) * 0.1,
            memory={"resident": 700 << 20},
        ))  # fmt: skip

    def end(self, state: str = "finished", message: str = "") -> None:
        self.events.write(EndEvent(state=state, step=20, message=message, seconds=61.0, path="adapter"))
        self.die()

    def die(self) -> None:
        if self.lock is not None:
            self.lock.release()
            self.lock = None


@pytest.fixture
def fake() -> Iterator[FakeRun]:
    run = FakeRun()
    yield run
    run.die()


def pane(app: LabApp) -> TrainPane:
    assert isinstance(app.screen, TrainPane)
    return app.screen


def words(app: LabApp) -> str:
    return " ".join(screen_text(app).split())


def commands_of(run: Run) -> list[str]:
    return [str(record["name"]) for record in read_log(run.commands_path)]


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40), (200, 60)])
async def test_a_live_run_is_drawn_as_it_grows(fake: FakeRun, size: tuple[int, int]) -> None:
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=size):
        await until(lambda: "starting" in screen_text(app))
        fake.begin()
        await until(lambda: "running" in screen_text(app) and "training" in screen_text(app))
        for step in range(1, 11):
            fake.step(step, 8.0 / step)
        await until(lambda: "10/20 steps" in screen_text(app))
        await until(lambda: "train 0.8" in screen_text(app))
        text = screen_text(app)
        assert "0:01 left" in text and "loss 0.8" in text
        assert size[0] < 100 or "pocket · minute" in text
        assert size[0] < 80 or "10/20  ▶ running" in text
        assert "acquisition 0.10 before the training" in text
        if size[0] >= 120:  # everything at once
            for part in ("Memory", "Speed", "Learning rate", "Events", "Samples", "About this run"):
                assert part in text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_preference_run_has_charts_of_its_rewards(fake: FakeRun, size: tuple[int, int]) -> None:
    fake.begin()
    parts = {
        "reward_margin": 1.25, "reward_accuracy": 0.75,
        "chosen_log_probability": -20.0, "rejected_log_probability": -35.0,
    }  # fmt: skip
    for step in range(1, 4):
        fake.events.write(StepEvent(step=step, loss=0.5, parts=parts))
    fake.events.write(ValidationEvent(step=3, loss=0.7, rows=8, parts={**parts, "reward_accuracy": 0.625}))
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=size) as pilot:
        for shown in ("margin 1.25", "train 1.25", "0.625", "chosen -20", "rejected -35"):
            if size == (80, 24) and shown in ("train 1.25", "0.625", "chosen -20"):
                await pilot.press("t")
            await until(lambda shown=shown: shown in words(app), what=shown)  # type: ignore[misc]
        assert not pane(app).query_one("#speed").display and not pane(app).query_one("#rate").display
        plain = FakeRun()
        plain.begin()
        plain.step(1, 2.0)
        app.run_id = plain.run.id
        await until(lambda: not pane(app).has_class("-preferences") and "1/20" in screen_text(app))
        assert pane(app).query_one("#margin").has_class("-absent")
        plain.die()


async def test_a_run_that_learns_weights_of_tasks_has_their_chart(fake: FakeRun) -> None:
    fake.begin()
    for step, sigma in enumerate((1.0, 0.75, 0.5), 1):
        fake.events.write(StepEvent(step=step, loss=0.5, parts={"sigma easy": sigma, "sigma hard": 1.5}))
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)):
        await until(lambda: "easy 0.5" in words(app) and "hard 1.5" in words(app), what=screen_text(app))
        assert pane(app).query_one("#sigma").display and not pane(app).query_one("#rate").display
    chart = next(each for each in charts(Watcher(fake.run).read_all(), None) if each.id == "sigma")
    assert [series.name for series in chart.series] == ["easy", "hard"]


async def test_tabs_show_every_part_at_80x24(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, 2.0)
    fake.events.write(SampleEvent(step=1, prompt="Say hello.", text="Arr!"))
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "1/20 steps" in screen_text(app))
        for shown in (
            "model still knows",
            "distance from the base",
            "MiB",
            "tok/s 6.5k",
            "⠒⠒ lr",
            "Arr!",
            "validation loss 8.5",
            "358 k of 4.23 M",
        ):
            await pilot.press("t")
            await until(lambda shown=shown: shown in screen_text(app), what=shown)  # type: ignore[misc]
        await pilot.press("left_square_bracket")
        await until(lambda: "validation loss 8.5" in screen_text(app))


async def test_pause_checkpoint_and_go_on_are_asked_and_acknowledged(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, 2.0)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "running" in screen_text(app))
        await until(lambda: "Space Pause" in last_line(app))
        await pilot.press("space", "w")
        await until(lambda: "pause and checkpoint asked" in screen_text(app))
        asked = read_log(fake.run.commands_path)
        assert [record["name"] for record in asked] == ["pause", "checkpoint"]
        for record in asked:
            fake.events.write(CommandEvent(id=record["id"], name=record["name"], outcome="done"))
        fake.events.write(PausedEvent(step=1))
        await until(lambda: "paused" in screen_text(app) and "asked" not in screen_text(app))
        await until(lambda: "Space Go on" in last_line(app), what="the key says what it does now")
        await pilot.press("space")
        await until(lambda: commands_of(fake.run)[-1] == "continue")
        fake.events.write(ContinuedEvent(step=1))
        await until(lambda: "Space Pause" in last_line(app))


def figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def probe(fake: FakeRun, step: int, value: float, verdict: str, when: str = "during") -> None:
    fake.events.write(
        ItemProbeEvent(step=step, suite="everyday", version="1", n=42, chance=0.25, pre=0.98, post=0.9,
        b=3, c=1, retention=figure(value, value - 0.05, value + 0.05),
        above_chance=figure(value, value - 0.06, value + 0.06),
        logprob_change=figure(-0.5, -0.75, -0.25), mcnemar_p=0.6, verdict=verdict, seconds=0.2, when=when,
    ))  # fmt: skip
    fake.events.write(
        KlProbeEvent(step=step, general=figure(0.02 * step, 0.0, 0.04 * step), task=figure(0.3, 0.2, 0.4),
        sequences=20, tokens=640, seconds=0.1,
    ))  # fmt: skip


def probed(fake: FakeRun) -> None:
    """A run of twenty steps that was probed at its start and at steps 5 and 10."""
    fake.begin()
    fake.events.write(
        ProbePlanEvent(share=0.03, kl_steps=5, item_steps=5, item_probes=4, threshold=0.9,
        reason="4 probes of 42 of 452 items take about 0.9 s of 30.0 s (2.9%)",
    ))  # fmt: skip
    probe(fake, 0, 1.0, "green", "start")
    for step in range(1, 11):
        fake.step(step, 8.0 / step)
    probe(fake, 5, 0.93, "amber")
    probe(fake, 10, 0.71, "red")


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40), (200, 60)])
async def test_retention_is_drawn_with_its_interval(fake: FakeRun, size: tuple[int, int]) -> None:
    probed(fake)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=size) as pilot:
        await until(lambda: "✗ forgotten  retention 0.71 (0.65 to 0.77)" in screen_text(app))
        if size[0] >= 80:
            assert "3 lost, 1 gained of 42" in words(app)
        if size[0] < 120:
            await pilot.press("t")
        await until(lambda: "threshold" in screen_text(app) and "95% interval" in screen_text(app))
        if size[0] >= 80:
            assert "threshold 0.9" in screen_text(app) and "95% interval" in screen_text(app)
        text = screen_text(app)
        assert "retention 0.71" in text and "●" in text and "┤" in text
        if size[0] < 120:
            await pilot.press("t")
        else:
            assert "4 probes of 42 of 452 items" in pane(app).query_one("#about Feed", Feed).text
        plot = pane(app).query_one("#kl RunPlot", RunPlot)
        # a shorter name where the plot is narrow
        await until(lambda: all(name in plot.text for name in ("gen", "task", "95%")))
        assert "KL 0.20, on the task 0.30" in words(app) or size[0] < 120


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40)])
async def test_red_flags_are_shown_with_their_remedies(fake: FakeRun, size: tuple[int, int]) -> None:
    probed(fake)
    fake.step(11, math.nan)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=size) as pilot:
        await until(
            lambda: "⚑ divergence" in screen_text(app) and "✗ forgotten  retention" in screen_text(app)
        )
        assert pane(app).query_one("#state").size.height == 5
        await pilot.press("exclamation_mark")
        seen = words if size[0] < 120 else lambda app: pane(app).query_one("#about Feed", Feed).text
        await until(lambda: "is not finite at step 11" in seen(app))
        text = pane(app).query_one("#about Feed", Feed).text
        assert "⚑ forgetting" in text and "→" in text and text.index("divergence") < text.index("forgetting")
        assert pane(app).query_one("#about Feed", Feed).scroll_y == 0


async def test_a_run_without_flags_says_so(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, 2.0)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "1/20 steps" in screen_text(app))
        assert "⚑" not in screen_text(app)
        await pilot.press("exclamation_mark")
        await until(lambda: any("No red flags" in note.message for note in app._notifications))


async def test_a_run_without_probes_shows_no_verdict(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, 2.0)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)):
        await until(lambda: "1/20 steps" in screen_text(app))
        assert "retention" not in screen_text(app) and pane(app).query_one("#state").size.height == 3


async def test_arming_and_probing_are_asked_and_shown(fake: FakeRun) -> None:
    probed(fake)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "running" in screen_text(app))
        assert "stops on forgetting" not in screen_text(app)
        await pilot.press("X", "k")
        await until(lambda: "arm and probe asked" in screen_text(app))
        asked = read_log(fake.run.commands_path)
        assert [record["name"] for record in asked] == ["arm", "probe"]
        for record in asked:
            fake.events.write(CommandEvent(id=record["id"], name=record["name"], outcome="done"))
        fake.events.write(ArmedEvent(on=True))
        await until(
            lambda: "running, stops on forgetting" in screen_text(app) and "asked" not in screen_text(app)
        )
        await pilot.press("X")
        await until(lambda: commands_of(fake.run)[-1] == "disarm")
        fake.events.write(ArmedEvent(on=False))
        await until(lambda: "running, stops on forgetting" not in screen_text(app))


async def test_stopping_asks_first(fake: FakeRun) -> None:
    fake.begin()
    fake.step(3, 2.0)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "running" in screen_text(app))
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, Confirm))
        assert "step 3 of 20" in words(app)
        await pilot.press("n")
        await until(lambda: not isinstance(app.screen, Confirm))
        assert not fake.run.commands_path.exists()
        await pilot.press("x", "y")
        await until(lambda: fake.run.commands_path.exists() and commands_of(fake.run) == ["stop"])


def last_line(app: LabApp) -> str:
    """The line of keys."""
    return screen_text(app).rstrip().splitlines()[-1]


async def test_the_first_run_is_seen_whoever_starts_it() -> None:
    app = LabApp(pane="train")
    async with app.run_test(size=(80, 24)):
        await until(lambda: "No run yet" in screen_text(app))
        made = FakeRun()
        try:
            made.begin()
            await until(lambda: "running" in screen_text(app))
        finally:
            made.die()


async def test_a_finished_run_shows_its_result(fake: FakeRun) -> None:
    fake.begin()
    for step in range(1, 21):
        fake.step(step, 2.0)
    fake.events.write(ValidationEvent(step=20, loss=0.5, rows=130, when="end"))
    fake.events.write(ScoreEvent(step=20, name="manner", value=0.75, rows=64, when="end", examples=[]))
    fake.events.write(SavedEvent(path="adapter", what="adapter", bytes=1_500_000))
    fake.end()
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "✓ finished" in screen_text(app))
        await until(lambda: "0.10 → 0.75" in screen_text(app))
        text = words(app)
        assert "8.5 → 0.5" in text and "adapter saved" in text and "20/20 steps" in text
        assert all(word not in last_line(app) for word in ("Pause", "Stop", "Resume"))
        await pilot.press("space")
        await until(lambda: any("has ended" in note.message for note in app._notifications))
        assert not fake.run.commands_path.exists()


async def test_a_failed_run_says_why_and_what_to_do(fake: FakeRun) -> None:
    fake.begin()
    fake.end("failed", "data rows.jsonl: line 3 is not valid JSON")
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)):
        await until(lambda: "✗ failed" in screen_text(app))
        assert "line 3 is not valid JSON" in words(app)
        assert "starts it again" in words(app)


async def test_who_goes_elsewhere_while_a_run_is_started_again_stays_there(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.begin()
    fake.die()
    left = threading.Event()

    def start(run: Run) -> subprocess.Popen[bytes]:
        left.wait(20)
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(launch, "start", start)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "✗ crashed" in screen_text(app))
        await pilot.press("R", "f6")
        await until(lambda: app.current_mode == "runs")
        left.set()
        await until(lambda: said(app, "Started again"))
        assert app.current_mode == "runs" and len(app.runs.children) == 1
        app.runs.children[0].wait()


async def test_a_crashed_run_shows_its_last_words(fake: FakeRun) -> None:
    fake.begin()
    fake.step(4, 2.0)
    fake.events.write(CheckpointEvent(step=4, path="checkpoints/checkpoint-4", reason=""))
    fake.run.log_path.write_text("loading\nRuntimeError: \x1b[31mout of memory [b]\n")
    fake.die()
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)):
        await until(lambda: "✗ crashed" in screen_text(app))
        text = screen_text(app)
        assert "out of memory [b]" in text and "\x1b" not in text and "␛[31m" in text
        assert "checkpoint at step 4" in text
        await until(lambda: "R Resume" in last_line(app))
        assert "Pause" not in last_line(app)


async def test_what_was_done_when_memory_ran_out_is_in_the_feed(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, 2.0)
    fake.events.write(
        LadderEvent(
            step=2,
            rung="split",
            before={"parts": 1},
            after={"parts": 2},
            text="memory ran out at step 2 on 8 rows: micro-batches of 4",
            cost="more, smaller products a step",
        )
    )
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(160, 50)):
        await until(lambda: "! memory ran out at step 2" in words(app))
        assert "cost: more, smaller products" in words(app)


async def test_hostile_text_shows_as_text(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, math.nan)
    hostile = "[bold red]x[/] [/nope] \x1b]52;c;aGk=\x07 \u202eevil \r\n[link=file:///]y[/link]"
    fake.events.write(SampleEvent(step=1, prompt=hostile, text=hostile))
    fake.events.write(WarningEvent(text=hostile))
    fake.events.write(PhaseEvent(name=hostile, detail=hostile))
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(160, 50)):
        await until(lambda: "[bold red]x[/]" in screen_text(app))
        text = screen_text(app)
        for forbidden in ("\x1b", "\x07", "\u202e", "\r"):
            assert forbidden not in text
        assert text.count("[bold red]x[/]") >= 3


async def test_a_long_log_is_caught_up_with_without_blocking(fake: FakeRun) -> None:
    fake.begin(8_000)
    for step in range(1, 8_001):
        fake.step(step, 2.0 + (50.0 if step == 3_456 else 0.0), 8_000)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.screen, TrainPane))
        await pilot.press("t")  # the keyboard is heard while the log is read
        await pilot.press("left_square_bracket")
        await until(lambda: "8000/8000 steps" in screen_text(app), 120)
        plot = pane(app).query_one("#loss RunPlot", RunPlot)
        await until(lambda: "smoothed" in plot.text)
        await until(lambda: "60┤" in plot.text, what="the spike is there")


async def test_the_list_of_runs_opens_another(fake: FakeRun) -> None:
    fake.begin()
    fake.end()
    newer = FakeRun()
    try:
        newer.begin()
        app = LabApp(run_id=newer.run.id)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(lambda: "▶ running" in screen_text(app))
            await pilot.press("r")
            await until(lambda: isinstance(app.screen, RunList) and "finished" in screen_text(app))
            assert "▶ running" in screen_text(app)
            runs = app.screen.query_one(OptionList)
            runs.highlighted = runs.get_option_index(fake.run.id)
            await pilot.press("enter")
            await until(lambda: isinstance(app.screen, TrainPane) and "✓ finished" in screen_text(app))
            assert app.run_id == fake.run.id
    finally:
        newer.die()


async def test_samples_and_events_are_added_not_written_anew(fake: FakeRun) -> None:
    fake.begin()
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)):
        feed = await _feed(app, "#events Feed", "validation loss 8.5")
        before = list(feed.entries)
        fake.events.write(ValidationEvent(step=5, loss=4.25, rows=130, when="during"))
        await until(lambda: "4.25" in feed.text)
        assert list(feed.entries)[: len(before)] == before


async def _feed(app: LabApp, selector: str, text: str) -> Feed:
    await until(lambda: isinstance(app.screen, TrainPane))
    feed = pane(app).query_one(selector, Feed)
    await until(lambda: text in feed.text)
    return feed


async def test_a_damaged_recipe_does_not_break_the_pane(fake: FakeRun) -> None:
    fake.begin()
    fake.run.recipe_path.write_text("not [ TOML")
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)):
        await until(lambda: "running" in screen_text(app))


async def test_a_run_that_is_not_there_is_said(tmp_path: Path) -> None:
    app = LabApp(run_id="no-such-run")
    async with app.run_test(size=(80, 24)):
        await until(lambda: any("no-such-run" in note.message for note in app._notifications))
        assert "No run yet" in screen_text(app)


async def test_zoom_pan_and_cursor_are_the_same_in_all_plots(fake: FakeRun) -> None:
    fake.begin(total=200)
    for step in range(1, 201):
        fake.step(step, 8.0 - step / 50, total=200)
    fake.end()
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        loss = pane(app).query_one("#loss RunPlot", RunPlot)
        speed = pane(app).query_one("#speed RunPlot", RunPlot)
        await until(lambda: "200/200" in screen_text(app) and loss.builds > 0 and speed.builds > 0)
        await pilot.press("z")
        await until(lambda: loss.text.split("\n")[-1].split()[0] == "100")
        await pilot.press("shift+left")
        await until(lambda: loss.options.view == speed.options.view == (75.0, 175.0))
        await pilot.press("left", "left")
        # by hand: the cursor begins at 175, and a sixtieth of 100 steps further it is 173.3
        await until(lambda: "step 173" in loss.text and "step 173" in speed.text)
        assert "train 4.54" in loss.text, "8 - 173 / 50"
        await pilot.press("escape")
        await until(lambda: loss.options.view is None and "step 173" not in loss.text)
        await pilot.press("Z", "l")
        await until(lambda: loss.options.log and not speed.options.log)


async def test_a_click_reads_all_plots(fake: FakeRun) -> None:
    fake.begin(total=100)
    for step in range(1, 101):
        fake.step(step, 5.0, total=100)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        loss = pane(app).query_one("#loss RunPlot", RunPlot)
        await until(lambda: "train 5" in loss.text)
        await pilot.click(loss, offset=(40, 8))
        await until(lambda: 45 <= loss.options.cursor <= 55, what="the middle of 100 steps")
        await until(lambda: f"step {loss.options.cursor:.0f}" in loss.text)


async def test_what_is_measured_is_shown_with_the_time_that_is_left_and_can_be_skipped(fake: FakeRun) -> None:
    fake.begin()
    fake.events.write(PhaseEvent(name="evaluating", detail="how the model does before any training"))
    fake.events.write(ProgressEvent(name="evaluating", done=312, total=747, unit="rows", left_s=40.0))
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "measuring on held-out rows" in screen_text(app))
        [line] = [row for row in screen_text(app).split("\n") if "measuring on held-out rows" in row]
        assert "312 of 747 rows, 0:40 left" in line
        assert line.count("█") == pytest.approx(line.count("·") * 312 / 435, abs=2), "a bar over the rest"
        await until(lambda: "S Skip measuring" in last_line(app))
        await pilot.press("S")
        await until(lambda: commands_of(fake.run) == ["skip"])
        fake.events.write(PhaseEvent(name="training"))
        fake.step(1, 8.0)
        await until(lambda: "1/20 steps" in screen_text(app) and "S Skip" not in last_line(app))
        fake.events.write(ProgressEvent(name="evaluating", done=10, total=20, left_s=3.0))
        await until(lambda: "10 of 20 rows, 0:03 left" in screen_text(app))
        assert "1/20 steps" in screen_text(app)


async def test_a_stop_shows_as_stopping_until_the_end(fake: FakeRun) -> None:
    fake.begin()
    fake.step(1, 8.0)
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "▶ running" in screen_text(app))
        fake.events.write(CommandEvent(id="a", name="stop", outcome="stopping after step 1"))
        await until(lambda: "◌ stopping" in screen_text(app))
        await pilot.press("x")
        await until(lambda: said(app, "stopping already"))
        fake.end("stopped", "stopped on request")
        await until(lambda: "■ stopped" in screen_text(app) and "R Resume" in screen_text(app))


async def test_after_the_end_buttons_name_the_next_steps(fake: FakeRun) -> None:
    fake.begin()
    fake.step(20, 2.0)
    fake.events.write(SavedEvent(path="adapter", what="adapter", bytes=1_000))
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "20/20" in screen_text(app))
        assert "Go again" not in screen_text(app)
        fake.end()
        await until(lambda: "b Playground" in screen_text(app))
        line = next(row for row in screen_text(app).split("\n") if "b Playground" in row)
        assert [word for word in ("k Measure retention", "e Export", "R Go again") if word in line] != []
        await pilot.press("R")
        await until(lambda: app.pane == "setup")
        await until(lambda: getattr(app.screen, "preset", "") == "minute")
        await pilot.press("f3")
        await until(lambda: isinstance(app.screen, TrainPane))
        buttons = {str(each.label): each for each in pane(app).query(Button)}
        await until(lambda: buttons["k Measure retention"].region.width > 0)
        await pilot.click(buttons["k Measure retention"])
        await until(lambda: app.pane == "retention")
