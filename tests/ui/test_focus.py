"""The focus is visible on every pane, in several themes and without colours; Tab reaches every widget that
can have the focus."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from tests.ui.helpers import screen_text, until
from tests.ui.sample_runs import make_run
from tests.ui.screens.test_playground import PaperClient
from tui_lab.core.settings import Settings
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.pane import Pane

SIZE = (160, 50)
Picture = list[tuple[str, str]]


def picture(app: App[None]) -> Picture:
    """Letters and styles of the screen, without the header and the footer, which name keys."""
    lines = app.screen._compositor.render_strips(app.size)[1:-1]
    return [(segment.text, str(segment.style)) for line in lines for segment in line]


def focusable(screen: Screen[object]) -> list[Widget]:
    """Widgets in view that can have the focus."""
    return [widget for widget in screen.focus_chain if widget.region.area]


def lab(settings: Settings, pane: str) -> LabApp:
    app = LabApp(settings=settings, pane=pane)
    app.playground.client = PaperClient(lambda status: setattr(app, "playground_status", status))  # type: ignore[assignment]
    return app


async def settled(pilot: Pilot[None]) -> None:
    """Waits until the screen has stayed the same for a tenth of a second."""
    before: Picture = []
    while (now := picture(pilot.app)) != before:
        before = now
        await pilot.pause(0.1)


async def hidden_focus(pilot: Pilot[None]) -> list[str]:
    """Widgets whose focus cannot be seen: the screen looks the same without any focus, or with the focus on
    another widget."""
    app, pictures = pilot.app, dict[str, Picture]()
    for widget in [None, *focusable(app.screen)]:
        app.screen.set_focus(widget, scroll_visible=False)
        await until(lambda widget=widget: app.screen.focused is widget)
        await pilot.pause()
        pictures[repr(widget)] = picture(app)
    names = list(pictures)
    return [
        f"{name} looks like {other}"
        for number, name in enumerate(names)
        for other in names[:number]
        if pictures[name] == pictures[other]
    ]


PANES = ("setup", "train", "playground", "retention", "runs")
THEMES = ("lab-ansi", "lab-light", "lab-projector")


@pytest.mark.parametrize(
    ("pane", "settings"),
    [
        # the colours of all themes are checked in tests/ui/terminal/test_theme_colours.py
        *(("runs", Settings(theme=theme)) for theme in THEMES),
        *((pane, Settings(color=False, mouse=False)) for pane in PANES),
    ],
    ids=lambda each: each if isinstance(each, str) else each.theme or "no-colour",
)
async def test_the_focus_is_visible_and_tab_reaches_everything(pane: str, settings: Settings) -> None:
    make_run()
    app = lab(settings, pane)
    async with app.run_test(size=SIZE) as pilot:
        await until(
            lambda: isinstance(app.screen, Pane) and app.screen.is_laid_out and app.appearance.theme_names
        )
        await until(lambda: app.first_frame.drawn)
        await settled(pilot)
        assert focusable(app.screen), "a pane without anything to focus cannot be used by keyboard"
        assert await hidden_focus(pilot) == []
        for key in ("tab", "shift+tab"):
            reached = set()
            for _ in range(len(app.screen.focus_chain) + 1):
                await pilot.press(key)
                reached.add(app.screen.focused)
            assert reached >= set(focusable(app.screen)), key


MODALS: dict[str, Callable[[LabApp], object]] = {
    "settings": lambda app: app.action_open("settings"),
    "themes": lambda app: app.action_open("themes"),
    "help": lambda app: app.action_open("help"),
    "doctor": lambda app: app.action_open("doctor"),
}


@pytest.mark.parametrize("name", sorted(MODALS))
async def test_a_modal_screen_takes_the_focus_and_gives_it_back(name: str) -> None:
    app = lab(Settings(), "runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(
            lambda: isinstance(app.screen, Pane) and app.screen.is_laid_out and app.appearance.theme_names
        )
        await settled(pilot)
        before = app.screen.focused
        MODALS[name](app)
        await until(lambda: len(app.screen_stack) == 2 and app.screen.focused is not None)
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        assert app.screen.focused is before


@pytest.mark.parametrize("settings", [Settings(color=False), Settings(theme="lab-ansi")], ids=["none", "16"])
async def test_a_heavy_line_shows_the_focused_lane_without_colours_and_with_sixteen(
    settings: Settings,
) -> None:
    app = lab(settings, "playground")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: app.first_frame.drawn and app.focused is not None)
        await until(lambda: settings.theme in ("", app.theme))
        assert "━ · 1 greedy" not in screen_text(app)
        await pilot.press("escape")
        await until(lambda: "━ · 1 greedy" in screen_text(app))
        await pilot.press("tab")
        await until(lambda: "━ · 2 beam" in screen_text(app) and "━ · 1 greedy" not in screen_text(app))
