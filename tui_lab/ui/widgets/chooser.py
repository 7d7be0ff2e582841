"""A list to choose one item from. The chosen item is marked, the foot explains the one under the cursor, and
the last line asks for a name that is not in the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.views.spans import fit

TYPE_A_NAME = "type-a-name"


@dataclass(frozen=True)
class ChooserItem:
    """One line: ``columns`` side by side, ``about`` at the foot."""

    id: str
    columns: tuple[str, ...]
    about: str = ""
    refused: bool = False


class Chooser(Vertical):
    """Posts :class:`Picked` when Enter selects an item. ``widths``: cells of the columns but the last;
    ``empty``: text without items; ``other``: the line that asks for a name."""

    DEFAULT_CSS = """
    Chooser { height: 1fr; }
    Chooser OptionList, Chooser OptionList:focus {
        height: 1fr; border: none; padding: 0; background: $background;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    Chooser .foot { height: 3; padding: 0 1; color: $text-muted; background: $surface; }
    """

    @dataclass
    class Picked(Message):
        chooser: Chooser
        item_id: str

        @property
        def control(self) -> Chooser:
            return self.chooser

    @dataclass
    class TypeName(Message):
        chooser: Chooser

        @property
        def control(self) -> Chooser:
            return self.chooser

    def __init__(self, widths: Sequence[int], empty: str, other: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.widths, self.empty, self.other = tuple(widths), empty, other
        self.items: list[ChooserItem] = []
        self.chosen = ""

    def compose(self) -> ComposeResult:
        yield OptionList(Option(self.empty, disabled=True))
        yield Static(classes="foot")

    @property
    def list(self) -> OptionList:
        return self.query_one(OptionList)

    def on_resize(self) -> None:
        call_after_layout(self, self.list.scroll_to_highlight)  # also when its tab is shown

    @property
    def explains(self) -> str:
        """The term that F10 explains: the field of the recipe."""
        return f"fields.{(self.id or '').removesuffix('-list')}"

    def set_items(self, items: Sequence[ChooserItem]) -> None:
        """Replaces the items; the cursor goes to the chosen one."""
        self.items = list(items)
        options = [Option(self._prompt(item), id=f"item-{number}") for number, item in enumerate(self.items)]
        if self.other:
            options.append(Option(Content(f"  {self.other}"), id=TYPE_A_NAME))
        self.list.clear_options()
        self.list.add_options(options or [Option(self.empty, disabled=True)])
        self._go_to_chosen()

    def choose(self, item_id: str) -> None:
        """Marks another item as the chosen one."""
        if item_id == self.chosen:
            return
        before, self.chosen = self.chosen, item_id
        for number, item in enumerate(self.items):
            if item.id in (before, item_id):
                self.list.replace_option_prompt_at_index(number, self._prompt(item))
        self._go_to_chosen()

    def _go_to_chosen(self) -> None:
        ids = [item.id for item in self.items]
        if self.chosen in ids:
            self.list.highlighted = ids.index(self.chosen)
        elif self.items and self.list.highlighted is None:
            self.list.highlighted = 0

    def _prompt(self, item: ChooserItem) -> Content:
        mark = "●" if item.id == self.chosen else "✗" if item.refused else " "
        cells = []
        for column, width in zip(item.columns, (*self.widths, 0), strict=False):
            text = sanitize(column)
            cells.append(fit(text, width - 1) + " " if width else text)
        style = "bold" if item.id == self.chosen else "$text-muted" if item.refused else ""
        return Content.assemble((f"{mark} ", "$changed"), ("".join(cells), style))

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_id == TYPE_A_NAME:
            text = "Enter asks for a name."
        elif event.option_index < len(self.items):
            text = self.items[event.option_index].about
        else:
            text = ""
        self.query_one(".foot", Static).update(Content(sanitize(text)))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id == TYPE_A_NAME:
            self.post_message(self.TypeName(self))
        elif event.option_index < len(self.items):
            self.post_message(self.Picked(self, self.items[event.option_index].id))
