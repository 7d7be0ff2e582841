"""The summary of the chosen recipe on Setup: what pressing start would do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.terminal.textual_internals import keymap_of
from tui_lab.ui.views.access import Access
from tui_lab.ui.views.forecast import ForecastView
from tui_lab.ui.views.recipe_summary import RecipeSummary
from tui_lab.ui.views.start_check import headline
from tui_lab.ui.views.summary_text import summary_content
from tui_lab.ui.widgets.forecast_bar import ForecastBar


class SummaryView(VerticalScroll):
    """The summary with the forecast of memory, time and cost."""

    #: The term that F10 explains.
    explains = "setup.forecast"

    DEFAULT_CSS = """
    SummaryView {
        padding: 0 1; background: $surface; scrollbar-size-vertical: 1;
    }
    SummaryView Static { width: 1fr; height: auto; }
    """

    def compose(self) -> ComposeResult:
        yield Static(Content.styled("reading models and presets …", "$text-muted"), id="head")
        yield ForecastBar()
        yield Static(id="rest")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._summary: RecipeSummary | None = None
        self._access = Access()
        self._forecast: ForecastView | None = None

    def show(self, summary: RecipeSummary, access: Access) -> None:
        """Shows a recipe, and whether its files can be had."""
        self._summary, self._access = summary, access
        copy, explain, whether = (self._key(each) for each in ("setup.copy", "app.explain", "app.whether"))
        hint = f"\n{explain} explains what has the focus. {whether}: fine-tune, or prompt, or retrieve?"
        rest = summary_content(summary, copy, access).append_text(hint, "$text-muted")
        self.query_one("#rest", Static).update(rest)
        self._show_headline()

    def show_forecast(self, shown: ForecastView | None) -> None:
        """Shows what the recipe takes."""
        self._forecast = shown
        self._show_headline()

    def _show_headline(self) -> None:
        if self._summary is None:
            return
        keys = {name: self._key(f"setup.{name}") for name in ("start", "models", "data", "fields")}
        shown = self._forecast
        head = headline(self._summary, shown, self._access, keys)
        if self._summary.goes_on:
            head = Content("\n").join([head, Content(sanitize(self._summary.goes_on))])
        self.query_one("#head", Static).update(head)
        is_above = not self._access.problem  # then the headline says whether it fits
        self.query_one(ForecastBar).show(shown and replace(shown, has_headline=is_above))

    def _key(self, action: str) -> str:
        return first_key(action, keymap_of(self))

    @property
    def forecast(self) -> ForecastView | None:
        return self._forecast
