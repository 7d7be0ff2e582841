"""One item of several, whole: of a suite, of the votes, of predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.modal import Dialog, ListDialog
from tui_lab.ui.actions.registry import bindings

T = TypeVar("T")
#: Lines of an answer that the foot of a list shows; Enter shows all.
FOOT_LINES, FOOT_CELLS = 3, 90


class ItemView(Dialog[None]):
    """Left and right go to the item before and after; Escape closes."""

    DEFAULT_CSS = "ItemView > .dialog { width: 96; padding: 0 2; }"
    GROUP = "item"
    SCROLLS = True
    BINDINGS = bindings("item")

    def __init__(self, draw: Callable[[int, int], Content], count: int, at: int, name: str = "Item") -> None:
        """``draw``: an item by its index and the cells of a line."""
        super().__init__()
        self._draw, self._count, self.at, self._name_of_one = draw, count, at, name

    def hint(self) -> str:
        before, after, close = (self.keys(f"item.{each}") for each in ("before", "next", "close"))
        return f"{before} {after} others, {close} closes"

    def compose_body(self) -> ComposeResult:
        yield Static()

    def on_mount(self) -> None:
        self.action_turn(0)

    def action_turn(self, by: int) -> None:
        self.at = (self.at + by) % self._count
        self.heading = f"{self._name_of_one} {self.at + 1} of {self._count}"
        self.frame()
        self.query_one(".dialog").scroll_home(animate=False)
        self.query_one(Static).update(self._draw(self.at, min(96, self.app.size.width) - 8))


def open_item(dialog: ListDialog[Any], items: Sequence[T], draw: Callable[[T], Content], name: str) -> None:
    """Opens the item under the cursor of a list, whose rows are numbered as ``items``; its neighbours are
    those in view."""
    shown = [items[int(number)] for number in dialog.shown_ids]
    at = dialog.shown_ids.index(dialog.row_id)
    dialog.app.push_screen(ItemView(lambda at, _: draw(shown[at]), len(shown), at, name))


def named_texts(parts: Iterable[tuple[str, str | None]], lines: int = 0) -> Content:
    """Texts below their names, of each at most some ``lines``; None has no part."""
    shown: list[tuple[str, str] | str] = []
    for name, text in parts:
        if text is not None:
            clean = sanitize(text.strip(), keep_newlines=True) or "(no text)"
            shown += [(f"{name}\n", "$text-muted"), f"{shortened(clean, lines) if lines else clean}\n"]
    return Content.assemble(*shown)


def shortened(text: str, lines: int) -> str:
    """The first lines of a text; "…" stands where it is cut."""
    first = [line[: FOOT_CELLS - 1] + "…" if len(line) > FOOT_CELLS else line for line in text.split("\n")]
    return "\n".join(first[:lines]) + ("…" if len(first) > lines else "")
