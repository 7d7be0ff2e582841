"""Prices: the recipe's cost on each card of the table, and the table that is written to be edited."""

from __future__ import annotations

from pathlib import Path

from tests.ui.helpers import screen_text, until
from tui_lab.core.settings import path as settings_path
from tui_lab.forecast import card_prices
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.prices import PricesScreen
from tui_lab.ui.screens.setup import SetupPane


async def test_the_table_is_shown_and_written(own_folders: Path) -> None:
    app = LabApp(pane="setup")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: isinstance(app.screen, SetupPane) and app.screen.is_ready)
        await pilot.press("dollar_sign")
        await until(lambda: isinstance(app.screen, PricesScreen) and "No price is set" in screen_text(app))
        assert "H100 SXM" in screen_text(app) and "no price" in screen_text(app)
        await pilot.press("w")
        await until(card_prices.path().exists)
        assert card_prices.path().parent == settings_path().parent
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, SetupPane))
        priced = '[[card]]\ncard = "H100 SXM"\nprice_per_hour = 2\ndate = 2026-11-30\nprovider = "mine"\n'
        card_prices.path().write_text(priced)
        await pilot.press("dollar_sign")
        await until(lambda: "mine 2026-11-30" in screen_text(app) and "$2.00" in screen_text(app))
