"""The lab as a whole: imports, panes, small windows, quitting, invalid files of the user."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from textual import events
from textual.widgets._toast import Toast

from tests.ui.helpers import keys_at_once, screen_text, until
from tui_lab.core.settings import Settings
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs.folder import RunLock, create
from tui_lab.ui import run_monitor
from tui_lab.ui.actions.help import HelpScreen
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.too_small import TooSmall
from tui_lab.ui.widgets.dialogs import Confirm

HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "bitsandbytes", "numpy")
AFTER_FIRST_FRAME = ("pydantic", "plotext", "pynvml")


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(done.stdout.split())


def test_the_lab_imports_nothing_heavy() -> None:
    first = modules_after("import tui_lab.ui.app, tui_lab.ui.screens.setup")  # the first frame
    assert not first & set(HEAVY)
    assert not first & set(AFTER_FIRST_FRAME), "needed after the first frame only"
    everything = modules_after(
        "import tui_lab.ui.app, tui_lab.ui.screens.setup, tui_lab.ui.screens.train, tui_lab.ui.widgets.form\n"
        "import tui_lab.ui.screens.setup_items, tui_lab.ui.widgets.run_list, tui_lab.ui.widgets.preview\n"
        "import tui_lab.ui.screens.playground, tui_lab.ui.screens.retention, tui_lab.ui.screens.inspector\n"
        "import tui_lab.ui.screens.blind, tui_lab.ui.screens.pick_model, tui_lab.playground.client\n"
        "from tui_lab.retention.suites import registry; registry.names()\n"
        "import tui_lab.hardware.cpu, tui_lab.ui.views.recipe_summary\n"
        "import tui_lab.core.job_client, tui_lab.models.catalog\n"
        "from tui_lab.ui.views.plot_draw import *\n"
        "draw([PlotSeries('a', 'train', [1, 2], [1.0, 2.0])], 40, 10)\n"
    )
    assert not everything & set(HEAVY)


async def test_panes_by_function_keys_and_by_numbers() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        assert app.pane == "setup"
        await pilot.press("f3")
        await until(lambda: app.pane == "train" and "No run yet" in screen_text(app))
        await pilot.press("2")
        await until(lambda: app.pane == "setup")
        await pilot.press("3")
        await until(lambda: app.pane == "train")
        await pilot.press("5")
        await until(lambda: app.pane == "retention" and "No run yet" in screen_text(app))


async def test_digits_are_text_in_a_field() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("slash", "2", "s", "q", "1")
        await pilot.pause()
        assert app.pane == "setup" and app.is_running
        assert "2sq1" in screen_text(app)
        await pilot.press("escape")


async def test_help_lists_keys_and_closes() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("f1")
        await until(lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("slash", *"queue")
        await until(lambda: "into the queue" in screen_text(app) and "Go to Train" not in screen_text(app))
        await pilot.press("escape")
        await until(lambda: "Choose a model, a preset and data" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: app.pane == "setup" and not isinstance(app.screen, HelpScreen))


async def test_a_window_that_is_too_small_is_covered() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await until(lambda: app.focused is not None)
        focused = app.focused
        await pilot.resize_terminal(59, 24)
        await until(lambda: isinstance(app.screen, TooSmall))
        await pilot.pause()
        assert "needs at least 60×18, now 59×24" in screen_text(app)
        await pilot.resize_terminal(40, 10)
        await until(lambda: "now 40×10" in screen_text(app))
        await pilot.press("s", "f3", "x")  # the pane gets no keys
        await pilot.resize_terminal(100, 30)
        await until(lambda: not isinstance(app.screen, TooSmall))
        assert app.pane == "setup" and app.focused is focused


async def test_modal_screens_survive_the_smallest_window() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        for key in ("f1", "H", "question_mark", "comma", "f9", "ctrl+p", "ctrl+o", "f10", "D"):
            await pilot.press(key)
            await until(lambda: len(app.screen_stack) == 2)
            for size in ((1, 1), (60, 18)):
                await pilot.resize_terminal(*size)
                assert app._exception is None, key
            await until(lambda: not isinstance(app.screen, TooSmall))
            await pilot.press("escape")
            await until(lambda: len(app.screen_stack) == 1, what=key)


async def test_it_opens_in_a_small_window() -> None:
    app = LabApp()
    async with app.run_test(size=(50, 12)) as pilot:
        await until(lambda: "needs at least 60×18, now 50×12" in screen_text(app))
        await pilot.resize_terminal(80, 24)
        await until(lambda: "starts the run" in screen_text(app))


async def test_quitting_asks_only_while_a_run_is_in_progress() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        lock = RunLock.take(create(Recipe()))
        try:
            await pilot.press("q")
            await until(lambda: isinstance(app.screen, Confirm))
            assert "continues without the lab" in " ".join(screen_text(app).split())
            await pilot.press("n")
            await until(lambda: not isinstance(app.screen, Confirm))
            assert app.is_running
        finally:
            lock.release()
        await pilot.press("ctrl+q")
        await until(lambda: not app.is_running)


async def test_the_header_shows_runs_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_monitor, "ANNOUNCE_EVERY_S", 0.1)
    lock = RunLock.take(create(Recipe()))
    app = LabApp()
    async with app.run_test(size=(160, 24)):
        await until(lambda: "a run is in progress: F3" in screen_text(app))
        lock.release()
        await until(lambda: "in progress" not in screen_text(app))
        assert app.run_line == ("", "")


async def test_an_invalid_theme_file_is_one_message(tmp_path: Path) -> None:
    themes = tmp_path / "config" / "themes"
    themes.mkdir(parents=True)
    (themes / "mine.toml").write_text('[colors]\nprimary = "[/]no colour"\n')
    (themes / "good.toml").write_text('[colors]\nprimary = "#aabbcc"\n')
    app = LabApp(settings=Settings(theme="good"))
    async with app.run_test(size=(100, 30)):
        await until(lambda: any("mine.toml" in note.message for note in app._notifications))
        await until(lambda: app.theme == "good")


async def test_unknown_themes_and_actions_are_named() -> None:
    app = LabApp(settings=Settings(theme="nope", keys={"no.action": "x", "setup.start": "G"}))
    async with app.run_test(size=(100, 30)):
        await until(lambda: len(app._notifications) >= 2)
        said = " ".join(note.message for note in app._notifications)
        assert "nope" in said and "no.action" in said
        await until(lambda: "G starts the run" in screen_text(app))


@pytest.mark.parametrize("theme", ["lab-dark", "lab-light", "lab-contrast", "lab-ansi", "textual-light"])
async def test_panes_are_drawn_in_every_kind_of_theme(theme: str) -> None:
    app = LabApp(settings=Settings(theme=theme))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await until(lambda: app.theme == theme)
        await pilot.press("f3")
        await until(lambda: "No run yet" in screen_text(app))


async def test_the_palette_lists_the_registry() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("ctrl+p")
        await pilot.press(*"preset")
        await until(lambda: "Presets" in screen_text(app))
        assert [command.title for command in app.get_system_commands(app.screen)] == ["Screenshot"]
        await pilot.press("escape")


async def test_a_click_on_a_removed_message_is_ignored() -> None:
    """Until the next layout a removed message keeps its region, without a parent."""
    app = LabApp()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        app.notify("a passing message", timeout=60)
        await until(lambda: bool(app.screen.query(Toast)) and app.screen.query(Toast).last().region.area)
        toast = app.screen.query(Toast).last()
        x, y = toast.region.x + 2, toast.region.y + 1
        assert app._driver is not None
        rack = toast.parent
        toast._detach()
        for kind in (events.MouseDown, events.MouseUp):
            event = kind(None, x, y, 0, 0, 1, False, False, False, screen_x=x, screen_y=y)
            app._driver.process_message(event)
            await pilot.pause()
        toast._attach(rack)
        assert app._exception is None and app.is_running


@pytest.mark.parametrize("second", ["escape", "enter"])
async def test_repeated_keys_run_a_palette_command_once(second: str) -> None:
    app = LabApp()
    ran: list[str] = []
    app.action_next_marker = lambda: ran.append("F8")  # type: ignore[method-assign]
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await pilot.press("ctrl+p", *"marks")
        await until(lambda: "Plot marks" in screen_text(app))
        keys_at_once(app, "enter", second, second)
        await until(lambda: len(app.screen_stack) == 1)
        await pilot.pause(0.3)
        # Escape is handled before the list, so that the command may not run at all
        assert app._exception is None and ran in ([["F8"]] if second == "enter" else [[], ["F8"]])


async def test_repeated_keys_answer_a_question_once() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        below, answers = Confirm("below?"), []
        app.push_screen(below)
        app.push_screen(Confirm("above?"), answers.append)
        await until(lambda: "above?" in screen_text(app))
        above = app.screen
        assert isinstance(above, Confirm)
        above.action_answer(True)
        above.action_answer(False)
        await pilot.pause()
        assert answers == [True] and app.screen is below
        below.action_answer(True)
        below.action_answer(True)
        await pilot.pause()
        assert app._exception is None and len(app.screen_stack) == 1


@pytest.mark.parametrize("pane", ["setup", "playground"])
async def test_the_lab_can_be_closed_while_its_first_pane_is_mounted(pane: str, runs_dir: Path) -> None:
    for number, seconds in enumerate((0.0, 0.01, 0.03, 0.06, 0.1, 0.15)):
        async with LabApp(pane=pane).run_test(size=(100, 30)) as pilot:
            await asyncio.sleep(seconds)  # some of these moments are within the mounting on any machine
            if number % 2:
                pilot.app.exit()
