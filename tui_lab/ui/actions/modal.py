"""The bases of modal screens: :class:`Modal`, a framed :class:`Dialog`, and a :class:`ListDialog` of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import ScrollableContainer
from textual.content import Content
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.actions.search_line import SearchLine
from tui_lab.ui.lab import Lab, lab_of
from tui_lab.ui.terminal.remappable_screen import DismissedOnce, RemappableScreen
from tui_lab.ui.views.fuzzy import best
from tui_lab.ui.widgets.panel import PANEL_CSS, key_hints, panel_title


class Modal(DismissedOnce, RemappableScreen, ModalScreen[ScreenResultType]):
    """A screen above a pane. ``GROUP`` is its group in the registry of actions; subclasses set
    ``BINDINGS = bindings(GROUP)``. The cheat sheet and the app's function keys work on all of them; the key
    of a pane closes the screen, unless something :attr:`unsaved` would be lost."""

    GROUP: ClassVar[str] = ""
    #: Whether it only shows something, so that the keys of other such screens close it, too. Those add
    #: ``pane_digits()`` to their bindings.
    INFORMATIONAL: ClassVar[bool] = False
    DEFAULT_CSS = PANEL_CSS
    BINDINGS = [  # noqa: RUF012
        Binding("question_mark", "app.open('cheat_sheet')", "Keys", show=False, id="app.keys")
    ]

    @property
    def lab(self) -> Lab:
        return lab_of(self)

    def keys(self, action_id: str) -> str:
        """The first key of an action."""
        return first_key(action_id, self.keymap)

    @property
    def unsaved(self) -> str:
        """What has to be done before the screen may close, as a sentence; "" where nothing would be lost."""
        return ""

    def close_unanswered(self) -> None:
        """Closes the screen without an answer, because the user goes elsewhere."""
        self.dismiss(None)

    def show_error(self, error: object) -> None:
        """A message about something that could not be done."""
        self.notify(sanitize(str(error)), severity="error", markup=False, timeout=12)

    def action_leave(self) -> None:
        """Closes the screen without a result."""
        self.dismiss(None)


class Dialog(Modal[ScreenResultType]):
    """A modal screen with a box, as high as its contents and never larger than the window. Subclasses give
    ``heading`` (in the frame at the top), :meth:`hint` (the keys, at the bottom) and :meth:`compose_body`."""

    DEFAULT_CSS = """
    Dialog { align: center middle; }
    Dialog > .dialog {
        width: 104; max-width: 100%; height: auto; max-height: 90%; padding: 0 1; background: $panel;
        border: round $primary; overflow: hidden auto; scrollbar-size-vertical: 1;
        border-title-style: bold; border-title-color: $foreground;
    }
    Dialog Static { width: 1fr; height: auto; }
    Dialog Input, Dialog Input:focus { height: 1; border: none; padding: 0 1; background: $surface; }
    Dialog OptionList, Dialog OptionList:focus {
        height: auto; max-height: 100%; border: none; padding: 0; background: $panel;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    """
    heading: str = ""
    #: Whether the box itself takes the focus, so that keys scroll it.
    SCROLLS: ClassVar[bool] = False

    def hint(self) -> str:
        """The keys that the frame names, each with a verb: "Enter opens, Esc closes"."""
        return ""

    def compose(self) -> ComposeResult:
        with ScrollableContainer(classes="dialog panel", can_focus=self.SCROLLS):
            yield from self.compose_body()

    def compose_body(self) -> ComposeResult:
        """What is in the box."""
        yield from ()

    def on_mount(self) -> None:
        self.frame()

    def frame(self) -> None:
        """Writes heading and hint into the frame, as they are now."""
        box = self.query_one(".dialog")
        box.border_title, box.border_subtitle = panel_title(self.heading), key_hints(self.hint())


class ListDialog(Dialog[ScreenResultType]):
    """A dialog with a list of rows, a line that filters them and, where ``about`` is defined, a foot about
    the row under the cursor. Subclasses give the rows to :meth:`show_rows`, and their group has the action
    ``filter``; Enter calls :meth:`action_take` where there is a row."""

    DEFAULT_CSS = """
    ListDialog > .dialog { overflow-y: hidden; }
    ListDialog #about { display: none; margin-top: 1; padding: 0 2; }
    """

    AUTO_FOCUS = "OptionList"
    #: The list's own class, where a key of the dialog would move a plain list.
    LIST: ClassVar[type[OptionList]] = OptionList
    #: What the line that filters shows while it is empty.
    FILTER_HINT: ClassVar[str] = "part of a row; Tab goes to the list, Escape shows all"

    rows: Sequence[Option] = ()
    empty = ""

    def compose_body(self) -> ComposeResult:
        yield SearchLine(self.FILTER_HINT)
        yield self.LIST()
        yield Static(id="about")

    def frame(self) -> None:
        super().frame()
        if hint := self.hint():
            *others, last = hint.split(", ")
            filters = f"{self.keys(f'{self.GROUP}.filter')} filters"
            self.query_one(".dialog").border_subtitle = key_hints(", ".join([*others, filters, last]))

    @property
    def options(self) -> OptionList:
        return self.query_one(OptionList)

    @property
    def row_id(self) -> str:
        """The id of the row under the cursor, "" for none."""
        at = self.options.highlighted
        return (self.options.get_option_at_index(at).id or "") if at is not None else ""

    @property
    def shown_ids(self) -> list[str]:
        """The ids of the rows that the filter leaves, from top to bottom."""
        return [row.id for row in self.options.options if row.id and not row.disabled]

    def show_rows(self, rows: Iterable[Option], at: str = "", empty: str = "") -> None:
        """Replaces the rows, and shows those that the filter leaves; the cursor goes to the row ``at``, else
        to the first. ``empty``: text where there is none."""
        self.rows, self.empty = list(rows), empty
        self.filter_rows(at)

    def filter_rows(self, at: str = "") -> None:
        """Shows the rows that match what was typed, the best first."""
        if not (query := self.query_one(SearchLine).value.strip()):
            self.fill(self.rows, at, self.empty)
            return
        named = [row for row in self.rows if row.id and not row.disabled]
        found = best(query, named, lambda row: (str(row.prompt), _name(row)))
        self.fill(found, at, "No row has these words; Escape shows all." if self.rows else self.empty)

    def fill(self, rows: Sequence[Option], at: str, empty: str) -> None:
        """Puts these rows into the list."""
        self.options.clear_options()
        self.options.add_options(rows or [Option(Content(empty), disabled=True)])
        ids = [row.id for row in rows]
        first = next((number for number, row in enumerate(rows) if not row.disabled), None)
        self.options.highlighted = ids.index(at) if at in ids else first
        if first is None:
            self.describe()

    def redraw_rows(self, draw: Callable[[str], Content]) -> None:
        """Draws all rows again, also those that the filter hides; the list does not scroll."""
        named = [row.id for row in self.rows if row.id and not row.disabled]
        drawn = {row_id: Option(draw(row_id), id=row_id) for row_id in named}
        self.rows = [drawn.get(row.id or "", row) for row in self.rows]
        for row_id in self.shown_ids:
            self.options.replace_option_prompt(row_id, drawn[row_id].prompt)
        self.describe()

    def about(self, row_id: str) -> Content | None:
        """What the foot shows of a row; None for no foot."""
        del row_id
        return None

    def describe(self) -> None:
        """Shows the foot of the row under the cursor, if the list is in view."""
        text = self.about(self.row_id) if self.row_id and self.options.display else None
        foot = self.query_one("#about", Static)
        if text is not None:
            foot.display = True
        if foot.display:
            foot.update(text or "")

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.describe()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_take()

    def action_take(self) -> None:
        """Takes the row under the cursor."""

    # ------------------------------------------------------------------ the filter

    def action_filter(self) -> None:
        """Opens the line that filters the rows."""
        self.query_one(SearchLine).open_search()

    def focus_rows(self) -> None:
        """Gives the list the focus."""
        self.options.focus()

    def filter_entered(self) -> None:
        """Enter in the line: takes the row under the cursor."""
        if self.row_id:
            self.action_take()

    def _show_all(self) -> None:
        at = self.row_id
        with self.prevent(Input.Changed):
            self.query_one(SearchLine).close_search()
        self.focus_rows()
        self.filter_rows(at)

    @on(Input.Changed, "SearchLine")
    def _filter_typed(self, event: Input.Changed) -> None:
        event.stop()
        self.filter_rows()

    @on(Input.Submitted, "SearchLine")
    def _filter_entered(self, event: Input.Submitted) -> None:
        event.stop()
        self.filter_entered()

    def on_key(self, event: events.Key) -> None:
        self.query_one(SearchLine).take_key(event, self.options, self._show_all)


def _name(row: Option) -> str:
    """The id of a row, unless it is a number in the list."""
    return "" if not row.id or row.id.isdigit() else row.id
