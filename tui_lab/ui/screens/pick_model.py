"""Asks which model to load for Playground, and in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.ask_name import AskName, ModelNames
from tui_lab.ui.screens.setup_items import MODEL_COLUMNS, model_item
from tui_lab.ui.widgets.chooser import Chooser

if TYPE_CHECKING:
    from tui_lab.models.catalog import Entry
    from tui_lab.ui.widgets.chooser import ChooserItem

#: Precisions in the order of the key; auto is bfloat16 on a GPU that has it, else float32.
PRECISIONS = ("auto", "nf4", "int8", "fp8", "bfloat16", "float32")


class PickModel(Dialog[tuple[str, str] | None]):
    """Gives (model, precision), or None."""

    DEFAULT_CSS = """
    PickModel > .dialog { width: 110; height: 80%; }
    PickModel Chooser OptionList, PickModel Chooser OptionList:focus { height: 1fr; background: $panel; }
    PickModel Chooser .foot { height: 3; }
    """
    GROUP = "models"
    BINDINGS = bindings("models")
    heading = "Model for Playground"

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current, self.precision = current, "auto"
        self._entries: list[Entry] = []

    def hint(self) -> str:
        precision, leave = self.keys("models.precision"), self.keys("models.leave")
        return f"Enter loads, {self.keys('models.filter')} filters, {precision} precision, {leave} closes"

    def compose_body(self) -> ComposeResult:
        yield Static(id="precision")
        yield Chooser(MODEL_COLUMNS, "reading the catalog …", "another: a folder or a hub id …")

    def on_mount(self) -> None:
        self._draw()
        self._read(self.precision)
        self.query_one(Chooser).list.focus()

    @work(thread=True, exclusive=True, group="models", exit_on_error=False)
    def _read(self, precision: str) -> None:
        from tui_lab.forecast.machine_fit import LANE_TOKENS, LANES, playground_fit
        from tui_lab.hardware import memory_budget
        from tui_lab.models import catalog

        entries, budget = catalog.load(), memory_budget.current()
        of = f"for {LANES} lanes of {LANE_TOKENS:,} tokens"
        items = [model_item(entry, playground_fit(entry, budget, precision), of) for entry in entries]
        if self.is_mounted:
            self.app.call_from_thread(self._show, entries, items)

    def _show(self, entries: list[Entry], items: list[ChooserItem]) -> None:
        self._entries = entries
        chooser = self.query_one(Chooser)
        chooser.chosen = self.current
        chooser.set_items(items)

    def _draw(self) -> None:
        choices = " ".join(f"[{p}]" if p == self.precision else f" {p} " for p in PRECISIONS)
        text = f"Precision ({self.keys('models.precision')}): {choices}"
        self.query_one("#precision", Static).update(Content(text))

    def action_precision(self) -> None:
        self.precision = PRECISIONS[(PRECISIONS.index(self.precision) + 1) % len(PRECISIONS)]
        self._draw()
        self._read(self.precision)

    def action_filter(self) -> None:
        self.query_one(Chooser).open_filter()

    @on(Chooser.Picked)
    def _picked(self, event: Chooser.Picked) -> None:
        self.dismiss((event.item_id, self.precision))

    @on(Chooser.TypeName)
    def _type(self, event: Chooser.TypeName) -> None:
        names = ModelNames(self._entries, allow_large=False)
        self.app.push_screen(AskName(names, event.text), self._typed)

    def _typed(self, name: str | None) -> None:
        if name:
            self.dismiss((name, self.precision))
