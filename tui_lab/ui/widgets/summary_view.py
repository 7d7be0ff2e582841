"""What a choice comes to, as text: whether it can start, the forecast, the numbers, what is warned of, the
reasons, and the command that does the same."""

from __future__ import annotations

from typing import Any

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.format import count
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.terminal.textual_internals import keymap_of
from tui_lab.ui.views.forecast import Shown
from tui_lab.ui.views.recipe_summary import Summary
from tui_lab.ui.widgets.forecast_bar import ForecastBar


def numbers_content(summary: Summary) -> Content:
    """What is trained, in a line."""
    if summary.entry is None:
        return Content("")
    parts: list[Any] = [("trains ", "$text-muted")]
    if summary.trainable is not None:
        parts += [(count(summary.trainable), "bold"), f" of {count(summary.parameters)} parameters"]
        if summary.share is not None:
            parts += [f" = {100 * summary.share:.3g}%"]
    else:
        parts += ["known when the model is loaded"]
    return Content.assemble(*parts)


def method_content(summary: Summary) -> Content:
    """How it is trained."""
    parts: list[Any] = [("method ", "$text-muted"), sanitize(", ".join(summary.facts.values()))]
    if summary.targets:
        parts += [", on ", sanitize(", ".join(summary.targets))]
    return Content.assemble(*parts)


def head_content(summary: Summary, start_keys: str) -> Content:
    """Whether it can be started."""
    if not summary.refusals:
        return Content.styled(f"▶ {start_keys} starts the run", "bold $text-success")
    refusals = (Content.styled(f"✗ {sanitize(refusal)}", "$text-error") for refusal in summary.refusals)
    return Content("\n").join(refusals)


def summary_content(summary: Summary, copy_keys: str) -> Content:
    """What stands under the forecast."""
    parts: list[Any] = []
    if summary.entry is not None and summary.recipe is not None:
        parts += [numbers_content(summary), "\n"]
    for warning in summary.warnings:
        parts.append((f"! {sanitize(warning)}\n", "$text-warning"))
    parts += [
        ("$ ", "$text-muted"),
        (sanitize(summary.command), "$accent"),
        (f"   {copy_keys} copies\n", "$text-muted"),
    ]
    if summary.entry is not None and summary.recipe is not None:
        parts += [method_content(summary), "\n"]
    if summary.reasons:
        parts.append(("\nwhat this machine makes of it\n", "$text-muted"))
    for field, value, reason in summary.reasons:
        parts += [(f"{field}{f' = {sanitize(value)}' if value else ''}: ", "bold"), f"{sanitize(reason)}\n"]
    return Content.assemble(*parts)


class SummaryView(VerticalScroll):
    """The panel that says what pressing start would do."""

    #: What is explained of it on demand.
    explains = "choose.forecast"

    DEFAULT_CSS = """
    SummaryView {
        padding: 0 1 0 0; border-left: blank; background: $surface; scrollbar-size-vertical: 1;
    }
    SummaryView:focus { border-left: outer $primary; }
    SummaryView Static { width: 1fr; height: auto; }
    """

    def compose(self) -> Any:
        yield Static(Content.styled("reading models and presets…", "$text-muted"), id="head")
        yield ForecastBar()
        yield Static(id="rest")

    def show(self, summary: Summary, start_keys: str, copy_keys: str) -> None:
        self.query_one("#head", Static).update(head_content(summary, start_keys))
        explain, whether = (first_key(each, keymap_of(self)) for each in ("app.explain", "app.whether"))
        hint = f"\n{explain} explains what has the focus. {whether}: fine-tune, or prompt, or retrieve?"
        rest = summary_content(summary, copy_keys).append_text(hint, "$text-muted")
        self.query_one("#rest", Static).update(rest)

    def show_forecast(self, shown: Shown | None) -> None:
        self.query_one(ForecastBar).show(shown)

    @property
    def forecast(self) -> Shown | None:
        return self.query_one(ForecastBar).shown
