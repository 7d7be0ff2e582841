"""What the recipe on Setup costs on each card of the user's table of prices, by the forecast of the time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui_lab.core import files
from tui_lab.core.sanitize import sanitize
from tui_lab.forecast import card_prices
from tui_lab.forecast.card_prices import CardCost
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings

if TYPE_CHECKING:
    from tui_lab.forecast.cost import DataFacts
    from tui_lab.models.catalog import Entry
    from tui_lab.recipes.recipe import Recipe


class PricesScreen(Dialog[None]):
    """w writes the table to edit, where there is none; Escape leaves."""

    DEFAULT_CSS = "PricesScreen Static { padding: 0 1; }"
    GROUP = "prices"
    SCROLLS = True
    AUTO_FOCUS = ".dialog"
    BINDINGS = bindings("prices")
    heading = "Cost on rented cards"

    def __init__(self, recipe: Recipe, entry: Entry, data: DataFacts | None) -> None:
        super().__init__()
        self._recipe, self._entry, self._data = recipe, entry, data

    def hint(self) -> str:
        leave = f"{self.keys('prices.leave')} leaves"
        return (
            leave if card_prices.path().exists() else f"{self.keys('prices.write')} writes the table, {leave}"
        )

    def compose_body(self) -> ComposeResult:
        yield Static(id="costs")

    def on_mount(self) -> None:
        self.frame()
        self._compute()

    @work(exclusive=True, group="prices", description="forecast costs", exit_on_error=False)
    async def _compute(self) -> None:
        def compute() -> tuple[list[CardCost], list[str]]:
            rows, problems = card_prices.read_prices()
            return card_prices.card_costs(self._recipe, self._entry, self._data, rows), problems

        costs, problems = await asyncio.to_thread(compute)
        if self.is_mounted:
            self.query_one("#costs", Static).update(_content(costs, problems))

    def action_write(self) -> None:
        path = card_prices.path()
        if path.exists():
            self.notify(sanitize(f"{path} is there: edit it."), markup=False)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write_atomically(path, card_prices.shipped())
        except OSError as error:
            self.show_error(f"{path} cannot be written ({error.strerror})")
            return
        self.notify(sanitize(f"Written: {path}. Write prices into it, each with its date."), markup=False)
        self.frame()


def _content(costs: list[CardCost], problems: list[str]) -> Content:
    rows = [card_prices.HEAD, *(tuple(map(sanitize, row)) for row in card_prices.table_rows(costs))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(card_prices.HEAD))]
    lines = [
        "  ".join(
            cell.rjust(cells) if at in (2, 3, 4) else cell.ljust(cells)
            for at, (cell, cells) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    notes = card_prices.notes(costs, problems)
    if not card_prices.has_price(costs):
        notes.append(card_prices.instruction())
    return Content("\n").join(
        [
            Content.styled(
                "Time by the assumed speed of each card; the date is that of the price.", "$text-muted"
            ),
            Content(""),
            Content.styled(lines[0], "$text-muted"),
            *map(Content, lines[1:]),
            Content(""),
            *(Content.styled(sanitize(note), "$text-warning") for note in notes),
        ]
    )
