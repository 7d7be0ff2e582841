"""The private names of Textual that the lab uses exist in the installed version."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tests.paths import ROOT
from tests.ui.helpers import until
from tui_lab.ui.terminal import textual_internals
from tui_lab.ui.terminal.remappable_screen import RemappableScreen


def test_the_installed_textual_has_every_private_name() -> None:
    assert textual_internals.missing_names() == []


def test_the_list_was_read_in_the_installed_version() -> None:
    assert version("textual") == textual_internals.TEXTUAL_VERSION, (
        "Read each name of PRIVATE_NAMES in the source of the new version, then change TEXTUAL_VERSION."
    )


def test_a_missing_name_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ((textual_internals.App, "_keymap", "keys"), (textual_internals.App, "_no_such_name", "a test"))
    monkeypatch.setattr(textual_internals, "PRIVATE_NAMES", names)
    assert textual_internals.missing_names() == [
        "Textual has no App._no_such_name any more, which the lab uses for: a test."
    ]


class OneLine(App[None]):
    def compose(self) -> ComposeResult:
        yield Static("a line")


async def test_a_call_after_the_layout_outlives_a_screen_above() -> None:
    app = OneLine()
    async with app.run_test():
        line, called = app.query_one(Static), []
        above: Screen[None] = Screen()
        await app.push_screen(above)
        textual_internals.call_after_layout(line, lambda: called.append(True))
        above._callbacks.clear()  # as where it is removed before it was drawn
        await app.pop_screen()
        await until(lambda: called)


async def test_a_screen_that_is_taken_down_before_it_is_mounted_sets_nothing_up() -> None:
    mounted: list[str] = []

    class Late(RemappableScreen, Screen[None]):
        def compose(self) -> ComposeResult:
            yield Static("a line")

        async def mount_composed_widgets(self, widgets: list[Widget]) -> None:
            self._closing = True  # as when the app ends meanwhile: no widget is mounted
            await super().mount_composed_widgets(widgets)

        def _post_mount(self) -> None:
            self._closing = False  # so that the test can end
            super()._post_mount()

        def on_mount(self) -> None:
            mounted.append(str(self.query_one(Static).content))

    app = OneLine()
    async with app.run_test():
        app.push_screen(Late())
        await until(lambda: isinstance(app.screen, Late) and app.screen._is_mounted)
    assert not mounted


def test_only_the_terminal_package_imports_private_modules_of_textual() -> None:
    private = re.compile(r"^\s*(from|import) textual\S*\._|^from textual\S* import .*\b_[a-z]", re.MULTILINE)
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tui_lab").rglob("*.py"))
        if private.search(path.read_text("utf-8"))
    ]
    assert found == ["tui_lab/ui/terminal/textual_internals.py"]
