"""Picks one line of a short list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.actions.screens import Over


class Pick(Over[int]):
    """Enter gives the number of the line under the cursor, Escape −1. Lines are (text, what it means)."""

    DEFAULT_CSS = """
    Pick { align: center middle; }
    Pick > Vertical {
        width: 100; max-width: 100%; height: auto; max-height: 80%; background: $panel;
        border: round $primary; padding: 0 1;
    }
    Pick OptionList, Pick OptionList:focus {
        height: auto; max-height: 100%; border: none; background: $panel;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """
    GROUP = "pick"
    BINDINGS = bindings("pick")

    def __init__(self, title: str, lines: Sequence[tuple[str, str]], at: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.list_title, self.lines, self.at = title, list(lines), at

    def compose(self) -> ComposeResult:
        width = max((len(text) for text, _ in self.lines), default=0) + 2
        with Vertical() as box:
            box.border_title = self.list_title
            box.border_subtitle = f"Enter takes, {self.keys('pick.leave')} leaves"
            yield OptionList(
                *(
                    Option(
                        Content.assemble(
                            sanitize(text).ljust(width) if about else sanitize(text),
                            (sanitize(about), "$text-muted"),
                        )
                    )
                    for text, about in self.lines
                )
            )

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = self.at if self.lines else None
        options.focus()

    @on(OptionList.OptionSelected)
    def _taken(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)

    def action_leave(self) -> None:
        self.dismiss(-1)
