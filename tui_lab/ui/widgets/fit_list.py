"""The ways to make a recipe fit, one key each; also asked before a run starts that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.sanitize import sanitize
from tui_lab.forecast.estimate import remedy_text
from tui_lab.forecast.remedies import Remedy
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.actions.screens import Over

#: What it answers beside the number of a remedy.
AS_IT_IS, NOTHING = -1, -2


class FitList(Over[int]):
    """A digit takes a way, Enter the first, Escape none; with ``start``, s starts as it is. ``remedies`` is
    None where they are not worked out yet."""

    DEFAULT_CSS = """
    FitList { align: center middle; }
    FitList > VerticalScroll {
        width: 90; max-width: 96%; height: auto; max-height: 90%; padding: 0 1; background: $panel;
        border: round $primary;
    }
    FitList Static { width: 1fr; height: auto; }
    """
    GROUP = "fit"
    BINDINGS = bindings("fit")

    def __init__(
        self, title: str, remedies: Sequence[Remedy] | None, start: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.list_title, self.remedies, self.start = title, list(remedies or ()), start
        self.worked_out = remedies is not None

    def compose(self) -> ComposeResult:
        parts: list[Any] = [sanitize(self.list_title), "\n\n"]
        for number, remedy in enumerate(self.remedies, 1):
            parts += [(f"[{number}] ", "bold"), remedy.text, (f": {remedy_text(remedy)}\n", "$text-success")]
            parts += [(f"    {step.cost}\n", "$text-muted") for step in remedy.steps]
        if not self.remedies:
            found = (
                "No change is known that makes it fit"
                if self.worked_out
                else "What helps is not worked out yet"
            )
            parts.append(f"{found}.\n")
        if self.start:
            parts += [
                "\n",
                (f"[{self.keys('fit.as_it_is').upper()}] ", "bold"),
                "start as it is: if memory runs out, the run goes on in parts\n",
            ]
        with VerticalScroll() as box:
            box.border_title = "Make it fit"
            leave = f"{self.keys('fit.leave')} leaves"
            box.border_subtitle = f"a digit takes one, {leave}" if self.remedies else leave
            yield Static(Content.assemble(*parts))

    def on_key(self, event: events.Key) -> None:
        if event.key.isdigit() and 0 < int(event.key) <= len(self.remedies):
            event.stop()
            self.dismiss(int(event.key) - 1)

    def action_as_it_is(self) -> None:
        if self.start:
            self.dismiss(AS_IT_IS)

    def action_first(self) -> None:
        self.dismiss(0 if self.remedies else NOTHING)

    def action_answer(self, answer: int) -> None:
        self.dismiss(answer)
