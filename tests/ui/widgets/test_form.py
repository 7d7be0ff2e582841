"""The form of recipe fields, driven by keys."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Input, OptionList

from tui_lab.recipes.recipe import FIELDS, Recipe, parse_value
from tui_lab.ui.views.form_fields import CLOSED_AT_FIRST, ELSEWHERE
from tui_lab.ui.widgets.form import FieldsForm, Rows


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
        from tui_lab.ui.terminal.themes import fallbacks

        return fallbacks(self.current_theme)

    def on_fields_form_changed(self, event: FieldsForm.Changed) -> None:
        self.told.append((event.key, event.values.get(event.key)))


def screen_text(app: App[Any]) -> str:
    lines = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in line) for line in lines)


async def test_every_field_has_a_row_and_one_is_edited_in_place() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 24)) as pilot:
        form = app.query_one(FieldsForm)
        for group in CLOSED_AT_FIRST:
            form.toggle(group)
        ids = {option.id for option in form.query_one(Rows).options}
        assert set(Recipe.model_fields) - ELSEWHERE <= ids
        form.go_to("lora_r")
        await pilot.press("enter", "ctrl+u", "3", "2", "enter")
        await pilot.pause()
        assert app.told == [("lora_r", 32)]
        assert form.values["lora_r"] == 32 and form.changed == {"lora_r": 32}
        text = screen_text(app)
        assert "● LoRA rank r" in text and "preset: 16" in text


async def test_optional_groups_are_closed_until_opened_or_in_use() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 24)) as pilot:
        form = app.query_one(FieldsForm)
        rows = form.query_one(Rows)
        ids = [option.id for option in rows.options]
        assert "kl_weight" not in ids and "learning_rate" in ids
        rows.highlighted = ids.index("group-against forgetting")
        await pilot.pause()
        assert "Enter to open: replay share, " in screen_text(app) and "as usual" in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "kl_weight" in [option.id for option in rows.options]
        assert form.key == "group-against forgetting", "the cursor stays"
        form.set_value("replay_fraction", 0.25)
        await pilot.pause()
        assert "▾ against forgetting   1 set" in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "replay_fraction" not in [option.id for option in rows.options]
        form.go_to("ewc_lambda")
        assert form.key == "ewc_lambda", "going to a field opens its group"
        values = {**Recipe().model_dump(), "focal_gamma": 2.0}
        form.load(values, Recipe().model_dump())
        assert "focal_gamma" in [option.id for option in rows.options], "what is set is shown"


async def test_a_value_out_of_range_is_refused_with_the_allowed_range() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 24)) as pilot:
        form = app.query_one(FieldsForm)
        form.go_to("lora_r")
        await pilot.press("enter", "ctrl+u", "0", "enter")
        await pilot.pause()
        assert app.query_one("#editor", Input).display, "stays open until the value fits"
        assert "must be a whole number from 1 to 1024" in screen_text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert not app.query_one("#editor", Input).display
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


async def test_a_refused_combination_is_shown_below_its_field() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 40)) as pilot:
        form = app.query_one(FieldsForm)
        form.set_value("method", "full")
        form.set_value("quantization", "nf4")
        form.go_to("quantization")
        await pilot.pause()
        assert [problem.key for problem in form.problems] == ["quantization"]
        assert "rounded weights cannot be trained" in screen_text(app)


async def test_choices_of_a_low_field_fit_the_screen() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 20)) as pilot:
        form = app.query_one(FieldsForm)
        form.go_to("optim")
        await pilot.press("enter")
        await pilot.pause()
        picker = app.query_one("#picker", OptionList)
        assert picker.display
        assert picker.region.bottom <= form.region.bottom
        await pilot.press("escape")


async def test_hostile_text_in_a_value_is_sanitized() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)) as pilot:
        form = app.query_one(FieldsForm)
        form.set_value("sample_prompt", "[bold]x[/] \x1b[31mred")
        form.go_to("sample_prompt")
        await pilot.pause()
        text = screen_text(app)
        assert "[bold]x[/]" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("packing", True, "on"), ("learning_rate", 2e-4, "0.0002"), ("lora_r", 16, "16"), ("target_modules",
        "all", "all"), ("num_train_epochs", 1.0, "1"), ("max_rows", 0, "all"), ("eval_steps", 0, "auto"),
        ("kl_weight", 0.0, "off"), ("layer_lr_decay", 1.0, "off"), ("layer_lr_decay", 0.9, "0.9"),
    ],
)  # fmt: skip
def test_values_are_shown_as_they_can_be_typed(key: str, value: Any, text: str) -> None:
    assert FIELDS[key].shown(value) == text
    typed = parse_value(key, text)
    assert typed == value and type(typed) is type(value)


#: Of these 0 is an amount like any other.
AMOUNTS = {"seed", "simpo_gamma"}


def test_no_number_that_means_something_else_is_shown_as_zero() -> None:
    for name, info in FIELDS.items():
        can_be_zero = info.kind in ("int", "float") and info.minimum == 0 and not info.exclusive_minimum
        if can_be_zero and name not in AMOUNTS:
            assert info.word and f"or {info.word}" in info.allowed(), name


async def test_automatic_values_are_shown_and_the_length_has_one_master() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)) as pilot:
        form = app.query_one(FieldsForm)
        form.set_advice({}, {"max_steps": "152", "eval_steps": "19"})
        await pilot.pause()
        text = screen_text(app)
        assert "auto (= 152)" in text and "auto (= 19)" in text and "not used: max steps" not in text
        form.set_value("max_steps", 300)
        await pilot.pause()
        assert "not used: max steps decides" in screen_text(app)
        form.set_value("num_train_epochs", 2.0)  # as on the command line, epochs that are set decide
        await pilot.pause()
        assert form.values["max_steps"] == 0 and "not used: max steps" not in screen_text(app)
        assert "not used by lora" in screen_text(app)  # the ranks of AdaLoRA


async def test_all_fields_go_back_to_the_preset_at_once() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 40)) as pilot:
        form = app.query_one(FieldsForm)
        form.set_value("lora_r", 8)
        form.set_value("warmup_steps", 9)
        await pilot.pause()
        assert "method   1 changed" in screen_text(app) and len(form.changed) == 2
        form.query_one(Rows).focus()
        await pilot.press("delete")
        await pilot.pause()
        assert form.changed == {} and "1 changed" not in screen_text(app)


async def test_the_filter_is_in_view() -> None:
    app = FormApp()
    async with app.run_test(size=(80, 24)) as pilot:
        form = app.query_one(FieldsForm)
        form.open_filter()
        await pilot.press(*"kl-t")
        await pilot.pause()
        lines = screen_text(app).splitlines()
        assert lines[0].strip() == "kl-t" and "KL-to-base weight" in screen_text(app)
        await pilot.press("down", "enter", "ctrl+u", "2", "enter")  # the editor stands on its row
        await pilot.pause()
        assert form.values["kl_weight"] == 2 and form.query_one(Rows).option_count == 2
        await pilot.press("escape")
        await pilot.pause()
        assert "learning rate" in screen_text(app)
