"""A list to choose one item from, in columns. The chosen item is marked, the foot explains the one under the
cursor, ``/`` filters, the order is that of a column, and the last line asks for a name that is not in the
list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.search_line import SearchLine
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.views.fuzzy import best
from tui_lab.ui.views.spans import fit

TYPE_A_NAME = "type-a-name"
#: Cells of the mark at the left.
MARK_CELLS = 2


@dataclass(frozen=True)
class Column:
    """``width``: cells with the blank after it, 0 for the rest of the line. ``right``: aligned to the right.
    Where the list is narrow the column shrinks to ``least`` cells, or is left out if it is ``optional``; the
    first one, a name, keeps its end."""

    title: str
    width: int = 0
    right: bool = False
    least: int = 0
    optional: bool = False


def fitted(columns: Sequence[Column], width: int) -> list[int]:
    """The cells of each column in a line of ``width``: -1 for one that is left out, 0 for the rest."""
    cells = [column.width for column in columns]
    over = MARK_CELLS + sum(cells) + sum(column.least for column in columns if not column.width) - width
    for number, column in enumerate(columns):
        if over > 0 and column.width and column.least:
            taken = min(over, column.width - column.least)
            cells[number], over = column.width - taken, over - taken
    for number, column in enumerate(columns):
        if over > 0 and column.optional:
            cells[number], over = -1, over - column.width
    return cells


@dataclass(frozen=True)
class ChooserItem:
    """One line: ``columns`` side by side, each with a style or "", ``about`` at the foot. ``keys``: what
    the columns are sorted by; ``search``: more text that the filter finds."""

    id: str
    columns: tuple[str, ...]
    about: str = ""
    refused: bool = False
    styles: tuple[str, ...] = ()
    keys: tuple[float | str | tuple[float, ...], ...] = ()
    search: str = ""


class Chooser(Vertical):
    """Posts :class:`Picked` when Enter selects an item. ``empty``: text without items; ``other``: the line
    that asks for a name."""

    DEFAULT_CSS = """
    Chooser { height: 1fr; }
    Chooser .titles { height: 1; color: $text-muted; }
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
        """A name that is not in the list is asked for; ``text``: what was typed so far."""

        chooser: Chooser
        text: str = ""

        @property
        def control(self) -> Chooser:
            return self.chooser

    def __init__(
        self, columns: Sequence[Column], empty: str, other: str = "", *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.columns, self.empty, self.other = tuple(columns), empty, other
        self.items: list[ChooserItem] = []
        self.shown: list[ChooserItem] = []  # filtered and sorted
        self.chosen = ""
        self._cells = [column.width for column in columns]
        self.sorted_by: int | None = None
        self.is_reversed = False

    def compose(self) -> ComposeResult:
        yield Static(self._titles(), classes="titles")
        yield SearchLine("part of a name; Enter takes the first, Escape shows all")
        yield OptionList(Option(self.empty, disabled=True))
        yield Static(classes="foot")

    @property
    def list(self) -> OptionList:
        return self.query_one(OptionList)

    @property
    def query_text(self) -> str:
        """What the list is filtered by."""
        return self.query_one(SearchLine).value.strip()

    def on_resize(self) -> None:
        cells = fitted(self.columns, self.size.width - 1)  # beside a scroll bar
        if cells != self._cells:
            self._cells = cells
            self.query_one(".titles", Static).update(self._titles())
            for number, item in enumerate(self.shown):
                self._redraw(number, item)
        call_after_layout(self, self.list.scroll_to_highlight)  # also when its tab is shown

    @property
    def explains(self) -> str:
        """The term that F10 explains: the field of the recipe."""
        return f"fields.{(self.id or '').removesuffix('-list')}"

    # ------------------------------------------------------------------ items

    def set_items(self, items: Sequence[ChooserItem]) -> None:
        """Replaces the items; the cursor stays on its item, and goes to the chosen one where there is
        none."""
        if list(items) == self.items:
            return
        at = self._under_cursor() if self.items else ""
        self.items = list(items)
        self._fill(at)

    def _under_cursor(self) -> str:
        index = self.list.highlighted
        return self.shown[index].id if index is not None and index < len(self.shown) else ""

    def _fill(self, at: str = "") -> None:
        """Shows the items that the filter leaves, in the order of the column."""
        query = self.query_text
        found = best(query, self.items, lambda item: (item.id, f"{' '.join(item.columns)} {item.search}"))
        if self.sorted_by is not None:
            found.sort(key=self._sort_key, reverse=self.is_reversed)
        elif self.is_reversed:
            found.reverse()
        same = [item.id for item in found] == [item.id for item in self.shown]
        self.shown = found
        if same and found and self.list.option_count >= len(found):
            for number, item in enumerate(found):
                self._redraw(number, item)
            self._go_to(at)
            self._describe()
        else:
            options = [Option(self._prompt(item), id=f"item-{number}") for number, item in enumerate(found)]
            self.list.clear_options()
            self.list.add_options(
                options or [] if self.other else options or [Option(self.empty, disabled=True)]
            )
            if self.other:
                self.list.add_option(Option(self._other(), id=TYPE_A_NAME))
            self._go_to("" if query else at or self.chosen)
        if same and self.other:
            self.list.replace_option_prompt(TYPE_A_NAME, self._other())

    def _other(self) -> Content:
        query = self.query_text
        return Content(
            f"  {sanitize(query)}: {self.other.partition(': ')[2]}" if query else f"  {self.other}"
        )

    def _sort_key(self, item: ChooserItem) -> tuple[int, float, tuple[float, ...], str]:
        assert self.sorted_by is not None
        keys = item.keys or item.columns
        key = keys[self.sorted_by] if self.sorted_by < len(keys) else ""
        if isinstance(key, str):
            return 1, 0.0, (), key.lower()
        return (0, 0.0, key, "") if isinstance(key, tuple) else (0, float(key), (), "")

    def sort(self, by: int) -> None:
        """Sorts by the next or the previous column; after the last one in the order of the list."""
        places = [None, *range(len(self.columns))]
        self.sorted_by = places[(places.index(self.sorted_by) + by) % len(places)]
        self._resort()

    def reverse(self) -> None:
        """Reverses the order."""
        self.is_reversed = not self.is_reversed
        self._resort()

    def _resort(self) -> None:
        self.query_one(".titles", Static).update(self._titles())
        self._fill(self._under_cursor())

    def choose(self, item_id: str) -> None:
        """Marks another item as the chosen one."""
        if item_id == self.chosen:
            return
        before, self.chosen = self.chosen, item_id
        for number, item in enumerate(self.shown):
            if item.id in (before, item_id):
                self._redraw(number, item)
        self._go_to(item_id)

    def _redraw(self, number: int, item: ChooserItem) -> None:
        prompt = self._prompt(item)
        if self.list.get_option_at_index(number).prompt != prompt:
            self.list.replace_option_prompt_at_index(number, prompt)

    def _go_to(self, item_id: str) -> None:
        ids = [item.id for item in self.shown]
        if item_id in ids:
            self.list.highlighted = ids.index(item_id)
        elif self.list.highlighted is None and self.list.option_count:
            self.list.highlighted = 0

    # ------------------------------------------------------------------ drawing

    def _titles(self) -> Content:
        cells = []
        for number, column in enumerate(self.columns):
            arrow = ("▾" if self.is_reversed else "▴") if number == self.sorted_by else ""
            cells.append(self._cell(number, f"{column.title}{arrow}"))
        return Content(" " * MARK_CELLS + "".join(cells))

    def _cell(self, number: int, text: str) -> str:
        column, width = self.columns[number], self._cells[number]
        if width <= 0:
            return "" if width else text
        if not number and width < column.width and cell_len(text) >= width:
            text = "…" + text[-(width - 2) :]
        return fit(text, width - 1, column.right) + " "

    def _prompt(self, item: ChooserItem) -> Content:
        is_chosen = item.id == self.chosen
        mark = "●" if is_chosen else "✗" if item.refused else " "
        weight = "bold" if is_chosen else "$text-muted" if item.refused else ""
        styles = (*item.styles, *[""] * len(item.columns))
        cells = [
            (self._cell(number, sanitize(text)), style or weight)
            for number, (text, style) in enumerate(zip(item.columns, styles, strict=False))
        ]
        return Content.assemble((f"{mark:<{MARK_CELLS}}", "$changed"), *cells)

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._describe()

    def _describe(self) -> None:
        index, text = self.list.highlighted, ""
        if index is not None and index < len(self.shown):
            text = self.shown[index].about
        elif self.other and index is not None:
            text = "Enter takes what you typed." if self.query_text else "Enter asks for a name."
        self.query_one(".foot", Static).update(Content(sanitize(text, keep_newlines=True)))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(event.option_index)

    def _take(self, index: int | None) -> None:
        if index is not None and index < len(self.shown):
            item_id = self.shown[index].id
            self._leave_filter()
            self.post_message(self.Picked(self, item_id))
        elif self.other:
            text = self.query_text
            self._leave_filter()
            self.post_message(self.TypeName(self, text))

    # ------------------------------------------------------------------ the filter

    def open_filter(self) -> None:
        """Opens the line that filters the list."""
        self.query_one(SearchLine).open_search()

    def _leave_filter(self) -> None:
        self.query_one(SearchLine).close_search()
        self.list.focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.list.highlighted = None
        self._fill()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self._take(self.list.highlighted)

    def on_key(self, event: events.Key) -> None:
        self.query_one(SearchLine).take_key(event, self.list, self._leave_filter)
