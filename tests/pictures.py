"""``python -m tests.pictures RUN [NAME ...]`` writes docs/pictures: SVG screenshots of the lab that shows
a real run; with names only those. Not a test: it is run by hand when the panes change.

The pictures are as Textual exports them, without the web fonts. The home folder is empty, so that they show
no personal settings.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from textual.pilot import Pilot

from tests.paths import ROOT
from tests.ui.helpers import until
from tui_lab.core.settings import Settings
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.playground import PlaygroundPane

FOLDER = ROOT / "docs" / "pictures"
SIZE, TALL, WIDE = (110, 34), (110, 40), (170, 44)
#: Long enough for a pane to read its run, or to list the models, and to draw.
SETTLE_S = 4.0
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_FAMILY = "font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono'"

Act = Callable[[Pilot[None]], Awaitable[None]]


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause(SETTLE_S)


async def six_answers(pilot: Pilot[None]) -> None:
    """Runs the first prompt of the Playground on the bundled model."""
    pane = pilot.app.screen
    assert isinstance(pane, PlaygroundPane)
    await until(lambda: pane.client.status.loaded, 120)
    await pilot.press("enter")
    await until(lambda: len(pane.results) == len(pane.views), 120)
    await pilot.pause(1)


async def two_curves(pilot: Pilot[None]) -> None:
    """Marks the two newest runs and shows their curves in one plot."""
    await settle(pilot)
    await pilot.press("space", "down", "space", "t")
    await pilot.pause(2)


def opened(screen: Callable[[LabApp], None]) -> Act:
    """Opens a modal screen over a pane."""

    async def act(pilot: Pilot[None]) -> None:
        await settle(pilot)
        screen(cast("LabApp", pilot.app))
        await pilot.pause(1)

    return act


async def picture(app: LabApp, name: str, act: Act = settle, size: tuple[int, int] = SIZE) -> None:
    """Saves a screenshot of ``app`` after ``act``."""
    async with app.run_test(size=size) as pilot:
        await act(pilot)
        app.clear_notifications()
        await pilot.pause(0.2)
        svg = app.export_screenshot(title="tui-lab")
    svg = _FONTS.sub("", svg).replace("font-family: Fira Code", _FAMILY)
    path = FOLDER / f"{name}.svg"
    path.write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def on(pane: str, run_id: str = "", **settings: Any) -> LabApp:
    """The lab on a pane, in the theme of a true-colour terminal."""
    shown = {"theme": "lab-dark", **settings}
    app = LabApp(pane=pane, settings=Settings(**shown), sources=dict.fromkeys(shown, "file"))
    app.set_reactive(LabApp.run_id, run_id)
    return app


#: By name: how to open the lab on a run, what to do in it, columns and rows of the window.
PICTURES: dict[str, tuple[Callable[[str], LabApp], Act, tuple[int, int]]] = {
    "setup": (lambda run: on("setup"), settle, SIZE),
    "train": (lambda run: on("train", run), settle, SIZE),
    "playground": (lambda run: on("playground"), six_answers, SIZE),
    "retention": (lambda run: on("retention", run), settle, TALL),
    "runs": (lambda run: on("runs"), two_curves, SIZE),
    "themes": (lambda run: on("retention", run), opened(lambda app: app.action_open("themes")), SIZE),
}


async def main(run_id: str, names: Sequence[str]) -> None:
    for name in names or PICTURES:
        make, act, size = PICTURES[name]
        await picture(make(run_id), name, act, size)


if __name__ == "__main__":
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= PICTURES.keys():
        sys.exit(f"{__doc__}\nnames: {', '.join(PICTURES)}")
    for variable in ("NO_COLOR", "TUI_LAB_THEME", "TUI_LAB_PLOTS", "TUI_LAB_CONFIG_DIR", "XDG_CONFIG_HOME"):
        os.environ.pop(variable, None)
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(HOME=home, COLORTERM="truecolor")
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
