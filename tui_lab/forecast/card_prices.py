"""The cost of a run on rented cards: a table of prices that the user edits, ``prices.toml`` in the config
folder, and the forecast of time on each of its cards. A price has the day on which it was read. No torch."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.format import money
from tui_lab.core.paths import config_dir
from tui_lab.core.records import from_plain
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast import estimate
from tui_lab.forecast.cost import DataFacts, EstimateRange
from tui_lab.hardware import gpu_specs, memory_budget
from tui_lab.models.catalog import Entry
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import resolve

FILE = "prices.toml"
MOST_ROWS = 200
#: What is shown for a card without a price.
NO_PRICE = "no price"


class CardPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the table. ``price_per_hour`` is null where it was not written; ``date``: when it was read."""

    card: str
    provider: str = ""
    price_per_hour: float | None = None
    currency: str = "$"
    date: datetime.date | None = None
    example: bool = False


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    card: list[CardPrice] = []


class CardCost(msgspec.Struct, frozen=True, kw_only=True):
    """The run on a card. ``hours`` and ``cost`` are null where they are not known, and ``note`` says why;
    ``verdict``: whether its memory fits. ``date`` is that of the price."""

    card: str
    provider: str
    price_per_hour: float | None
    currency: str
    date: str
    example: bool
    hours: EstimateRange | None
    cost: EstimateRange | None
    verdict: str
    note: str = ""


def path() -> Path:
    """The user's table. It need not exist."""
    return config_dir() / FILE


def shipped() -> str:
    """The table that is shipped: cards without prices, with an instruction."""
    return Path(__file__).with_name("card_prices.toml").read_text("utf-8")


def read_prices(file: Path | None = None) -> tuple[list[CardPrice], list[str]]:
    """The rows of the user's table, else of the shipped one, and a sentence for each that is left out."""
    file = path() if file is None else file
    name = sanitize(file.name)
    try:
        value = input_files.read_toml(file)
    except FileNotFoundError:
        value = input_files.parse_toml(shipped())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return [], [f"{name} cannot be read: {sanitize(str(reason))}"]
    try:
        rows = from_plain(value, _Table, name).card
    except LabError as error:
        return [], [str(error)]
    found, problems = [], []
    for number, row in enumerate(rows[:MOST_ROWS], 1):
        if problem := _problem(row):
            problems.append(f"{name}, row {number}: {problem}")
        else:
            found.append(row)
    if len(rows) > MOST_ROWS:
        problems.append(f"{name} has {len(rows):,} rows: the first {MOST_ROWS} are read")
    return found, problems


def _problem(row: CardPrice) -> str:
    price = row.price_per_hour
    if price is not None and not (math.isfinite(price) and price >= 0):
        return f"price_per_hour is {price:g}: it must be 0 or more"
    if price is not None and row.date is None:
        return "a price needs its date, as date = 2026-11-30"
    try:
        gpu_specs.find(row.card)
    except LabError as error:
        return str(error)
    return ""


def card_costs(
    recipe: Recipe, entry: Entry, data: DataFacts | None, prices: Sequence[CardPrice]
) -> list[CardCost]:
    """The run on each card of the table, in its order."""
    return [_cost(recipe, entry, data, row) for row in prices]


def _cost(recipe: Recipe, entry: Entry, data: DataFacts | None, row: CardPrice) -> CardCost:
    budget = memory_budget.from_spec(gpu_specs.find(row.card))
    recipe = recipe.changed(device="auto")  # where it runs now does not count
    hours, verdict, note = None, "unknown", ""
    try:
        values = resolve(recipe, budget.device, entry).values
        found = estimate.estimate(recipe, entry, values, budget, data)
        hours = found.cost.hours if found.cost is not None else None
        verdict, note = found.verdict, found.problem or found.cost_problem
    except LabError as error:  # the recipe cannot run on this card
        note = str(error)
    price = row.price_per_hour
    return CardCost(
        card=budget.device.name,
        provider=sanitize(row.provider),
        price_per_hour=price,
        currency=sanitize(row.currency)[:8],
        date=row.date.isoformat() if row.date else "",
        example=row.example,
        hours=hours,
        cost=None if hours is None or price is None else hours.times(price),
        verdict=verdict,
        note=note,
    )


HEAD = ("card", "fits", "time", "cost", "an hour", "price from")
_VERDICTS = {"fits": "yes", "tight": "tight", "over": "no", "unknown": "?"}


def table_rows(costs: Sequence[CardCost]) -> list[tuple[str, ...]]:
    """The table as people read it, without its head."""
    rows: list[tuple[str, ...]] = []
    for each in costs:
        priced = each.price_per_hour is not None
        dated = " ".join(filter(None, (each.provider, each.date, "(example)" if each.example else "")))
        rows.append(
            (
                each.card,
                _VERDICTS.get(each.verdict, each.verdict),
                estimate.time_text(each.hours) if each.hours else "?",
                f"{money(each.cost.low, each.currency)} to {money(each.cost.high, each.currency)}"
                if each.cost
                else "?"
                if priced
                else NO_PRICE,
                money(each.price_per_hour, each.currency) if each.price_per_hour is not None else "",
                dated,
            )
        )
    return rows


def notes(costs: Sequence[CardCost], problems: Sequence[str]) -> list[str]:
    """What is said below the table, each once: rows that are left out, and cards of which something is not
    known."""
    return list(dict.fromkeys([*problems, *(f"{each.card}: {each.note}" for each in costs if each.note)]))


def has_price(costs: Sequence[CardCost]) -> bool:
    """Whether any card has a price."""
    return any(each.price_per_hour is not None for each in costs)


def instruction() -> str:
    """How to write prices, where the table has none."""
    return f"No price is set: write those that you know into {FILE} in the config folder, each with its date."
