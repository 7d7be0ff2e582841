"""``python -m tests.pictures RUN [PANE ...] [--to FOLDER]`` writes docs/pictures: every pane of the lab on a
real run, at three sizes of the window, in a dark and a light theme, as PNG. Not a test: run it by hand when
the panes change, with ``TUI_LAB_RUNS_DIR`` set to a folder of runs, and needs Chromium.

The home folder is empty, so that the pictures show no personal settings. The pictures in ``before`` were made
in the same way from the lab of 2026-11-30, with this package beside it."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from textual.pilot import Pilot

from tests.paths import ROOT
from tests.pictures import render
from tests.ui.helpers import screen_text, until
from tui_lab.core.settings import Settings
from tui_lab.runs.folder import open_run
from tui_lab.ui.app import LabApp

FOLDER = ROOT / "docs" / "pictures"
SIZES = ((200, 60), (120, 40), (80, 24))
THEMES = {"dark": "lab-dark", "light": "lab-light"}
#: Long enough for a pane to read its run, or to list the models, and to draw.
SETTLE_S = 4.0
RESIZED_S = 1.5

Act = Callable[[Pilot[None]], Awaitable[None]]


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause(SETTLE_S)


async def previewed(pilot: Pilot[None]) -> None:
    """Waits for the preview of the data as well."""
    await until(lambda: "row 1:" in screen_text(pilot.app), 120)
    await settle(pilot)


async def answers(pilot: Pilot[None]) -> None:
    """Runs the first prompt of the Playground on the bundled model."""
    pane = cast("Any", pilot.app.screen)
    await until(lambda: pane.client.status.loaded, 120)
    await pilot.press("enter")
    await until(lambda: len(pane.results) == len(pane.views), 120)
    await pilot.pause(1)


async def two_curves(pilot: Pilot[None]) -> None:
    """Marks the two newest runs, whose curves are compared then."""
    await settle(pilot)
    await pilot.press("space", "down", "space", "up")
    await pilot.pause(2)


async def open_themes(pilot: Pilot[None]) -> None:
    """The list of themes over a pane."""
    await settle(pilot)
    cast("LabApp", pilot.app).action_open("themes")
    await pilot.pause(1)


#: What to do on each pane before it is pictured.
PANES: dict[str, Act] = {
    "setup": previewed,
    "train": settle,
    "playground": answers,
    "retention": settle,
    "runs": two_curves,
}


#: Dialogs: the pane below, what to do there, and the size of the window, in the dark theme.
DIALOGS: dict[str, tuple[str, Act, tuple[int, int]]] = {"themes": ("retention", open_themes, (120, 40))}


def opened(pane: str, run_id: str) -> LabApp:
    """The lab on a pane, with a run in view."""
    settings = Settings(theme=THEMES["dark"], plots="braille")
    app = LabApp(pane=pane, settings=settings, sources=dict.fromkeys(("theme", "plots"), "file"))
    app.set_reactive(LabApp.run_id, run_id)
    return app


async def dialog(name: str, run_id: str) -> dict[str, dict[str, Any]]:
    """The dialog, as cells."""
    pane, act, size = DIALOGS[name]
    app = opened(pane, run_id)
    async with app.run_test(size=size) as pilot:
        await act(pilot)
        return {name: render.cells(app)}


async def screens(pane: str, run_id: str) -> dict[str, dict[str, Any]]:
    """The pane by theme and size of the window, as cells."""
    app, found = opened(pane, run_id), {}
    async with app.run_test(size=SIZES[0]) as pilot:
        await PANES[pane](pilot)
        for size in SIZES:
            await pilot.resize_terminal(*size)
            for name, theme in THEMES.items():
                app.theme = theme
                app.clear_notifications()
                await pilot.pause(RESIZED_S)
                found[f"{pane}-{name}-{size[0]}x{size[1]}"] = render.cells(app)
    return found


def main(run_id: str, names: list[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for wanted in names or [*PANES, *DIALOGS]:
        found = asyncio.run((dialog if wanted in DIALOGS else screens)(wanted, run_id))
        for name, data in zip(found, render.draw(list(found.values())), strict=True):
            path = folder / f"{name}.png"
            path.write_bytes(data)
            print(f"{path}: {len(data):,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="the run that Train and Retention show")
    parser.add_argument("names", nargs="*", choices=[[], *PANES, *DIALOGS], help="only these")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder of the pictures")
    given = parser.parse_args()
    open_run(given.run)  # raises where there is none
    for variable in ("NO_COLOR", "TUI_LAB_THEME", "TUI_LAB_PLOTS", "TUI_LAB_CONFIG_DIR", "XDG_CONFIG_HOME"):
        os.environ.pop(variable, None)
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(HOME=home, COLORTERM="truecolor")
        main(given.run, given.names, given.to)
