"""Corrections of Textual: lists without rows, pasted control characters, timers, long words."""

from __future__ import annotations

import pytest
from textual import content, events
from textual.app import App, ComposeResult
from textual.css.stylesheet import Stylesheet, StylesheetParseError
from textual.widgets import Input, OptionList, TextArea

from tests.ui.helpers import screen_text, until
from tui_lab.ui.app import LabApp
from tui_lab.ui.terminal import textual_internals, textual_patches


class Unseen(App[None]):
    CSS = "OptionList { display: none; }"

    def compose(self) -> ComposeResult:
        yield OptionList("one", "two")


async def test_page_keys_work_in_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Unseen()
    async with app.run_test() as pilot:
        options = app.query_one(OptionList)
        options.highlighted = 1
        options.action_page_down()
        options.action_page_up()
        assert options.highlighted == 1
        # the guard can go when this does not fail any more
        with monkeypatch.context() as without:
            without.setattr(OptionList, "_move_page", textual_internals.move_page)
            with pytest.raises(KeyError):
                options.action_page_up()
        options.styles.display = "block"
        await pilot.pause()
        options.action_page_up()
        assert options.highlighted == 0


async def test_pasted_control_characters_are_removed() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        for open_field in ("slash", "f4"):  # a line, and the prompt of many lines
            await pilot.press(open_field)
            await until(lambda: isinstance(app.focused, Input | TextArea))
            app.post_message(events.Paste("seen\x1b[2J\x1b]0;owned\x07\x9b31m\x7fend"))
            await until(lambda: "seen[2J" in screen_text(app))
            assert not any(
                ord(char) < 32 or 127 <= ord(char) < 160 for char in screen_text(app) if char != "\n"
            )


@pytest.mark.parametrize("late_s", [0.0, 0.000_25, 5.0])
async def test_a_timer_that_is_due_calls_once(late_s: float) -> None:
    called: list[str] = []
    app = Unseen()
    async with app.run_test() as pilot:
        app.set_timer(-late_s, lambda: called.append("timer"))
        await until(lambda: bool(called))
        await pilot.pause(0.05)
        assert called == ["timer"]


def test_a_long_word_wraps_in_a_window_without_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    word = content.Content("x" * 30)
    assert word.get_height({}, 0) == 30
    with monkeypatch.context() as without:
        without.setattr(content, "divide_line", textual_patches._divide_line)
        with pytest.raises(ValueError, match="must not be zero"):
            content.Content("y" * 30).get_height({}, 0)


def test_a_style_sheet_is_parsed_again_only_when_colours_change() -> None:
    def colour() -> str:
        [(_, rules)] = [
            (name, rule.styles) for name, rule in enumerate(sheet.rules) if "Last" in rule.selector_names
        ]
        return rules.color.hex

    sheet = Stylesheet(variables={"primary": "#ff0000"})
    for number in range(200):  # Textual keeps 64
        sheet.add_source(f"Kind{number} {{ width: 1; }}", ("", str(number)))
    sheet.add_source("Last { color: $primary; }", ("", "last"))
    before = list(sheet.rules)
    sheet.set_variables({"primary": "#ff0000"})
    sheet.reparse()
    assert all(one is other for one, other in zip(before, sheet.rules, strict=True)) and colour() == "#FF0000"
    sheet.set_variables({"primary": "#00ff00"})
    sheet.reparse()
    assert colour() == "#00FF00"
    sheet.add_source("Bad { colour: blue; }", ("", "bad"))
    with pytest.raises(StylesheetParseError):
        sheet.reparse()
    assert colour() == "#00FF00", "the rules before stay"
