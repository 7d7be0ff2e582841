"""A window that changes its size keeps everything: what has the focus, cursors, the place where one reads,
typed text, open questions; also through a window that is too small."""

from __future__ import annotations

from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from tests.ui import sample_runs as made
from tests.ui.helpers import screen_text, until
from tests.ui.screens.test_train import FakeRun, fake  # noqa: F401
from tui_lab.core.settings import Settings
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import create
from tui_lab.runs.schema import SampleEvent
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.playground import PlaygroundPane
from tui_lab.ui.screens.retention import RetentionPane
from tui_lab.ui.screens.runs import RunsPane
from tui_lab.ui.screens.setup import SetupPane
from tui_lab.ui.screens.too_small import TooSmall, message
from tui_lab.ui.widgets.dialogs import AskText
from tui_lab.ui.widgets.feed import Feed
from tui_lab.ui.widgets.lane_view import LaneView
from tui_lab.ui.widgets.prompt import Prompt
from tui_lab.ui.widgets.run_table import RunTable

SIZES = ((60, 18), (200, 60), (40, 10), (80, 24), (300, 80), (160, 30))


async def through(pilot: Pilot[Any], *last: tuple[int, int]) -> None:
    """Every size, then ``last``."""
    for size in (*SIZES, *last):
        await pilot.resize_terminal(*size)
        await pilot.pause()


async def test_tune_keeps_the_place_in_a_log(fake: FakeRun) -> None:  # noqa: F811
    fake.begin()
    for step in range(60):
        fake.events.write(SampleEvent(step=step, prompt=f"question {step:02d}", text="an answer " * 9))
    app = LabApp(run_id=fake.run.id)
    async with app.run_test(size=(200, 60)) as pilot:
        await until(lambda: "question 59" in screen_text(app))
        feed = app.screen.query_one("#samples Feed", Feed)
        feed.focus()  # its tab is not the one that a small window shows
        feed.scroll_to(y=feed._span(20)[0], animate=False, immediate=True)
        await through(pilot, (80, 24))
        assert app.focused is feed and feed.region.area > 0
        assert "question 20" in screen_text(app) and "question 59" not in screen_text(app)
        entry, _ = feed._position()
        assert entry == 20


async def test_keep_keeps_the_item_under_the_cursor() -> None:
    run = made.make_run()
    app = LabApp(settings=Settings(pane="retention"))
    app.set_reactive(LabApp.run_id, run.id)
    async with app.run_test(size=(200, 60)) as pilot:
        await until(lambda: isinstance(app.screen, RetentionPane) and app.screen.report is not None)
        flips = app.screen.query_one("#flips OptionList", OptionList)
        flips.focus()
        await pilot.press("down")
        assert flips.highlighted == 1
        await through(pilot, (80, 24))
        await pilot.pause(0.3)  # coming back it reads the results again
        assert app.focused is flips and flips.highlighted == 1 and flips.region.area > 0


async def test_choose_keeps_lists_and_a_field_that_is_edited() -> None:
    app = LabApp()
    async with app.run_test(size=(200, 60)) as pilot:
        await until(lambda: "SmolLM2-360M" in screen_text(app))
        assert isinstance(app.screen, SetupPane)
        models = app.screen.query_one("#model-list OptionList", OptionList)
        models.focus()
        await pilot.press(*["down"] * 14)
        at = models.highlighted
        await through(pilot, (80, 24))
        assert app.focused is models and models.highlighted == at
        option = models.get_option_at_index(at or 0)
        assert str(option.prompt).split()[0][-8:] in screen_text(app), "and the cursor is in view"
        await pilot.press("h", "enter")
        typing = app.focused
        assert isinstance(typing, Input)
        await pilot.press(*"7")
        typed = typing.value
        await through(pilot, (80, 24))
        assert app.focused is typing and typing.value == typed and typing.region.area > 0


async def test_compare_keeps_prompt_and_lane() -> None:
    app = LabApp(settings=Settings(pane="playground"))
    async with app.run_test(size=(200, 60)) as pilot:
        await until(lambda: isinstance(app.screen, PlaygroundPane) and "contrastive" in screen_text(app))
        await pilot.press(*"Hello")
        await through(pilot, (120, 40))
        prompt = app.screen.query_one(Prompt)
        assert prompt.text == "Hello" and app.focused is prompt
        await pilot.press("escape", "left", "h", "end", "1")
        assert isinstance(app.focused, Input)
        await through(pilot, (60, 18))
        assert (
            isinstance(app.focused, Input) and app.focused.value == "contrastive penalty_alpha=0.6 top_k=41"
        )
        assert app.focused.region.area > 0
        await pilot.press("escape")
        assert isinstance(app.focused, LaneView) and app.focused.number == 6


async def test_runs_keeps_the_run_under_the_cursor_and_a_question_half_answered() -> None:
    for _ in range(30):
        create(Recipe(preset="minute"))
    app = LabApp(settings=Settings(pane="runs"))
    async with app.run_test(size=(200, 60)) as pilot:
        await until(lambda: isinstance(app.screen, RunsPane) and len(app.screen.every) == 30)
        table = app.screen.query_one(RunTable)
        await pilot.press("end", "up", "up")
        await pilot.pause()
        at = table.current
        await through(pilot, (80, 24))
        assert table.current is not None and at is not None and table.current.id == at.id
        assert app.focused is table
        await until(lambda: table.scroll_offset.y <= table.cursor < table.scroll_offset.y + table.size.height)
        await pilot.press("N", *"half")
        assert isinstance(app.screen, AskText)
        await through(pilot)
        await pilot.press(*"note", "enter")
        await until(lambda: bool(table.current and table.current.note == "halfnote"))


async def test_a_window_that_is_too_small_says_what_helps() -> None:
    app = LabApp()
    async with app.run_test(size=(52, 9)) as pilot:
        await until(lambda: isinstance(app.screen, TooSmall))
        text = " ".join(screen_text(app).split())
        assert "at least 60×18, now 52×9" in text and "Runs continue" in text and "tmux" in text
        assert message(52, 9).splitlines()[0] in text
        # a message that comes meanwhile, and goes after the window has grown, must not leave it behind
        app.push_screen(AskText("late"))
        await pilot.pause()
        await pilot.resize_terminal(80, 24)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, SetupPane))
