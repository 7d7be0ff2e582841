"""The dialogs that lie over a pane: a yes/no question, one line of text, one choice from a short list, the
remedies for a recipe that does not fit. All are a :class:`DialogBox` with different contents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.forecast.estimate import remedy_text
from tui_lab.forecast.remedies import Remedy
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import bindings

#: Answers of :class:`RemedyDialog` besides the index of a remedy.
START_ANYWAY, CANCELLED = -1, -2


class DialogBox(Vertical):
    """The framed box of a dialog, as high as its contents."""

    DEFAULT_CSS = """
    DialogBox {
        width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 0 1; background: $panel;
        border: round $primary; overflow-y: auto;
    }
    DialogBox.-question { padding: 1 2; }
    DialogBox.-wide { width: 100; max-width: 100%; }
    DialogBox Static { width: 1fr; height: auto; }
    DialogBox .keys { margin-top: 1; text-style: bold; }
    DialogBox Input { margin-top: 1; }
    DialogBox OptionList, DialogBox OptionList:focus {
        height: auto; max-height: 100%; border: none; background: $panel;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self, title: str = "", subtitle: str = "", classes: str = "") -> None:
        super().__init__(classes=classes)
        self.border_title = Content(sanitize(title))
        self.border_subtitle = Content(subtitle)


class Confirm(Modal[bool]):
    """A question before something that cannot be undone. y or Enter gives True, n or Escape False."""

    DEFAULT_CSS = "Confirm { align: center middle; }"
    GROUP = "confirm"
    BINDINGS = bindings("confirm")

    def __init__(self, question: str, yes: str = "yes", no: str = "no", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.question, self.yes, self.no = question, yes, no

    def compose(self) -> ComposeResult:
        yes, no = (self.keys(f"confirm.{each}") for each in ("yes", "no"))
        with DialogBox(classes="-question"):
            yield Static(Content(sanitize(self.question, keep_newlines=True)))
            yield Static(Content(f"[{yes}] {self.yes}    [{no}] {self.no}"), classes="keys")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class AskText(Modal[str | None]):
    """Asks for one line of text. Enter gives it. Escape gives "", or None when an empty text is an answer
    too (``can_be_empty``)."""

    DEFAULT_CSS = "AskText { align: center middle; }"
    GROUP = "ask"
    BINDINGS = bindings("ask")

    def __init__(
        self, question: str, value: str = "", placeholder: str = "", can_be_empty: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.question, self.value, self.placeholder = question, value, placeholder
        self.can_be_empty = can_be_empty

    def compose(self) -> ComposeResult:
        with DialogBox(classes="-question"):
            yield Static(Content(self.question))
            yield Input(self.value, placeholder=self.placeholder)
            yield Static(Content(f"[Enter] accept    [{self.keys('ask.leave')}] cancel"), classes="keys")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss(None if self.can_be_empty else "")


class Pick(Modal[int]):
    """One choice from a short list of (text, explanation). Enter gives the index under the cursor, Escape
    −1."""

    DEFAULT_CSS = "Pick { align: center middle; }"
    GROUP = "pick"
    BINDINGS = bindings("pick")

    def __init__(self, title: str, lines: Sequence[tuple[str, str]], at: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.list_title, self.lines, self.at = title, list(lines), at

    def compose(self) -> ComposeResult:
        width = max((len(text) for text, _ in self.lines), default=0) + 2
        options = [
            Option(
                Content.assemble(
                    sanitize(text).ljust(width) if about else sanitize(text), (sanitize(about), "$text-muted")
                )
            )
            for text, about in self.lines
        ]
        with DialogBox(self.list_title, f"Enter selects, {self.keys('pick.leave')} cancels", "-wide"):
            yield OptionList(*options)

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = self.at if self.lines else None
        options.focus()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)

    def action_leave(self) -> None:
        self.dismiss(-1)


class RemedyDialog(Modal[int]):
    """The changes that make a recipe fit the memory. A digit gives that remedy, Enter the first, Escape
    :data:`CANCELLED`; with ``start``, s gives :data:`START_ANYWAY`. ``remedies`` is None while they are
    being computed."""

    DEFAULT_CSS = "RemedyDialog { align: center middle; }"
    GROUP = "fit"
    BINDINGS = bindings("fit")

    def __init__(
        self, title: str, remedies: Sequence[Remedy] | None, start: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.list_title, self.remedies, self.start = title, list(remedies or ()), start
        self.computed = remedies is not None

    def compose(self) -> ComposeResult:
        parts: list[Any] = [sanitize(self.list_title), "\n\n"]
        for number, remedy in enumerate(self.remedies, 1):
            parts += [(f"[{number}] ", "bold"), remedy.text, (f": {remedy_text(remedy)}\n", "$text-success")]
            parts += [(f"    {step.cost}\n", "$text-muted") for step in remedy.steps]
        if not self.remedies:
            reason = "No known change makes it fit" if self.computed else "The remedies are being computed"
            parts.append(f"{reason}.\n")
        if self.start:
            parts += [
                "\n",
                (f"[{self.keys('fit.as_it_is').upper()}] ", "bold"),
                "start anyway: if memory runs out, the run continues with smaller micro-batches\n",
            ]
        cancel = f"{self.keys('fit.leave')} cancels"
        with DialogBox("Make it fit", f"a digit selects, {cancel}" if self.remedies else cancel, "-wide"):
            yield Static(Content.assemble(*parts))

    def on_key(self, event: events.Key) -> None:
        if event.key.isdigit() and 0 < int(event.key) <= len(self.remedies):
            event.stop()
            self.dismiss(int(event.key) - 1)

    def action_as_it_is(self) -> None:
        if self.start:
            self.dismiss(START_ANYWAY)

    def action_first(self) -> None:
        self.dismiss(0 if self.remedies else CANCELLED)

    def action_answer(self, answer: int) -> None:
        self.dismiss(answer)
