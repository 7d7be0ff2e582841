"""The line of keys holds no memory of keys that it showed before."""

from __future__ import annotations

import gc

from textual.widgets._footer import FooterKey

from tests.ui.helpers import screen_text, until
from tui_lab.ui.app import LabApp


def gone() -> list[FooterKey]:
    """Keys that stand on no screen any more and are still in memory."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, FooterKey) and not each.is_attached]


async def test_keys_of_screens_that_have_gone_are_forgotten() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        before = len(gone())
        for _ in range(4):
            await pilot.press("f1")
            await until(lambda: len(app.screen_stack) == 2)
            await pilot.press("escape")
            await until(lambda: len(app.screen_stack) == 1)
            await pilot.pause()
        assert len(gone()) - before < 20, "one round of keys may be on its way out"
