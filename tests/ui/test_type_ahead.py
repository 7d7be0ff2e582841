"""Keys that come faster than their effects act one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Static

from tests.ui.helpers import keys_at_once, screen_text, until
from tui_lab.ui import type_ahead
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.ask_name import AskName
from tui_lab.ui.screens.setup import SetupPane
from tui_lab.ui.widgets.prompt import Prompt


async def test_a_name_that_is_typed_at_once_is_text_from_its_first_letter() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)):
        pane = app.screen
        assert isinstance(pane, SetupPane)
        await until(lambda: "starts the run" in screen_text(app) and bool(pane.lists.entries))
        keys_at_once(app, "slash", *"pythia-70m", "enter")
        await until(lambda: pane.values["model"] == "EleutherAI/pythia-70m")
        assert app.pane == "setup" and app.screen is pane, "no letter was a key of the pane"
        keys_at_once(app, "d", "slash", *"no-such.jsonl", "enter")
        await until(lambda: isinstance(app.screen, AskName) and "no-such.jsonl" in screen_text(app))


async def test_the_first_slash_of_a_path_may_open_the_filter(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    app = LabApp()
    async with app.run_test(size=(80, 24)):
        pane = app.screen
        assert isinstance(pane, SetupPane)
        await until(lambda: "starts the run" in screen_text(app))
        keys_at_once(app, "d", "slash", *str(rows)[1:], "enter")
        await until(lambda: pane.values["data"] == str(rows))


async def test_more_text_than_python_has_frames() -> None:
    app = LabApp(pane="playground")
    async with app.run_test(size=(80, 24)):
        await until(lambda: isinstance(app.focused, Prompt))
        keys_at_once(app, "escape", "i", "ctrl+a", *"x" * 1_200)
        await until(lambda: "x" * 1_200 in app.screen.query_one(Prompt).text)


async def test_keys_for_another_pane_reach_it() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)):
        await until(lambda: "starts the run" in screen_text(app))
        keys_at_once(app, "4", *"hi")
        await until(lambda: any(prompt.text == "hi" for prompt in app.screen.query(Prompt)))


async def test_a_key_whose_widget_is_removed_does_not_hold_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type_ahead, "LONGEST_WAIT_S", 0.05)
    pressed: list[str] = []

    class Vanishing(Static, can_focus=True):
        async def on_key(self) -> None:
            pressed.append("vanishing")
            self.remove()

    app = LabApp()
    async with app.run_test(size=(80, 24)):
        await until(lambda: "starts the run" in screen_text(app))
        field = Vanishing()
        await app.screen.mount(field)
        field.focus()
        await until(lambda: app.focused is field)
        keys_at_once(app, "j", "6")  # no key of Setup
        await until(lambda: app.pane == "runs")
        assert pressed == ["vanishing"]
