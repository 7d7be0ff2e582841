"""The form of recipe fields, driven by keys as a person would."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult

from tui_lab.recipes import Recipe
from tui_lab.ui.widgets.form import ELSEWHERE, Editor, FieldsForm, Picker, Rows, shown_value


class FormApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, Any]] = []

    def compose(self) -> ComposeResult:
        yield FieldsForm()

    def on_mount(self) -> None:
        form = self.query_one(FieldsForm)
        values = Recipe().model_dump()
        form.load(values, values)
        form.query_one(Rows).focus()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        from tui_lab.ui.themes import fallbacks

        return fallbacks(self.current_theme)

    def on_fields_form_changed(self, event: FieldsForm.Changed) -> None:
        self.told.append((event.key, event.values[event.key]))


def screen_text(app: App[Any]) -> str:
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


async def test_every_field_has_a_row_and_one_is_edited_in_place() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 24)) as pilot:
        form = app.query_one(FieldsForm)
        ids = {option.id for option in form.query_one(Rows).options}
        assert set(Recipe.model_fields) - ELSEWHERE <= ids
        form.go_to("lora_r")
        await pilot.press("enter", "ctrl+u", "3", "2", "enter")
        await pilot.pause()
        assert app.told == [("lora_r", 32)]
        assert form.values["lora_r"] == 32 and form.changed == {"lora_r": 32}
        text = screen_text(app)
        assert "● rank r" in text and "was 16" in text


async def test_a_value_out_of_range_is_not_taken_and_says_what_is_allowed() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 24)) as pilot:
        form = app.query_one(FieldsForm)
        form.go_to("lora_r")
        await pilot.press("enter", "ctrl+u", "0", "enter")
        await pilot.pause()
        assert app.query_one(Editor).display, "stays open until the value fits"
        assert "must be a whole number from 1 to 1024" in screen_text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert not app.query_one(Editor).display
        assert form.values["lora_r"] == 16 and app.told == []
        assert app.focused is form.query_one(Rows)


async def test_choices_switches_and_reset() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 24)) as pilot:
        form = app.query_one(FieldsForm)
        form.go_to("quantization")
        await pilot.press("enter", "down", "enter")
        await pilot.pause()
        assert form.values["quantization"] == "nf4"
        await pilot.press("left")
        await pilot.pause()
        assert form.values["quantization"] == "none"
        form.go_to("packing")
        await pilot.press("enter")
        await pilot.pause()
        assert form.values["packing"] is True
        await pilot.press("backspace")
        await pilot.pause()
        assert form.values["packing"] is False
        assert form.changed == {}


async def test_a_refused_combination_stands_under_its_field() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 40)) as pilot:
        form = app.query_one(FieldsForm)
        form.set_value("method", "full")
        form.set_value("quantization", "nf4")
        form.go_to("quantization")
        await pilot.pause()
        assert [problem.key for problem in form.problems] == ["quantization"]
        assert "4-bit weights cannot be trained" in screen_text(app)


async def test_the_choices_of_a_field_near_the_bottom_stay_on_the_screen() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 20)) as pilot:
        form = app.query_one(FieldsForm)
        form.go_to("optim")
        await pilot.press("enter")
        await pilot.pause()
        picker = app.query_one(Picker)
        assert picker.display
        assert picker.region.bottom <= form.region.bottom
        await pilot.press("escape")


async def test_hostile_text_in_a_value_shows_as_text() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)) as pilot:
        form = app.query_one(FieldsForm)
        form.set_value("sample_prompt", "[bold]x[/] \x1b[31mred")
        form.go_to("sample_prompt")
        await pilot.pause()
        text = screen_text(app)
        assert "[bold]x[/]" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(True, "on"), (2e-4, "0.0002"), (16, "16"), ("all", "all"), (1.0, "1")]
)
def test_values_are_written_as_they_can_be_typed(value: Any, text: str) -> None:
    assert shown_value(value) == text
