"""Runs: a person sorts, filters, marks, compares, names, deletes, and holds the queue."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ui.helpers import said, screen_text, until
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import commands, notes, removal
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock, create, is_locked, list_runs
from tui_lab.runs.queue import queue, sweep
from tui_lab.runs.schema import EndEvent, PlanEvent, ResumedEvent, StartedEvent, StepEvent, ValidationEvent
from tui_lab.runs.state import Watcher
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.retention import RetentionPane
from tui_lab.ui.screens.runs import RunsPane
from tui_lab.ui.screens.setup import SetupPane
from tui_lab.ui.screens.train import TrainPane
from tui_lab.ui.widgets.dialogs import AskText, Confirm, Pick
from tui_lab.ui.widgets.plot import Plot

SIZES = [(80, 24), (120, 40), (200, 60)]


def make(name: str, loss: float = 0.5, steps: int = 6, state: str = "finished", **recipe: object) -> Run:
    run = create(Recipe().changed(**recipe), name=name)
    log = EventWriter(run.events_path)
    log.write(ResumedEvent(from_step=0, attempt=1))
    log.write(StartedEvent(device={"type": "cpu"}))
    log.write(PlanEvent(total_steps=steps))
    for step in range(1, steps + 1):
        log.write(StepEvent(step=step, loss=loss + 1 / step, tokens=step * 10, memory={"resident": 2**20}))
    log.write(ValidationEvent(step=steps, loss=loss, rows=4, when="end"))
    if state != "crashed":
        log.write(EndEvent(state=state, step=steps, message="", seconds=61.0, train_loss=loss,
                  validation_loss=loss,
                  acquisition={"name": "exact", "start": 0.1, "end": 1 - loss}))  # fmt: skip
    log.close()
    return run


def with_adapter(name: str, **recipe: object) -> Run:
    """A run that has saved an adapter of rank 4."""
    run = make(name, lora_r=4, lora_alpha=8.0, **recipe)
    run.adapter_path.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": False, "use_dora": False}
    (run.adapter_path / "adapter_config.json").write_text(json.dumps(config))
    return run


def pane_of(app: LabApp) -> RunsPane:
    assert isinstance(app.screen, RunsPane)
    return app.screen


async def ready(app: LabApp, count: int) -> RunsPane:
    await until(lambda: isinstance(app.screen, RunsPane) and len(app.screen.table.runs) == count)
    return pane_of(app)


def names(pane: RunsPane) -> list[str]:
    return [run.id.split("-")[2] for run in pane.table.runs]


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_yet_says_what_to_press(size: tuple[int, int]) -> None:
    app = LabApp(pane="runs")
    async with app.run_test(size=size) as pilot:
        await until(lambda: "No runs yet. F2" in screen_text(app))
        await pilot.press("enter", "k", "b", "delete", "n", "space", "ctrl+a", "Q", "y", "Y", "B", "t")
        await until(lambda: said(app, "The queue is empty"))


@pytest.mark.parametrize("size", SIZES)
async def test_every_run_with_its_figures(size: tuple[int, int], own_folders: Path) -> None:
    make("first", 0.25, data="json")
    make("second", 0.5, state="crashed")
    app = LabApp(pane="runs")
    async with app.run_test(size=size):
        await ready(app, 2)
        lines = screen_text(app).splitlines()
        line = next(line for line in lines if "✓" in line)
        for part in ("pocket", "json", "0.250", "0.10→0.75", "1:01", *(["1 MiB"] if size[0] > 100 else [])):
            assert part in line
        assert any("✗" in line for line in lines)
        assert "2 runs" in screen_text(app)


async def test_sorting_by_any_column_both_ways(own_folders: Path) -> None:
    for name, loss in (("b", 0.9), ("a", 0.1), ("c", 0.5)):
        make(name, loss)
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await ready(app, 3)
        while pane.sorted_by != "loss":
            await pilot.press("greater_than_sign")
        assert names(pane) == ["a", "c", "b"] and "loss↑" in screen_text(app)
        await pilot.press("I")
        assert names(pane) == ["b", "c", "a"] and "sorted by loss ↓" in screen_text(app)
        await pilot.press("less_than_sign")
        assert pane.sorted_by == "data"
        await pilot.click("TableHead", offset=(5, 0))
        assert pane.sorted_by == "started"


async def test_filtering_while_typing(own_folders: Path) -> None:
    make("a")
    make("b", state="failed")
    notes.write(make("c"), tags="good", name="the best")
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await ready(app, 3)
        await pilot.press("slash", *"tag:goo")
        await until(lambda: names(pane) == ["c"] and "the best" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: len(pane.table.runs) == 3)
        await pilot.press("slash", *"state:failed", "enter")
        await until(lambda: names(pane) == ["b"] and pane.table.has_focus)
        await pilot.press("slash", *"x")
        await until(lambda: "No run matches the filter" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: len(pane.table.runs) == 3 and pane.query_text == "")


@pytest.mark.parametrize("size", SIZES)
async def test_marked_runs_are_compared(size: tuple[int, int], own_folders: Path) -> None:
    make("a", 0.1, lora_r=8)
    make("b", 0.9, lora_r=32)
    app = LabApp(pane="runs")
    async with app.run_test(size=size) as pilot:
        pane = await ready(app, 2)
        await pilot.press("space", "space")
        assert len(pane.marked) == 2 and "2 marked" in screen_text(app)
        if not pane.grid:
            await pilot.press("t")
        await until(lambda: len(pane.compared.runs) == 2)
        plot = pane.query_one(Plot)
        await until(lambda: "training loss by steps" in plot.text)
        await until(lambda: "A" in plot.text and "B" in plot.text, what="told apart without colours")
        await until(lambda: "A " in screen_text(app) and "B " in screen_text(app))
        await pilot.press("y")
        await until(lambda: "validation loss by steps" in plot.text)
        await pilot.press("left", "z")
        assert plot.options.cursor > 0
        await until(lambda: f"step {plot.options.cursor:.0f}" in plot.text and "A 0.9" in plot.text)
        await pilot.press("Y")
        await until(lambda: "validation loss by tokens" in plot.text)
        await pilot.press("Y")
        await until(lambda: "by time (s)" in plot.text)
        assert math.isnan(plot.options.cursor), "another axis is shown whole"
        await pilot.press("left", "escape")
        assert math.isnan(plot.options.cursor) and len(pane.marked) == 2, "the marks go with the next"
        await pilot.press("y")
        await until(lambda: "None of these runs has retention probes" in plot.text)
        if not pane.grid:
            await pilot.press("t")
        await until(lambda: "lora_r" in screen_text(app))
        line = next(line for line in screen_text(app).splitlines() if "lora_r" in line)
        assert line[line.index("lora_r") :].split()[1:3] == ["32", "8"], "A is the newer one"
        assert [name for name, _ in pane.compared.differences] == ["lora_r"], "only what differs"
        await pilot.press("escape")
        assert pane.marked == []


async def test_a_run_is_opened_on_the_other_panes(own_folders: Path) -> None:
    run = make("a")
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app, 1)
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, TrainPane) and app.run_id == run.id)
        await pilot.press("f6")
        await ready(app, 1)
        await pilot.press("k")
        await until(lambda: isinstance(app.screen, RetentionPane))
        await pilot.press("6")
        await ready(app, 1)


async def test_name_tags_and_note(own_folders: Path) -> None:
    run = make("a")
    app = LabApp(pane="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app, 1)
        for key, text in (("n", "mine[b]"), ("number_sign", "one two"), ("N", "a note")):
            await pilot.press(key)
            await until(lambda: isinstance(app.screen, AskText))
            await pilot.press(*text.replace(" ", "~"), "enter")
            await until(lambda: isinstance(app.screen, RunsPane))
        assert notes.read(run) == notes.Notes("mine[b]", ("one~two",), "a~note")
        await until(lambda: "mine[b]" in screen_text(app) and "#one~two" in screen_text(app))
        await pilot.press("n")
        await until(lambda: isinstance(app.screen, AskText))
        await pilot.press("escape")
        assert notes.read(run).name == "mine[b]", "Escape leaves it"
        assert run.path.name.endswith(run.id[-4:]), "the folder keeps its name"


async def test_deleting_after_a_question(own_folders: Path) -> None:
    kept, gone = make("kept"), make("gone")
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await ready(app, 2)
        pane.table.go_to(gone.id)
        await pilot.press("delete")
        await until(lambda: isinstance(app.screen, Confirm))
        await until(lambda: "for 30 days" in screen_text(app))
        await pilot.press("n")
        assert len(list_runs()) == 2
        await pilot.press("delete", "y")
        await until(lambda: list_runs() == [kept])
        await until(lambda: len(pane.table.runs) == 1)
        await until(lambda: said(app, "u restores it"))
        await until(lambda: "u Undo" in screen_text(app))
        await pilot.press("u")
        await until(lambda: len(pane.table.runs) == 2 and len(list_runs()) == 2)
        await until(lambda: pane.current is not None and pane.current.id == gone.id)
        await until(lambda: "u Undo" not in screen_text(app))
        await pilot.press("u")
        await until(lambda: said(app, "trash is empty"))
        await pilot.press("c")
        await until(lambda: pane.current is not None and said(app, pane.current.path))


async def test_nothing_of_a_deleted_run_stays_on_train(own_folders: Path) -> None:
    make("gone")
    app = LabApp(pane="train")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "R Go again" in screen_text(app) and bool(app.run_line[1]))
        await pilot.press("6")
        pane = await ready(app, 1)
        await pilot.press("delete", "y")
        await until(lambda: not pane.table.runs and not list_runs())
        await pilot.press("3")
        await until(lambda: "No run yet" in screen_text(app))
        text = screen_text(app)
        assert "Go again" not in text and "finished" not in text and app.run_line == ("", "")


async def test_what_was_deleted_before_is_chosen_from_the_trash(own_folders: Path) -> None:
    gone = make("gone")
    removal.delete(gone)
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await ready(app, 0)
        await pilot.press("u")
        await until(lambda: isinstance(app.screen, Pick) and gone.id in screen_text(app))
        await pilot.press("enter")
        await until(lambda: len(pane.table.runs) == 1)


async def test_a_live_run_is_offered_to_be_stopped(own_folders: Path) -> None:
    run = make("live", state="crashed")
    lock = RunLock.take(run)
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app, 1)
        await until(lambda: "▶" in screen_text(app))
        await pilot.press("delete")
        await until(lambda: isinstance(app.screen, Confirm))
        await until(lambda: "cannot be deleted" in screen_text(app))
        await pilot.press("y")
        await until(lambda: [c.name for c in commands.Inbox(run, set()).poll()] == ["stop"])
        assert run.path.is_dir()
    lock.release()


async def test_several_are_deleted_and_live_ones_stay(own_folders: Path) -> None:
    first, second, live = make("first"), make("second"), make("live", state="crashed")
    lock = RunLock.take(live)
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await ready(app, 3)
        pane.marked = [first.id, second.id, live.id]
        await pilot.press("delete")
        await until(lambda: isinstance(app.screen, Confirm))
        await until(lambda: "Delete 2 runs" in screen_text(app) and "1 in progress" in screen_text(app))
        await pilot.press("y")
        await until(lambda: list_runs() == [live])
    lock.release()


async def test_a_sweep_with_its_best_run_by_each_criterion(own_folders: Path) -> None:
    runs = [make(name, loss, learning_rate=rate) for name, loss, rate in (("a", 0.5, 1e-4), ("b", 0.2, 1e-3))]
    for number, run in enumerate(runs):
        values = {"learning_rate": run.recipe().learning_rate}
        sweep.write_place(run, sweep.SweepPlace("sweep-7", number + 1, 2, values))
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        pane = await ready(app, 2)
        await pilot.press("B")
        await until(lambda: "highest acquisition" in screen_text(app))
        assert "★" in next(line for line in screen_text(app).splitlines() if "0.001" in line)
        await pilot.press("B")
        await until(lambda: "highest retention: no run has it yet" in screen_text(app))
        await pilot.press("ctrl+a")
        assert len(pane.marked) == 2, "all of the sweep"


@pytest.fixture
def no_runs_left(own_folders: Path) -> Iterator[Path]:
    yield own_folders
    queue.hold()
    for run in list_runs():
        if is_locked(run) and (started := Watcher(run).read_all().started) and (pid := started.pid):
            os.kill(int(pid), signal.SIGKILL)


async def test_the_queue_from_choose_to_its_end(
    no_runs_left: Path, fake_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.02")  # slow enough to be seen running
    queue.hold()
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: isinstance(app.screen, SetupPane) and app.screen.summary is not None)
        await pilot.press("a")
        await until(lambda: said(app, "Queued as"))
        await until(lambda: said(app, "The queue is held"))
        await pilot.press("f6")
        pane = await ready(app, 1)
        assert "next" in screen_text(app) and "1 run waits; the queue is held" in screen_text(app)
        await pilot.press("enter")
        await until(lambda: said(app, "waits in the queue"))
        await pilot.press("Q")
        await until(lambda: said(app, "The queue continues"))
        await until(lambda: pane.table.runs[0].state == "running", seconds=40)
        await pilot.press("Q")
        await until(lambda: said(app, "The queue is held: no further run starts"))
        await until(lambda: pane.table.runs[0].state == "finished", seconds=40)


async def test_a_queued_run_is_taken_out(own_folders: Path) -> None:
    queue.add([Recipe(), Recipe()])
    queue.hold()
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app, 2)
        await pilot.press("delete")
        await until(lambda: isinstance(app.screen, Confirm))
        await until(lambda: "Remove the run" in screen_text(app))
        await pilot.press("y")
        await until(lambda: len(queue.items()) == 1)
        await ready(app, 1)


async def test_hostile_text_shows_as_text(own_folders: Path) -> None:
    run = make("a", data="x\x1b[31m.jsonl")
    notes.write(run, name="\x1b]0;owned\x07[red]x", tags="\x9b2J", note="\u202eevil")
    app = LabApp(pane="runs")
    async with app.run_test(size=(200, 60)) as pilot:
        await ready(app, 1)
        await pilot.press("space")
        await until(lambda: "[red]x" in screen_text(app))
        text = screen_text(app)
        assert not any(char in text for char in "\x1b\x07\x9b\u202e")


async def test_a_run_is_gone_on_from_with_its_own_shape() -> None:
    first = with_adapter("first", data="json")
    app = LabApp(pane="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app, 1)
        await pilot.press("G")
        await until(lambda: isinstance(app.screen, SetupPane) and app.screen.overrides.get("from_run"))
        setup = app.screen
        assert isinstance(setup, SetupPane)
        assert setup.values["from_run"] == str(first.path) and setup.values["lora_r"] == 4
        data = setup.query_one("#data-list")
        await until(lambda: data.has_focus_within)
        await until(lambda: "(stage 2) · u removes it" in " ".join(screen_text(app).split()))
        assert setup.summary is not None and f"--from {first.path}" in setup.summary.command
        assert not setup.summary.refusals

        await pilot.press("h")
        setup.form.go_to("lora_r")
        await pilot.press("enter")
        await until(lambda: said(app, f"lora_r = 4 comes from run {first.id} and cannot be changed"))
        await pilot.press("backspace")
        assert setup.values["lora_r"] == 4 and not setup.form._editing
        assert setup.going_on.refuses("model", "gpt2")
        await until(lambda: said(app, "model = 'pocket' comes from that run and cannot be 'gpt2'"))

        # another preset has its own values, but those of the earlier run's weights stay
        other = next(name for name in setup.presets if name not in (setup.preset, "minute"))
        setup._take_preset(other)
        assert setup.values["lora_r"] == 4 and setup.values["from_run"]
        # a way to fit that changes the adapter is refused before the start
        setup.form.set_value("lora_r", 2)
        await until(lambda: setup.summary is not None and setup.summary.refusals)
        assert "lora_r = 4 comes from that run and cannot be 2" in " ".join(setup.summary.refusals)
        await pilot.press("u", "u", "u")
        assert "from_run" not in setup.overrides and not setup.form.locked


async def test_a_new_adapter_beside_the_earlier_one_has_a_rank_of_its_own() -> None:
    with_adapter("first", data="json")
    app = LabApp(pane="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app, 1)
        await pilot.press("G")
        await until(lambda: isinstance(app.screen, SetupPane) and "lora_r" in app.screen.form.locked)
        setup = app.screen
        assert isinstance(setup, SetupPane)
        setup.form.set_value("frozen_rank", 4)
        await until(lambda: "lora_r" not in setup.form.locked)
        setup.form.set_value("lora_r", 2)
        await until(lambda: setup.summary is not None and "--new-adapter" in setup.summary.command)
        assert setup.values["lora_dropout"] == 0.0 and not setup.summary.refusals
        assert "with a new adapter beside its rank 4 (stage 2)" in setup.summary.goes_on
        setup.form.set_value("frozen_rank", 3)  # any number stands for the run's own rank
        await until(lambda: setup.values["frozen_rank"] == 4)
        setup.form.set_value("frozen_rank", 0)
        await until(lambda: "lora_r" in setup.form.locked)
        assert setup.going_on.earlier is not None
        setup.going_on.add(setup.going_on.earlier._replace(taken_beside="only beside plain LoRA"))
        setup.form.set_value("frozen_rank", 4)
        await until(lambda: said(app, "only beside plain LoRA"))
        assert setup.values["frozen_rank"] == 0


async def test_a_run_that_is_named_in_the_form_is_read() -> None:
    first = with_adapter("first", data="json")
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: isinstance(app.screen, SetupPane) and app.screen.summary is not None)
        setup = app.screen
        assert isinstance(setup, SetupPane)
        setup.form.set_value("from_run", "nowhere")
        await until(lambda: setup.summary and "run 'nowhere': there is none" in str(setup.summary.refusals))
        await pilot.press("s")
        await until(lambda: said(app, "Not started"))
        setup.form.set_value("from_run", "latest")
        await until(lambda: setup.values["from_run"] == str(first.path))
        assert setup.values["lora_r"] == 4 and "lora_r" in setup.form.locked
        assert setup.summary is not None and not setup.summary.refusals
        shutil.rmtree(first.path)  # meanwhile
        await pilot.press("s")
        await until(lambda: said(app, "does not exist"))


async def test_a_run_that_cannot_be_gone_on_from_says_why() -> None:
    make("first")
    app = LabApp(pane="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app, 1)
        await pilot.press("G")
        await until(lambda: said(app, "has saved no weights"))
        assert isinstance(app.screen, RunsPane)


async def test_a_family_of_runs_is_shown() -> None:
    first = make("first")
    second = make("second", from_run=str(first.path))
    third = make("third", from_run=str(second.path))
    app = LabApp(pane="runs")
    async with app.run_test(size=(120, 40)):
        pane = await ready(app, 3)
        pane.table.go_to(third.id)
        await until(lambda: f"stage 3, goes on from {second.id}" in screen_text(app))
        assert screen_text(app).count("└ ") == 2
