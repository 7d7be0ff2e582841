"""The bases of modal screens: :class:`Modal`, a framed :class:`Dialog`, and a :class:`ListDialog` of rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import ScrollableContainer
from textual.content import Content
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.lab import Lab, lab_of
from tui_lab.ui.terminal.remappable_screen import DismissedOnce, RemappableScreen
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
    """A dialog with a list of rows and, where ``about`` is defined, a foot about the row under the cursor.
    Subclasses give the rows to :meth:`show_rows`; Enter calls :meth:`action_take`."""

    DEFAULT_CSS = """
    ListDialog > .dialog { overflow-y: hidden; }
    ListDialog #about { display: none; margin-top: 1; padding: 0 2; }
    """

    AUTO_FOCUS = "OptionList"

    def compose_body(self) -> ComposeResult:
        yield OptionList()
        yield Static(id="about")

    @property
    def options(self) -> OptionList:
        return self.query_one(OptionList)

    @property
    def row_id(self) -> str:
        """The id of the row under the cursor, "" for none."""
        at = self.options.highlighted
        return (self.options.get_option_at_index(at).id or "") if at is not None else ""

    def show_rows(self, rows: Iterable[Option], at: str = "", empty: str = "") -> None:
        """Replaces the rows; the cursor goes to the row ``at``, else to the first. ``empty``: text where
        there is none."""
        found = list(rows)
        self.options.clear_options()
        self.options.add_options(found or [Option(Content(empty), disabled=True)])
        ids = [row.id for row in found]
        first = next((number for number, row in enumerate(found) if not row.disabled), None)
        self.options.highlighted = ids.index(at) if at in ids else first

    def about(self, row_id: str) -> Content | None:
        """What the foot shows of a row; None for no foot."""
        del row_id
        return None

    def describe(self) -> None:
        """Shows the foot of the row under the cursor."""
        if self.row_id and (text := self.about(self.row_id)) is not None:
            foot = self.query_one("#about", Static)
            foot.display = True
            foot.update(text)

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
