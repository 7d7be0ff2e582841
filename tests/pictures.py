"""``python -m tests.pictures RUN``: the README's pictures, exported from the real lab showing a real run.

Not a test: it is run by hand when the panes change. The pictures are SVG as Textual exports them, without
the fonts that it would fetch from elsewhere.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot

from tests.ui.helpers import until
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.compare import ComparePane

FOLDER = Path(__file__).parent.parent / ".github"
SIZE = (110, 34)
#: Long enough for a pane to read its run, or to list the models, and to draw.
SETTLE_S = 4.0
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_FAMILY = "font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono'"

Act = Callable[[Pilot[None]], Awaitable[None]]


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause(SETTLE_S)


async def six_answers(pilot: Pilot[None]) -> None:
    """Runs the first prompt of Compare on the bundled model."""
    pane = pilot.app.screen
    assert isinstance(pane, ComparePane)
    await until(lambda: pane.host.status.loaded, 120)
    await pilot.press("enter")
    await until(lambda: len(pane.results) == len(pane.views), 120)
    await pilot.pause(1)


async def picture(app: LabApp, name: str, act: Act = settle) -> None:
    """Saves what ``app`` shows after ``act``."""
    async with app.run_test(size=SIZE) as pilot:
        await act(pilot)
        svg = app.export_screenshot(title="tui-lab")
    svg = _FONTS.sub("", svg).replace("font-family: Fira Code", _FAMILY)
    path = FOLDER / f"{name}.svg"
    path.write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")
    print(f"{path.relative_to(FOLDER.parent)}: {path.stat().st_size:,} bytes")


async def main(run_id: str) -> None:
    await picture(LabApp(run_id=run_id), "tune")
    await picture(LabApp(), "choose")
    keep = LabApp(pane="keep")
    keep.set_reactive(LabApp.run_id, run_id)
    await picture(keep, "keep")
    await picture(LabApp(pane="compare"), "compare", six_answers)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
