"""``python -m tests.pictures RUN``: the README's pictures, exported from the real lab showing a real run.

Not a test: it is run by hand when the panes change. The pictures are SVG as Textual exports them.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tui_lab.ui.app import LabApp

FOLDER = Path(__file__).parent.parent / ".github"
SIZE = (110, 34)
#: Long enough for a pane to read its run, or to list the models, and to draw.
SETTLE_S = 4.0


async def picture(app: LabApp, name: str) -> None:
    """Saves what ``app`` shows once it has settled."""
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(SETTLE_S)
        svg = app.export_screenshot(title="tui-lab")
    path = FOLDER / f"{name}.svg"
    path.write_text(svg, encoding="utf-8")
    print(f"{path.relative_to(FOLDER.parent)}: {path.stat().st_size:,} bytes")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(picture(LabApp(run_id=sys.argv[1]), "tune"))
    asyncio.run(picture(LabApp(), "choose"))


if __name__ == "__main__":
    main()
