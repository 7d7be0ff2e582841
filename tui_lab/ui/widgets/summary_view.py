"""The summary of the chosen recipe on Setup: what pressing start would do."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.terminal.textual_internals import keymap_of
from tui_lab.ui.views.forecast import ForecastView
from tui_lab.ui.views.recipe_summary import RecipeSummary
from tui_lab.ui.views.summary_text import head_content, summary_content
from tui_lab.ui.widgets.forecast_bar import ForecastBar


class SummaryView(VerticalScroll):
    """The summary with the forecast of memory, time and cost."""

    #: The term that F10 explains.
    explains = "setup.forecast"

    DEFAULT_CSS = """
    SummaryView {
        padding: 0 1 0 0; border-left: blank; background: $surface; scrollbar-size-vertical: 1;
    }
    SummaryView:focus { border-left: outer $primary; }
    SummaryView Static { width: 1fr; height: auto; }
    """

    def compose(self) -> ComposeResult:
        yield Static(Content.styled("reading models and presets…", "$text-muted"), id="head")
        yield ForecastBar()
        yield Static(id="rest")

    def show(self, summary: RecipeSummary, start_keys: str, copy_keys: str) -> None:
        self.query_one("#head", Static).update(head_content(summary, start_keys))
        explain, whether = (first_key(each, keymap_of(self)) for each in ("app.explain", "app.whether"))
        hint = f"\n{explain} explains what has the focus. {whether}: fine-tune, or prompt, or retrieve?"
        rest = summary_content(summary, copy_keys).append_text(hint, "$text-muted")
        self.query_one("#rest", Static).update(rest)

    def show_forecast(self, shown: ForecastView | None) -> None:
        self.query_one(ForecastBar).show(shown)

    @property
    def forecast(self) -> ForecastView | None:
        return self.query_one(ForecastBar).shown
