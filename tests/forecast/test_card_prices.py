"""The table of prices: rows that are refused, and costs that are the forecast's time times the price."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_lab.core import input_files
from tui_lab.forecast import card_prices, estimate
from tui_lab.forecast.cost import DataFacts
from tui_lab.hardware import gpu_specs, memory_budget
from tui_lab.models import catalog
from tui_lab.recipes.presets import make_recipe
from tui_lab.recipes.resolve import resolve

ROWS = """
[[card]]
card = "RTX 4090"
provider = "mine"
price_per_hour = 0.5
date = 2026-11-30
[[card]]
card = "H100 SXM"
price_per_hour = 3
currency = "EUR"
date = 2026-10-01
example = true
[[card]]
card = "T4"
"""


def test_the_cost_is_the_time_on_the_card_times_its_price(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(ROWS)
    prices, problems = card_prices.read_prices(file)
    assert not problems and len(prices) == 3
    recipe, data = make_recipe("starter", model="pocket", device="cpu"), DataFacts(800, 50.0)
    entry = catalog.find("pocket")
    found = card_prices.card_costs(recipe, entry, data, prices)
    for each, price in zip(found, (0.5, 3.0, None), strict=True):
        budget = memory_budget.from_spec(gpu_specs.find(each.card))
        asked = recipe.changed(device="auto")
        alone = estimate.estimate(asked, entry, resolve(asked, budget.device, entry).values, budget, data)
        assert alone.cost is not None and alone.cost.hours is not None and each.hours == alone.cost.hours
        assert each.cost == (None if price is None else tuple(hour * price for hour in each.hours))
        assert each.verdict == "fits"
    rows = card_prices.table_rows(found)
    assert rows[0][5] == "mine 2026-11-30" and rows[1][5] == "2026-10-01 (example)"
    assert rows[1][4] == "3.00 EUR" and rows[2][3] == card_prices.NO_PRICE


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('card = "H100 SXM"\nprice_per_hour = 2.5', "row 1: a price needs its date"),
        ('card = "H100 SXM"\nprice_per_hour = -1', "must be 0 or more"),
        ('card = "no such card"', "unknown card"),
        ('card = "T4"\nprice = 2', "price"),
        ("card = [", "cannot be read"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_sentence(tmp_path: Path, row: str, sentence: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(f"[[card]]\n{row}\n")
    prices, [problem] = card_prices.read_prices(file)
    assert not prices and sentence in problem and "\n" not in problem


def test_the_shipped_table_has_no_price_and_only_known_cards(tmp_path: Path) -> None:
    prices, problems = card_prices.read_prices(tmp_path / "none.toml")
    assert prices and not problems
    assert all(row.price_per_hour is None and not row.provider for row in prices)
    assert len(input_files.parse_toml(card_prices.shipped())["card"]) == len(prices)
